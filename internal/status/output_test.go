package status

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// write fails the test unless all of text is written.
func write(t *testing.T, o Output, text string) {
	t.Helper()
	if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(text), err)
	}
}

func openFile(t *testing.T, path string) Output {
	t.Helper()
	o, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestFileAppends(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	o := openFile(t, path)
	write(t, o, "one\n")
	o.Close()
	write(t, openFile(t, path), "two\nthree\n")
	if got := read(t, path); got != "one\ntwo\nthree\n" {
		t.Errorf("%q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenFile(filepath.Join(dir, "missing", "log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := OpenFile(dir); err == nil {
		t.Error("a directory was opened")
	}
}

// TestFileAfterTornLine: a line that a crash cut off stays alone.
func TestFileAfterTornLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("whole\n{\"torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := openFile(t, path)
	write(t, o, "next\n")
	write(t, o, "last\n")
	if got := read(t, path); got != "whole\n{\"torn\nnext\nlast\n" {
		t.Errorf("%q", got)
	}
}

func TestFileReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	o := openFile(t, path)
	write(t, o, "old\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, o, "still old\n")
	if err := o.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, o, "new\n")
	if got := read(t, path+".1"); got != "old\nstill old\n" {
		t.Errorf("old file %q", got)
	}
	if got := read(t, path); got != "new\n" {
		t.Errorf("new file %q", got)
	}
}

// TestFileReopenFails: the old file stays in use.
func TestFileReopenFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	o := openFile(t, filepath.Join(dir, "log"))
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := o.Reopen(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Reopen: %v", err)
	}
	write(t, o, "kept\n")
	if got := read(t, filepath.Join(dir+".moved", "log")); got != "kept\n" {
		t.Errorf("%q", got)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("SKIPPED: no /dev/full here, so that a full disk is not tested")
	}
	o := openFile(t, "/dev/full")
	if n, err := o.Write([]byte("line\n")); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d: %v", n, err)
	}
}

// halfWriter takes some octets and then fails, once.
type halfWriter struct {
	bytes.Buffer
	room int
}

func (h *halfWriter) Write(p []byte) (int, error) {
	if len(p) <= h.room {
		h.room -= len(p)
		return h.Buffer.Write(p)
	}
	n, _ := h.Buffer.Write(p[:h.room])
	h.room = 1 << 20
	return n, syscall.ENOSPC
}

func TestMender(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		room  int
		wrote int
		want  string
	}{
		{0, 0, "third\n"},
		{3, 3, "fir\nthird\n"},
		{6, 6, "first\nthird\n"},
		{8, 8, "first\nse\nthird\n"},
	} {
		w := halfWriter{room: c.room}
		var m mender
		if n, err := m.write(&w, []byte("first\nsecond\n")); n != c.wrote || err == nil {
			t.Errorf("room %d: wrote %d, %v", c.room, n, err)
		}
		if _, err := m.write(&w, []byte("third\n")); err != nil {
			t.Errorf("room %d: %v", c.room, err)
		}
		if w.String() != c.want {
			t.Errorf("room %d: %q, want %q", c.room, w.String(), c.want)
		}
	}
}

