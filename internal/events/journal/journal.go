package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// segmentBytes is when a new segment begins. What was taken is given back to
// the disk segment by segment.
const segmentBytes = 8 << 20

// Config says where a journal is.
type Config struct {
	Dir string // made if it is missing
	// MaxBytes bounds what waits in the journal.
	MaxBytes int64
}

// Journal is an open journal.
type Journal struct {
	cfg  Config
	lock *flock.Flock

	active *os.File // nil: the next Append begins a segment; the appender's

	mu       sync.Mutex
	segments []segment // oldest first; the last one is active if any is
	open     bool      // the last segment is being appended to
	taken    Position
	saved    Position  // what the cursor file says
	savedAt  time.Time // when it was written
}

// segment is one file: its number, and the octets of it that are good to read.
type segment struct {
	number uint64
	size   int64
}

// Position is a place in the journal: everything before it was taken.
type Position struct {
	segment uint64
	offset  int64
}

// Open opens the journal in a directory. It fails if another process has it.
func Open(cfg Config) (*Journal, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(cfg.Dir, "lock")) // ends with the process, too
	if ours, err := lock.TryLock(); err != nil {
		return nil, err
	} else if !ours {
		return nil, fmt.Errorf("the journal in %s is in use", cfg.Dir)
	}
	j := &Journal{cfg: cfg, lock: lock}
	if err := j.load(); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return j, nil
}

// load finds what earlier processes left.
func (j *Journal) load() error {
	entries, err := os.ReadDir(j.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		j.segments = append(j.segments, segment{number, info.Size()})
	}
	slices.SortFunc(j.segments, func(a, b segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	j.taken = readCursor(j.cfg.Dir)
	j.saved = j.taken
	fits := slices.ContainsFunc(j.segments, func(s segment) bool {
		return s.number == j.taken.segment && s.size >= j.taken.offset
	})
	if len(j.segments) > 0 && !fits {
		// It says nothing about these; better twice than never.
		j.taken = Position{segment: j.segments[0].number}
	}
	j.removeTaken()
	return nil
}

// Close closes the files. Append and the Reader are not used any more.
func (j *Journal) Close() error {
	var err error
	if j.active != nil {
		err = errors.Join(j.active.Sync(), j.active.Close())
		j.active = nil
	}
	j.mu.Lock()
	j.open = false
	err = errors.Join(err, j.save())
	j.mu.Unlock()
	return errors.Join(err, j.lock.Unlock())
}

// Append writes lines made by AppendLine. All of them are in the journal, or,
// if it returns an error, none.
func (j *Journal) Append(lines []byte) error {
	if j.Backlog()+int64(len(lines)) > j.cfg.MaxBytes {
		return ErrFull
	}
	if j.active == nil {
		if err := j.begin(); err != nil {
			return err
		}
	}
	n, err := j.active.Write(lines)
	if err != nil {
		j.abandon(n > 0)
		return err
	}
	j.mu.Lock()
	last := &j.segments[len(j.segments)-1]
	last.size += int64(n)
	full := last.size >= segmentBytes
	j.mu.Unlock()
	if full {
		// The lines are written; a disk that cannot sync them shows with the next.
		return j.seal()
	}
	return nil
}

// Sync brings what was appended to the disk.
func (j *Journal) Sync() error {
	if j.active == nil {
		return nil
	}
	return j.active.Sync()
}

// begin starts a segment.
func (j *Journal) begin() error {
	j.mu.Lock()
	number := j.taken.segment + 1
	if n := len(j.segments); n > 0 {
		number = max(number, j.segments[n-1].number+1)
	}
	j.mu.Unlock()
	create := func() (*os.File, error) {
		return os.OpenFile(j.path(number), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	}
	f, err := create()
	for errors.Is(err, fs.ErrExist) { // a bad disk let it be neither written nor removed
		number++
		f, err = create()
	}
	if err != nil {
		return err
	}
	if err := syncDir(j.cfg.Dir); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	j.active = f
	j.mu.Lock()
	j.segments = append(j.segments, segment{number: number})
	j.open = true
	j.mu.Unlock()
	return nil
}

// seal ends the active segment.
func (j *Journal) seal() error {
	err := errors.Join(j.active.Sync(), j.active.Close())
	j.active = nil
	j.mu.Lock()
	j.open = false
	j.mu.Unlock()
	return err
}

// abandon ends the active segment after a failed write. What the write left is
// cut off; if that fails too, the reader of a later process skips it.
func (j *Journal) abandon(torn bool) {
	j.mu.Lock()
	last := j.segments[len(j.segments)-1]
	j.open = false
	if last.size == 0 {
		j.segments = j.segments[:len(j.segments)-1]
	}
	j.mu.Unlock()
	if torn && last.size > 0 {
		_ = j.active.Truncate(last.size)
	}
	_ = j.active.Close()
	j.active = nil
	if last.size == 0 {
		_ = os.Remove(j.path(last.number))
	}
}

// Backlog is how many octets wait to be taken.
func (j *Journal) Backlog() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int64
	for _, s := range j.segments {
		n += s.size
	}
	if len(j.segments) > 0 && j.segments[0].number == j.taken.segment {
		n -= j.taken.offset
	}
	return n
}

// extent tells how much of a segment can be read now, and whether it is all
// there will be. A segment that is not there has nothing.
func (j *Journal) extent(number uint64) (size int64, final bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range j.segments {
		if s.number == number {
			return s.size, !j.open || i < len(j.segments)-1
		}
	}
	return 0, true
}

// after returns the number of the segment that follows.
func (j *Journal) after(number uint64) (next uint64, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		if s.number > number {
			return s.number, true
		}
	}
	return 0, false
}

func (j *Journal) path(number uint64) string {
	return filepath.Join(j.cfg.Dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

const segmentSuffix = ".journal"

// segmentNumber reads the number out of the name of a segment.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 63)
	return n, err == nil
}

// syncDir makes the names in a directory survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
