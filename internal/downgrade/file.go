package downgrade

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tlscontrol/internal/tlsplan"
)

// A line of the journal, the newest of a host counts:
//
//	1 mx1.example.net 1766430000 1766430000 pkix 5f3a9c1e
//
// the version of the format, the host, when it proved TLS and a verified
// certificate (Unix time in seconds, 0 for never), how it was verified ("none"),
// and the CRC-32 of what stands before, in hexadecimal.
const formatVersion = "1"

const (
	maxHost = 253 // RFC 1035, section 3.1
	// maxLine is what a line can have at most, the line feed included.
	maxLine = 512
	// maxFile bounds what is read of a file. The longest that is written has
	// some 300 000 lines, of less than a hundred octets as host names go.
	maxFile = 128 << 20
)

// Dir is the directory of the files of all targets, in maddy's state directory.
const Dir = "tls_memory"

const suffix = ".hosts"

// File is the file of the target with this name. Whatever the name, it stays in
// the directory, and is no other target's.
func File(stateDir, target string) string {
	// Dots would let names end as those of requests and of temporary files do.
	name := strings.ReplaceAll(url.PathEscape(target), ".", "%2E")
	return filepath.Join(stateDir, Dir, name+suffix)
}

// Targets lists the names of the targets that remember something.
func Targets(stateDir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(stateDir, Dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		escaped, ok := strings.CutSuffix(e.Name(), suffix)
		if name, err := url.PathUnescape(escaped); ok && err == nil && File(stateDir, name) == filepath.Join(stateDir, Dir, e.Name()) {
			names = append(names, name)
		}
	}
	return names, nil
}

// record is one line.
type record struct {
	host string
	Evidence
}

// appendLine appends the line of a record.
func appendLine(b []byte, r record) []byte {
	start := len(b)
	by := r.By
	if by == "" {
		by = tlsplan.VerifiedNone
	}
	b = append(b, formatVersion+" "+r.host+" "...)
	b = strconv.AppendInt(b, unix(r.TLS), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, unix(r.Verified), 10)
	b = append(b, " "+string(by)...)
	return fmt.Appendf(b, " %08x\n", crc32.ChecksumIEEE(b[start:]))
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

// parseLine reads one line. Only what appendLine can have written is good.
func parseLine(line []byte) (record, bool) {
	f := strings.Split(string(bytes.TrimSuffix(line, []byte("\n"))), " ")
	if len(f) != 6 || !ValidHost(f[1]) {
		return record{}, false
	}
	tlsAt, err1 := strconv.ParseInt(f[2], 10, 64)
	verifiedAt, err2 := strconv.ParseInt(f[3], 10, 64)
	if err1 != nil || err2 != nil || tlsAt < 0 || verifiedAt < 0 {
		return record{}, false
	}
	r := record{f[1], Evidence{TLS: fromUnix(tlsAt), Verified: fromUnix(verifiedAt)}}
	switch by := tlsplan.Verification(f[4]); by {
	case tlsplan.VerifiedPKIX, tlsplan.VerifiedDANEEE, tlsplan.VerifiedDANETA:
		r.By = by
	}
	if r.Verified.IsZero() != (r.By == "") {
		return record{}, false
	}
	return r, bytes.Equal(appendLine(nil, r), line)
}

// ValidHost reports whether a name can be remembered: a host name in A-labels and
// lower case, as package route gives them.
func ValidHost(name string) bool {
	if name == "" || len(name) > maxHost {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// contents is what a file held.
type contents struct {
	records []record // in the order in which they were written
	damaged int      // lines that are not as they were written
	torn    bool     // the last line is incomplete: a crash, or somebody is writing
}

// parse reads a journal. What is damaged is counted and passed over.
func parse(r io.Reader) (c contents, err error) {
	in := bufio.NewReaderSize(io.LimitReader(r, maxFile), maxLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == nil:
			if rec, ok := parseLine(line); ok {
				c.records = append(c.records, rec)
			} else {
				c.damaged++
			}
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			c.damaged++
			err = skipLine(in)
		case err == io.EOF:
			c.torn = len(line) > 0
		}
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

// skipLine reads the rest of a line that is too long.
func skipLine(in *bufio.Reader) error {
	for {
		if _, err := in.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// readFile reads a file; one that is not there holds nothing.
func readFile(path string) (contents, error) {
	// Looked at before it is opened: opening a pipe would wait for a writer.
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return contents{}, nil
	}
	if err != nil {
		return contents{}, err
	}
	if !info.Mode().IsRegular() {
		return contents{}, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return contents{}, err
	}
	defer f.Close()
	return parse(f)
}

// appendFile adds lines to a file that is there.
func appendFile(path string, records []record) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	return writeAll(f, records)
}

// replaceFile puts a file that holds just these records in the place of the old
// one, in one step: after a crash there is the one or the other.
func replaceFile(path string, records []record) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// One name, so that crashes do not leave one file each.
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := writeAll(f, records); err != nil {
		_ = os.Remove(fresh)
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// copyFile puts a copy of a file at a path, on disk when it returns.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(to) // half a copy helps nobody, and the disk may be full
	}
	return err
}

// writeAll writes the records, syncs and closes f.
func writeAll(f *os.File, records []record) error {
	w := bufio.NewWriterSize(f, 64<<10)
	var line []byte
	for _, r := range records {
		line = appendLine(line[:0], r)
		_, _ = w.Write(line) // Flush returns its error
	}
	err := w.Flush()
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
