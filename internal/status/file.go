package status

import (
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// file is a file that is appended to, or a named pipe.
type file struct {
	path string
	mend mender

	mu sync.Mutex // guards f, and is not held while writing
	f  *os.File
}

// OpenFile gives an output that appends to the file at path, which is made
// with mode 0640 if it is missing; its directory must exist.
func OpenFile(path string) (Output, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &file{path: path, f: f, mend: mender{torn: endsTorn(path)}}, nil
}

// open never blocks. A named pipe is opened for reading too, so that neither
// its opening nor a write needs a reader at that moment: the kernel and then
// the lane keep the lines until a reader comes.
func open(path string) (*os.File, error) {
	flags := os.O_WRONLY
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		flags = os.O_RDWR
	}
	return os.OpenFile(path, flags|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
}

// endsTorn reports whether a regular file ends within a line, as it does when
// the process or the machine died in the middle of a write.
func endsTorn(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return false
	}
	return last[0] != '\n'
}

// Write writes all lines with one call: a reader that follows the file never
// sees half a line followed by something else.
func (o *file) Write(lines []byte) (int, error) {
	return o.mend.write(o.current(), lines)
}

// Reopen opens the new file before it lets go of the old one.
func (o *file) Reopen() error {
	f, err := open(o.path)
	if err != nil {
		return err
	}
	o.mu.Lock()
	old := o.f
	o.f = f
	o.mu.Unlock()
	o.mend.torn = endsTorn(o.path)
	return old.Close()
}

func (o *file) Close() error { return o.current().Close() }

func (o *file) String() string { return "file " + o.path }

func (o *file) current() *os.File {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.f
}
