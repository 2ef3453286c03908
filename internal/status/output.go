package status

import (
	"bytes"
	"io"
	"os"
	"syscall"
)

// Output is where lines go. Write and Reopen are called by one goroutine at a
// time; Close may be called meanwhile and then makes a Write that is stuck
// return, where the system can do that.
type Output interface {
	// Write writes one or several whole lines. n counts the octets that are
	// written for good, as io.Writer does.
	Write(lines []byte) (n int, err error)
	// Reopen starts writing to a fresh file, if the output is one. On an
	// error the output stays what it was.
	Reopen() error
	Close() error
	// String is the output in the words of the configuration.
	String() string
}

// telling is an output that may have something to tell the operator that is not
// the error of a call. tellTo is called before anything else.
type telling interface{ tellTo(tell func(what string)) }

// mender writes whole lines to an io.Writer. When a write fails halfway (a
// full disk), the next one begins with a newline, so that the fragment stays
// alone and does not spoil the line after it.
type mender struct {
	torn bool
}

func (m *mender) write(w io.Writer, lines []byte) (int, error) {
	if m.torn {
		n, err := w.Write([]byte{'\n'})
		if n == 0 {
			return 0, err
		}
		m.torn = false
	}
	n, err := w.Write(lines)
	if n > 0 && n <= len(lines) {
		m.torn = lines[n-1] != '\n'
	}
	return n, err
}

// stream is a standard stream.
type stream struct {
	name string
	f    *os.File
	mend mender
}

// NewStream gives an output that writes to f, a standard stream: name is what
// the configuration calls it.
//
// It writes through a descriptor of its own: a broken pipe on descriptors 1
// and 2 ends a Go process, on another one it is an error like any other, and
// Close leaves f to everybody else. A write that the kernel blocks (a pipe
// whose reader sleeps) cannot be interrupted; such a goroutine ends with the
// process.
func NewStream(name string, f *os.File) (Output, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	own := -1
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		// The lock keeps a child process from inheriting the descriptor.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if own, dupErr = syscall.Dup(int(fd)); dupErr == nil {
			syscall.CloseOnExec(own)
		}
	})
	if err == nil {
		err = dupErr
	}
	if err != nil {
		return nil, os.NewSyscallError("dup "+name, err)
	}
	return &stream{name: name, f: os.NewFile(uintptr(own), name)}, nil
}

// Write writes line by line: others write to the same stream, and what fits
// into a pipe at once (4 KiB on Linux) is not interleaved with theirs.
func (s *stream) Write(lines []byte) (int, error) {
	done := 0
	for done < len(lines) {
		end := len(lines)
		if i := bytes.IndexByte(lines[done:], '\n'); i >= 0 {
			end = done + i + 1
		}
		n, err := s.mend.write(s.f, lines[done:end])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *stream) Reopen() error  { return nil }
func (s *stream) Close() error   { return s.f.Close() }
func (s *stream) String() string { return s.name }