// TestPipeWithoutReader: a named pipe nobody reads neither blocks the start
// nor, when it is full, a delivery for longer than the patience; Close
// interrupts it, and every line is either in the pipe or counted.
func TestPipeWithoutReader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("SKIPPED: no named pipes here: %v", err)
	}
	o, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var w witness
	l := NewLog(w.config(o))
	const total = 300 // a pipe holds 64 KiB, that is some 60
	for range total {
		l.Concluded(deliveredVerified(), 0)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for s := bufio.NewScanner(reader); s.Scan(); {
		if json.Valid(s.Bytes()) {
			lines++
		}
	}
	if lines == 0 || lines+int(w.lost.Load()) != total {
		t.Errorf("%d lines in the pipe, %d lost, of %d", lines, w.lost.Load(), total)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o, err := NewStream("stderr", w)
	if err != nil {
		t.Fatal(err)
	}
	write(t, o, "one\ntwo\n")
	if err := o.Reopen(); err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	// The stream itself belongs to others and stays open.
	if _, err := io.WriteString(w, "others\n"); err != nil {
		t.Error(err)
	}
	w.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "one\ntwo\nothers\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestStreamBrokenPipe: the reader of our stdout is gone; that is an error.
func TestStreamBrokenPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	o, err := NewStream("stdout", w)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r.Close()
	if _, err := o.Write([]byte("line\n")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("%v", err)
	}
}

// syslogDaemon is a datagram socket as syslog daemons have it.
func syslogDaemon(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	d, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func receive(t *testing.T, d *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := d.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	d := syslogDaemon(t, path)
	o, err := openSyslog([]string{path + ".missing", path})
	if err != nil {
		t.Fatal(err)
	}
	opts := testOptions()
	for _, c := range []struct {
		line     []byte
		priority string
	}{
		{Append(nil, deliveredVerified(), opts), "<22>"},
		{Append(nil, failedNoConnection(), opts), "<20>"},
		{Append(nil, failedHostile(), opts), "<19>"},
	} {
		write(t, o, string(c.line))
		got := receive(t, d)
		if !strings.HasPrefix(got, c.priority) {
			t.Errorf("priority in %.20q, want %s", got, c.priority)
		}
		_, doc, ok := strings.Cut(got, "]: ")
		if !ok || !strings.Contains(got, " maddy[") {
			t.Errorf("no tag in %.60q", got)
		}
		if diff := cmp.Diff(string(c.line), doc); diff != "" {
			t.Errorf("(-sent +received):\n%s", diff)
		}
	}

	// The daemon is restarted: a write notices, connects and tries again.
	d.Close()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	d = syslogDaemon(t, path)
	write(t, o, "{}\n{}\n")
	receive(t, d)
	receive(t, d)

	// It is gone: an error, and no line is said to be written.
	d.Close()
	if n, err := o.Write([]byte("{}\n{}\n")); n != 0 || err == nil {
		t.Errorf("wrote %d to a dead daemon: %v", n, err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	if _, err := o.Write([]byte("{}\n")); !errors.Is(err, errSyslogClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestSyslogStuck: a daemon that does not read delays nobody for ever, and
// Close ends the goroutine.
func TestSyslogStuck(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	syslogDaemon(t, path)
	o, err := openSyslog([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	var w witness
	l := NewLog(w.config(o))
	for range 2000 { // more than a socket's queue holds
		l.Concluded(deliveredVerified(), 0)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if w.lost.Load() == 0 {
		t.Error("nothing was lost although nobody reads")
	}
}

func TestSyslogMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, directory := filepath.Join(dir, "none"), dir // as /var/run/log is one of systemd's
	_, err := openSyslog([]string{none, directory})
	if want := "no syslog daemon listens at " + none + ", " + directory; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}

	// The error of a socket is not lost among the places where there is none.
	socket := filepath.Join(dir, "log")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := openSyslog([]string{socket, directory}); err == nil || !strings.Contains(err.Error(), socket+": connect: connection refused") {
		t.Errorf("%v, want the refusal of %s", err, socket)
	}
}

// TestRotationUnderLoad: with writers at work while the file is rotated again
// and again, every line is in exactly one file, and whole.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	var w witness
	l := NewLog(w.config(openFile(t, path)))
	const writers, each, rotations = 16, 50, 10
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				l.Concluded(deliveredVerified(), 0)
			}
		})
	}
	for i := range rotations {
		if err := os.Rename(path, path+"."+string(rune('a'+i))); err != nil {
			t.Error(err)
		}
		l.Reopen()
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[ID]bool{}
	for _, f := range files {
		for line := range strings.Lines(read(t, f)) {
			var d Document
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Fatalf("%s: %v: %q", f, err, line)
			}
			ids[d.ID] = true
		}
	}
	if len(ids) != writers*each || len(files) != rotations+1 || w.lost.Load() != 0 {
		t.Errorf("%d documents in %d files, %d lost", len(ids), len(files), w.lost.Load())
	}
}
