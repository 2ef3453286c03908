package status

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// file is a file that is appended to, or a named pipe.
type file struct {
	path string
	mend mender
	tell func(what string) // the operator; see telling

	looked, complained time.Time // when look looked, and told of a failure, last

	mu sync.Mutex // guards what follows, and is not held while writing
	f  *os.File
	// replaced is true while it is not told that look began a fresh file.
	replaced bool
}

// lookEvery is how often it is looked whether path still names the file, and how
// long a rotation may take between moving the file away and SIGUSR1 without being
// taken for an accident. complainEvery is the least time between complaints.
const (
	lookEvery     = 10 * time.Second
	complainEvery = time.Minute
)

// OpenFile gives an output that appends to the file at path, which is made
// with mode 0640 if it is missing; its directory must exist.
func OpenFile(path string) (Output, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &file{path: path, f: f, mend: mender{torn: endsTorn(path)}, tell: func(string) {}, looked: time.Now()}, nil
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
	if now := time.Now(); now.Sub(o.looked) >= lookEvery {
		o.looked = now
		o.look(now)
	}
	return o.mend.write(o.current(), lines)
}

// look begins a fresh file if somebody has moved or removed the one in use, whose
// lines nobody would read. Whoever rotates moves it too, and says so a moment later
// (Reopen): it is told only when that has not come by the next look.
func (o *file) look(now time.Time) {
	o.tellReplaced()
	if !o.moved() {
		return
	}
	if err := o.swap(true); err != nil && now.Sub(o.complained) >= complainEvery {
		o.complained = now
		o.tell("the file was moved or removed, and no fresh one can be begun: lines go on into the old one: " + err.Error())
	}
}

// moved reports whether path does not name the file in use any more. Pipes and
// devices are their makers' business.
func (o *file) moved() bool {
	used, err := o.current().Stat()
	if err != nil || !used.Mode().IsRegular() {
		return false
	}
	named, err := os.Stat(o.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(used, named)
}

// tellReplaced tells that a fresh file was begun, if that is still to be told.
func (o *file) tellReplaced() {
	o.mu.Lock()
	replaced := o.replaced
	o.replaced = false
	o.mu.Unlock()
	if replaced {
		o.tell("the file had been moved or removed, and a fresh one was begun; lines of up to the ten seconds before are in the old one")
	}
}

// Reopen opens the new file before it lets go of the old one.
func (o *file) Reopen() error { return o.swap(false) }

// swap puts the file that path names in the place of the one in use.
func (o *file) swap(replaced bool) error {
	f, err := open(o.path)
	if err != nil {
		return err
	}
	o.mu.Lock()
	old := o.f
	o.f, o.replaced = f, replaced
	o.mu.Unlock()
	o.mend.torn = endsTorn(o.path)
	return old.Close()
}

// Close may be called while Write is stuck.
func (o *file) Close() error {
	o.tellReplaced()
	return o.current().Close()
}

func (o *file) String() string { return "file " + o.path }

// tellTo implements telling.
func (o *file) tellTo(tell func(what string)) { o.tell = tell }

func (o *file) current() *os.File {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.f
}
