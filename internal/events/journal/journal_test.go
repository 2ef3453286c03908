package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func open(t testing.TB, dir string) *Journal {
	t.Helper()
	j, err := Open(Config{Dir: dir, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// put appends documents, each with an Append of its own.
func put(t testing.TB, j *Journal, documents ...string) {
	t.Helper()
	for _, d := range documents {
		if err := j.Append(AppendLine(nil, []byte(d))); err != nil {
			t.Fatal(err)
		}
	}
}

// take reads all that is there, and commits.
func take(t testing.TB, r *Reader) (documents []string, damaged int) {
	t.Helper()
	for {
		got, bad, err := r.Next(3, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		damaged += bad
		if len(got) == 0 {
			break
		}
		for _, d := range got {
			documents = append(documents, string(d))
		}
	}
	if err := r.Commit(r.Position()); err != nil {
		t.Fatal(err)
	}
	return documents, damaged
}

func expect(t testing.TB, r *Reader, wantDamaged int, want ...string) {
	t.Helper()
	got, damaged := take(t, r)
	if strings.Join(got, "|") != strings.Join(want, "|") || damaged != wantDamaged {
		t.Errorf("got %q and %d damaged, want %q and %d", got, damaged, want, wantDamaged)
	}
}

func closeAll(t testing.TB, j *Journal, r *Reader) {
	t.Helper()
	if err := errors.Join(r.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestOnceInOrder: what is appended comes out once, over restarts too.
func TestOnceInOrder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "here")
	j := open(t, dir)
	r := j.NewReader()
	expect(t, r, 0)
	put(t, j, "a", "b", "c", "d")
	expect(t, r, 0, "a", "b", "c", "d")
	expect(t, r, 0)
	put(t, j, "e")
	if got := j.Backlog(); got != int64(frame+2) {
		t.Errorf("backlog %d", got)
	}
	closeAll(t, j, r)

	j = open(t, dir)
	put(t, j, "f")
	r = j.NewReader()
	expect(t, r, 0, "e", "f")
	if got := j.Backlog(); got != 0 {
		t.Errorf("backlog %d", got)
	}
	closeAll(t, j, r)

	j = open(t, dir)
	r = j.NewReader()
	expect(t, r, 0)
	put(t, j, "g")
	expect(t, r, 0, "g")
	closeAll(t, j, r)
}

// TestNotCommitted: what was taken and not committed comes again.
func TestNotCommitted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	r := j.NewReader()
	put(t, j, "a", "b")
	if got, _, err := r.Next(1, 100); len(got) != 1 || err != nil {
		t.Fatal(got, err)
	}
	if err := r.Commit(r.Position()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := r.Next(1, 100); len(got) != 1 || err != nil {
		t.Fatal(got, err)
	}
	closeAll(t, j, r)
	j = open(t, dir)
	r = j.NewReader()
	expect(t, r, 0, "b")
	closeAll(t, j, r)
}

// TestCrash: a process that is gone without closing leaves a line cut off, and a
// cursor that is late.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	put(t, j, "a", "b")
	line := AppendLine(nil, []byte("cut"))
	if _, err := j.active.Write(line[:len(line)-2]); err != nil {
		t.Fatal(err)
	}
	if err := j.lock.Unlock(); err != nil { // as the end of the process does
		t.Fatal(err)
	}

	j = open(t, dir)
	r := j.NewReader()
	put(t, j, "c")
	expect(t, r, 1, "a", "b", "c")
	closeAll(t, j, r)
}

// TestDamage: whatever is in the files, the good lines come out.
func TestDamage(t *testing.T) {
	t.Parallel()
	good := string(AppendLine(nil, []byte("good")))
	for name, c := range map[string]struct {
		text    string
		damaged int
	}{
		"changed":       {strings.Replace(string(AppendLine(nil, []byte("evil"))), "evil", "Evil", 1) + good, 1},
		"no sum":        {"{}\n" + good, 1},
		"no hex":        {"zzzzzzzz {}\n" + good, 1},
		"empty line":    {"\n" + good, 1},
		"zeros":         {strings.Repeat("\x00", 5000) + "\n" + good, 1},
		"joined":        {"1234" + "\n" + good + "12345678 ", 2},
		"without end":   {strings.Repeat("x", 3*MaxLine) + "\n" + good, 1},
		"endless":       {good + strings.Repeat("x", 3*MaxLine), 1},
		"long document": {string(AppendLine(nil, bytes.Repeat([]byte("x"), MaxLine+1))) + good, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "0000000000000001.journal"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			j := open(t, dir)
			r := j.NewReader()
			put(t, j, "after")
			expect(t, r, c.damaged, "good", "after")
			closeAll(t, j, r)
		})
	}
}

// TestCursor: a cursor that is missing, damaged or for another journal makes
// everything come again, and nothing be lost.
func TestCursor(t *testing.T) {
	t.Parallel()
	for name, cursor := range map[string]string{
		"missing":       "",
		"garbage":       "\x00\x00\x00",
		"cut off":       "0000000000000002 1",
		"ahead":         "0000000000000009 0\n",
		"beyond":        "0000000000000002 99999\n",
		"negative":      "0000000000000001 -4\n",
		"out of bounds": "ffffffffffffffff 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, text := range []string{"a", "b"} {
				line := AppendLine(nil, []byte(text))
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016x.journal", i+1)), line, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if cursor != "" {
				if err := os.WriteFile(filepath.Join(dir, cursorName), []byte(cursor), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			j := open(t, dir)
			r := j.NewReader()
			expect(t, r, 0, "a", "b")
			closeAll(t, j, r)
		})
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	j, err := Open(Config{Dir: t.TempDir(), MaxBytes: 50})
	if err != nil {
		t.Fatal(err)
	}
	r := j.NewReader()
	put(t, j, "0123456789", "0123456789")
	if err := j.Append(AppendLine(nil, []byte("0123456789"))); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want %v", err, ErrFull)
	}
	expect(t, r, 0, "0123456789", "0123456789")
	put(t, j, "more")
	expect(t, r, 0, "more")
	closeAll(t, j, r)
}

// TestSegments: a long journal has several segments, and gives them back.
func TestSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	r := j.NewReader()
	big := strings.Repeat("x", MaxLine)
	for range 20 {
		put(t, j, big)
	}
	if n := files(t, dir); n != 3 {
		t.Errorf("%d segments", n)
	}
	if got, _ := take(t, r); len(got) != 20 || got[19] != big {
		t.Errorf("%d documents", len(got))
	}
	if n := files(t, dir); n != 1 {
		t.Errorf("%d segments are left", n)
	}
	closeAll(t, j, r)
}

