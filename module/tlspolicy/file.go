package tlspolicy

import (
	"errors"
	"os"
	"sync"
	"time"
)

// rereadTime is how long maddy may take to reread a file that is back: it looks
// every 15 seconds, and leaves alone what changed in the last 7.5.
const rereadTime = 30 * time.Second

// tableFile is the file of `domains file PATH`. maddy takes a missing file for an
// empty one, and every domain in it would lose its settings; of one that it may
// not read any more it keeps what it knew.
type tableFile struct {
	path string // "": the table is none

	lock sync.Mutex
	gone time.Time // when it could last not be read
}

// readable is an error if there is a path and no file that can be read.
func (f *tableFile) readable(now time.Time) error {
	err := fileReadable(f.path)
	if err != nil {
		f.lock.Lock()
		defer f.lock.Unlock()
		f.gone = now
	}
	return err
}

// reread is an error if the file was gone a moment ago, so that a row that is
// not found may be in it all the same.
func (f *tableFile) reread(now time.Time) error {
	if f.path == "" {
		return nil
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.gone.IsZero() || now.Sub(f.gone) >= rereadTime {
		return nil
	}
	return errors.New("the file was gone or unreadable a moment ago, and may not have been read again")
}

// fileReadable is an error if there is a path and no file that can be read.
func fileReadable(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
