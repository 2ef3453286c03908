package journal

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// chunk is how much is read from a segment at a time.
const chunk = 256 << 10

// unreadable is how long reads may fail before what is there is given up: a disk
// that has lost a block must not keep back everything behind it.
const unreadable = time.Minute

// Reader takes lines out of a journal, in order.
type Reader struct {
	j    *Journal
	f    *os.File // of segment at.segment, nil before it is opened
	at   Position // of the first octet of rest
	rest []byte   // was read, and holds no line that was taken

	damaged  int
	skipping bool // in a line without an end

	patience time.Duration // with a place that cannot be read
	failed   time.Time     // since when; zero: it can
}

// NewReader makes the reader. It begins with what was not taken.
func (j *Journal) NewReader() *Reader {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &Reader{j: j, at: j.taken, patience: unreadable}
}

// Next returns the next documents, as many as there are but no more than
// maxDocuments and not many more than maxBytes; none if there are no more for
// now. damaged is how many lines were skipped. The documents stay as they are.
func (r *Reader) Next(maxDocuments, maxBytes int) (documents [][]byte, damaged int, err error) {
	for n := 0; len(documents) < maxDocuments && n < maxBytes; {
		var line []byte
		if line, err = r.line(); line == nil {
			break
		}
		if document, ok := CutLine(line); ok {
			documents = append(documents, document)
			n += len(document)
		} else {
			r.damaged++
		}
	}
	damaged, r.damaged = r.damaged, 0
	return documents, damaged, err
}

// Position is the place after what Next returned so far.
func (r *Reader) Position() Position { return r.at }

// Commit says that everything before a place was taken, and will not be asked for
// again. An error means that it may come again after a restart.
func (r *Reader) Commit(p Position) error { return r.j.commit(p) }

// Close closes the file that is being read.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}

// line returns the next whole line without its newline, nil if there is none.
func (r *Reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.rest, '\n'); i >= 0 {
			line := r.rest[:i:i]
			r.advance(i + 1)
			if !r.skipping {
				return line, nil
			}
			r.skipping = false
			continue
		}
		if len(r.rest) > frame+MaxLine {
			r.lose()
		}
		more, err := r.fill()
		if err != nil || !more {
			return nil, err
		}
	}
}

func (r *Reader) advance(n int) {
	r.rest = r.rest[n:]
	r.at.offset += int64(n)
}

// lose gives up what was read of a line, and what follows of it.
func (r *Reader) lose() {
	if !r.skipping {
		r.damaged++
	}
	r.skipping = true
	r.advance(len(r.rest))
}

// fill reads on, in the next segment if this one is at its end, and returns
// false if there is nothing more for now.
func (r *Reader) fill() (more bool, err error) {
	size, final := r.j.extent(r.at.segment)
	end := r.at.offset + int64(len(r.rest))
	if end < size {
		return true, r.read(end, min(size-end, chunk))
	}
	if !final {
		return false, nil
	}
	next, ok := r.j.after(r.at.segment)
	if !ok {
		return false, nil
	}
	if len(r.rest) > 0 { // a line that was cut off
		r.lose()
	}
	return true, r.move(next)
}

// move goes on to the beginning of a segment.
func (r *Reader) move(number uint64) error {
	err := r.Close()
	r.at, r.rest, r.skipping = Position{segment: number}, nil, false
	return err
}

// read adds n octets of the segment to rest, from offset on.
func (r *Reader) read(offset, n int64) error {
	if r.f == nil {
		f, err := os.Open(r.j.path(r.at.segment))
		if errors.Is(err, fs.ErrNotExist) {
			// Somebody has removed it: what was in it is lost, the rest is not.
			r.damaged++
			r.skipTo(offset + n)
			return nil
		}
		if err != nil {
			return err
		}
		r.f = f
	}
	// Not into the memory that documents handed out are in.
	b := make([]byte, len(r.rest)+int(n))
	copy(b, r.rest)
	got, err := r.f.ReadAt(b[len(r.rest):], offset)
	r.rest = b[:len(r.rest)+got]
	if got == 0 && errors.Is(err, io.EOF) {
		r.damaged++ // the file was cut
		r.skipTo(offset + n)
		return nil
	}
	if got > 0 {
		r.failed = time.Time{}
		return nil
	}
	if r.failed.IsZero() {
		r.failed = time.Now()
	}
	if time.Since(r.failed) < r.patience {
		return err
	}
	r.damaged++ // what follows has one try
	r.skipTo(offset + n)
	return nil
}

// skipTo goes on at an offset of the segment.
func (r *Reader) skipTo(offset int64) {
	r.rest, r.skipping = nil, false
	r.at.offset = offset
}