func files(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// TestFileGone: a segment that somebody removes or cuts costs what was in it.
func TestFileGone(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(string) error{
		"removed": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j := open(t, dir)
			put(t, j, "a", "b")
			r := j.NewReader()
			if err := harm(filepath.Join(dir, "0000000000000001.journal")); err != nil {
				t.Fatal(err)
			}
			expect(t, r, 1)
			if err := j.seal(); err != nil {
				t.Fatal(err)
			}
			put(t, j, "c")
			expect(t, r, 0, "c")
			closeAll(t, j, r)
		})
	}
}

// TestUnreadable: what the disk cannot read any more is given up in the end, and
// does not keep back what comes after it.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	put(t, j, "a", "b")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir)
	put(t, j, "c")
	r := j.NewReader()
	name := j.path(r.Position().segment)
	if err := errors.Join(os.Remove(name), os.Mkdir(name, 0o700)); err != nil { // a file whose reads fail
		t.Fatal(err)
	}
	if got, damaged, err := r.Next(3, 1<<20); len(got) != 0 || damaged != 0 || err == nil {
		t.Errorf("got %q, %d damaged, %v", got, damaged, err)
	}
	r.patience = 0
	expect(t, r, 1, "c")
	closeAll(t, j, r)
}

// TestFailedWrite: after a write that failed the journal begins a new segment.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	for _, before := range [][]string{nil, {"a"}} {
		j := open(t, t.TempDir())
		r := j.NewReader()
		put(t, j, before...)
		if j.active == nil {
			if err := j.begin(); err != nil {
				t.Fatal(err)
			}
		}
		j.active.Close() // the next write fails
		if err := j.Append(AppendLine(nil, []byte("lost"))); err == nil {
			t.Error("no error")
		}
		put(t, j, "b")
		expect(t, r, 0, append(before, "b")...)
		closeAll(t, j, r)
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	defer j.Close()
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("got %v", err)
	}
}

// TestNoDirectory: a directory that cannot be had is an error, not a panic.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: filepath.Join(file, "journal")}); err == nil {
		t.Error("no error")
	}
}

// TestSideBySide appends and reads at the same time.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	r := j.NewReader()
	const n = 3000
	var all sync.WaitGroup
	all.Go(func() {
		for i := range n {
			put(t, j, fmt.Sprint(i, strings.Repeat(" ", 4000)))
			if i%100 == 0 {
				if err := j.Sync(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := 0; i < n; {
		got, damaged, err := r.Next(7, 1<<20)
		if err != nil || damaged > 0 {
			t.Fatal(damaged, err)
		}
		for _, d := range got {
			if !strings.HasPrefix(string(d), fmt.Sprint(i, " ")) {
				t.Fatalf("%d: %.20q", i, d)
			}
			i++
		}
		if err := r.Commit(r.Position()); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	closeAll(t, j, r)
}

// FuzzReader reads a segment and a cursor that anybody may have written, and
// still finds the line after them.
func FuzzReader(f *testing.F) {
	f.Add([]byte("1234\n"), []byte("0000000000000001 2\n"))
	f.Add(AppendLine(nil, []byte(`{"id":"x"}`)), []byte{})
	f.Add([]byte("\n\n\x00zzzzzzzz x\n"), []byte("1 0\n"))
	f.Fuzz(func(t *testing.T, segment, cursor []byte) {
		dir := t.TempDir()
		text := append(append(segment, '\n'), AppendLine(nil, []byte("last"))...)
		if err := os.WriteFile(filepath.Join(dir, "0000000000000001.journal"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, cursorName), cursor, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir)
		r := j.NewReader()
		put(t, j, "new")
		from := j.taken.offset
		got, damaged := take(t, r)
		if lines := bytes.Count(text[from:], []byte("\n")); len(got)+damaged < lines {
			t.Errorf("%d documents and %d damaged lines of %d", len(got), damaged, lines)
		}
		if len(got) == 0 || got[len(got)-1] != "new" {
			t.Errorf("the end is missing: %q", got)
		}
		if int(from) <= len(segment) && (len(got) < 2 || got[len(got)-2] != "last") {
			t.Errorf("the line after the damage is missing: %q", got)
		}
		closeAll(t, j, r)
	})
}

// A segment that could be neither written nor removed is in nobody's way.
func TestSegmentThatIsThere(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	defer j.Close()
	put(t, j, "one")
	if err := j.seal(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(j.path(2), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, j, "two")
	expect(t, j.NewReader(), 0, "one", "two")
}
