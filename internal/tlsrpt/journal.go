package tlsrpt

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A journal is a file to which whole lines are appended, each a JSON object.
// The first one says what the file is. What cannot be read as a line is the
// rest of one that a crash or a full disk cut short; it is passed over.

// header is the first line of a journal.
type header struct {
	Kind    string `json:"tlsrpt"` // kindCounts or kindProgress
	Version int    `json:"version"`
	Day     string `json:"day"`
}

const (
	kindCounts   = "counts"
	kindProgress = "progress"
	version      = 1
)

// maxLine bounds one line. The longest is a policy of full size, all of it
// escaped.
const maxLine = 128 << 10

// errForeign: a file has the name of a journal and is none.
var errForeign = errors.New("not a journal of this kind and day")

// appendJournal adds lines, each ending in a newline, and sees to it that they
// are on the disk. The file is made if need be; one that is no journal is first
// renamed aside.
func appendJournal(path string, head header, lines []byte) error {
	err := checkHeader(path, head)
	switch {
	case errors.Is(err, errForeign):
		if err := setAside(path); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	start, err := startOf(file, head)
	if err == nil {
		// One write: what a crash cuts is the end.
		_, err = file.Write(append(start, lines...))
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// startOf is what has to be written before the next line: the header of a new
// file, or the end of a line that was cut short.
func startOf(file *os.File, head header) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return append([]byte(encode(head)), '\n'), nil
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil {
		return nil, err
	}
	if last[0] != '\n' {
		return []byte{'\n'}, nil
	}
	return nil, nil
}

// checkHeader reads the first line. An empty file is good: nothing has been
// written to it yet.
func checkHeader(path string, want header) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return readHeader(bufio.NewReaderSize(file, 4<<10), want)
}

func readHeader(r *bufio.Reader, want header) error {
	first, err := r.ReadSlice('\n')
	if err == io.EOF && len(first) == 0 {
		return nil
	}
	if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
		return err
	}
	var got header
	if json.Unmarshal(first, &got) != nil || got != want {
		return errForeign
	}
	return nil
}

// asideSuffix is added to the names of files that are not what they should be.
const asideSuffix = ".damaged"

// setAside renames such a file, over an earlier one of that fate.
func setAside(path string) error { return os.Rename(path, path+asideSuffix) }

// readJournal hands each line to take, and returns how many could not be read,
// by it or at all. A file that does not exist has no lines. At most limit octets
// are read.
func readJournal(path string, want header, limit int64, take func(line []byte) error) (bad int, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	bad, err = readLines(io.LimitReader(file, limit), want, take)
	if err != nil {
		return bad, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return bad, nil
}

func readLines(r io.Reader, want header, take func(line []byte) error) (bad int, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	if err := readHeader(lines, want); err != nil {
		return 0, err
	}
	for {
		line, err := lines.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) { // too long: skip to its end
			line = nil
			_, err = lines.ReadSlice('\n')
		}
		switch {
		case err == io.EOF && len(bytes.TrimSpace(line)) == 0:
			return bad, nil
		case err != nil && err != io.EOF:
			return bad, err
		}
		if take(line) != nil {
			bad++
		}
		if err == io.EOF {
			return bad, nil
		}
	}
}

// newSuffix is added to the name of a file that is to replace another. A crash can
// leave it behind.
const newSuffix = ".new"

// replaceJournal puts a new file in the place of path, at once or not at all.
func replaceJournal(path string, head header, lines []byte) error {
	temp := path + newSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := appendJournal(temp, head, lines); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
