package status

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// movedLog is a log to a file that somebody meddles with.
type movedLog struct {
	*testing.T
	*Log
	witness
	path string
}

// moved runs a test with a clock of its own.
func moved(t *testing.T, test func(*movedLog)) {
	t.Helper()
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		m := &movedLog{T: t, path: filepath.Join(dir, "log")}
		m.Log = NewLog(m.config(openFile(t, m.path)))
		defer m.Close()
		m.Concluded(deliveredVerified(), 0)
		test(m)
	})
}

// after lets time pass and writes a line.
func (m *movedLog) after(d time.Duration) {
	time.Sleep(d)
	m.Concluded(deliveredVerified(), 0)
}

func (m *movedLog) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *movedLog) wantLines(path string, n int) {
	m.Helper()
	if got := strings.Count(read(m.T, path), "\n"); got != n {
		m.Errorf("%d lines in %s, want %d", got, filepath.Base(path), n)
	}
}

// wantTold wants so many reports that hold a text, and no others.
func (m *movedLog) wantTold(n int, what string) {
	m.Helper()
	synctest.Wait()
	got := m.reports()
	for _, r := range got {
		if !strings.HasPrefix(r, "output file "+m.path+": the file ") || !strings.Contains(r, what) {
			m.Errorf("report %q", r)
		}
	}
	if len(got) != n {
		m.Errorf("%d reports, want %d: %q", len(got), n, got)
	}
}

const freshFile = "had been moved or removed, and a fresh one was begun"

// TestRemovedFile: documents do not go on into a file that nobody can open.
func TestRemovedFile(t *testing.T) {
	moved(t, func(m *movedLog) {
		m.must(os.Remove(m.path))
		m.after(lookEvery)
		m.wantLines(m.path, 1)
		m.wantTold(0, "") // it may be a rotation
		m.after(lookEvery)
		m.wantTold(1, freshFile)
		m.after(lookEvery)
		m.after(time.Hour)
		m.wantLines(m.path, 4)
		m.wantTold(1, freshFile)
	})
}

// TestMovedFile: as much if there is another one in its place, and what comes before
// the look is in the old one. What is still to be told at the end is told then.
func TestMovedFile(t *testing.T) {
	moved(t, func(m *movedLog) {
		m.must(os.Rename(m.path, m.path+".old"))
		m.must(os.WriteFile(m.path, []byte("torn"), 0o600))
		m.after(lookEvery - time.Second)
		m.after(time.Second)
		m.wantLines(m.path+".old", 2)
		m.wantLines(m.path, 2)
		m.wantTold(0, "")
		m.must(m.Close())
		m.wantTold(1, freshFile)
	})
}

// TestRotationIsNoAccident: a file that is moved and then let go by SIGUSR1 is
// nothing to speak of, also if a fresh one was begun between.
func TestRotationIsNoAccident(t *testing.T) {
	moved(t, func(m *movedLog) {
		m.must(os.Rename(m.path, m.path+".1"))
		m.after(lookEvery)
		m.Reopen()
		m.after(lookEvery)
		m.must(os.Rename(m.path, m.path+".2"))
		m.Reopen()
		m.after(lookEvery)
		m.after(time.Hour)
		m.must(m.Close())
		m.wantTold(0, "")
		m.wantLines(m.path+".1", 1)
		m.wantLines(m.path+".2", 2)
		m.wantLines(m.path, 2)
	})
}

// TestMovedFileAndNoOther: the old one stays in use, and it is told once a minute.
func TestMovedFileAndNoOther(t *testing.T) {
	moved(t, func(m *movedLog) {
		dir := filepath.Dir(m.path)
		m.must(os.Rename(dir, dir+".away"))
		for range 13 { // two minutes
			m.after(lookEvery)
		}
		m.wantLines(filepath.Join(dir+".away", "log"), 14)
		m.wantTold(3, "no fresh one can be begun")
		m.must(os.Mkdir(dir, 0o755))
		m.after(lookEvery)
		m.wantLines(m.path, 1)
	})
}

// TestPipeIsLeftAlone: what is no regular file is not looked after.
func TestPipeIsLeftAlone(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(os.DevNull); err != nil {
		t.Skip("SKIPPED: no null device here")
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink(os.DevNull, path); err != nil {
		t.Fatal(err)
	}
	o := openFile(t, path).(*file)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if o.moved() {
		t.Error("a device was taken for a file that was moved")
	}
}
