//go:build linux

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tlscontrol/internal/mailtest"
)

// smallDisk puts a file system of a few pages in the place of a directory. It takes
// root to do so.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		t.Skipf("SKIPPED: a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestAPIFullDisk: a message that the queue cannot write is answered with 503, and is
// nowhere, also after a restart. A smaller one still goes through.
func TestAPIFullDisk(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	queue := s.path("state/remote_queue")
	smallDisk(t, queue)
	s.config(apiBlocks(s, ""))
	s.start()
	key := s.key("example.com")

	large := apiLetter()
	large.Set("subject", "too large for the disk")
	large.Set("text", strings.Repeat("a line of it\n", 20_000))
	for range 3 {
		status, body := s.call("POST", "/v3/example.com/messages", key, large)
		if status != 503 || !strings.Contains(body, "Internal server error") {
			t.Errorf("got %d %s", status, body)
		}
	}
	if left, err := filepath.Glob(filepath.Join(queue, "*")); err != nil || len(left) != 0 {
		t.Errorf("in the queue: %q, %v", left, err)
	}
	if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter()); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	s.documents(1)
	s.stop()
	s.start()
	if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter()); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	s.documents(2)
	for _, m := range s.mx[0].Messages() {
		if strings.Contains(string(m.Data), "too large") {
			t.Error("a refused message was sent")
		}
	}
}
