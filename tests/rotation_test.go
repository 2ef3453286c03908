package tests

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"tlscontrol/internal/mailtest"
)

// rotate sends SIGUSR1 until maddy heeds it: it does so only some time after it
// has begun to accept connections.
func (s *server) rotate() {
	s.Helper()
	heeded := func() int { return strings.Count(s.stderr.String(), "rotating logs") }
	before := heeded()
	s.eventually("maddy heeds SIGUSR1", func() bool {
		if heeded() > before {
			return true
		}
		s.signal(syscall.SIGUSR1)
		return false
	})
}

// TestRotation: moving the log away and sending SIGUSR1, as logrotate does, under
// load: no document is lost, none is torn, and later ones are in the new file.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{endpoints: twoDoors})
	s.start()
	var (
		senders sync.WaitGroup
		sent    atomic.Int64
		stop    atomic.Bool
	)
	for range 4 {
		senders.Go(func() {
			for !stop.Load() {
				if err := s.submit(mail{anonymous: true, port: atTarget}); err != nil {
					t.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	const rotations = 3
	log := s.path("deliveries.jsonl")
	for i := range rotations {
		s.eventually("some documents", func() bool { return len(wholeLines(t, log)) >= 5 })
		if err := os.Rename(log, log+strings.Repeat(".old", i+1)); err != nil {
			t.Fatal(err)
		}
		s.rotate()
		s.eventually("a new file", func() bool {
			_, err := os.Stat(log)
			return err == nil
		})
	}
	stop.Store(true)
	senders.Wait()

	before := len(wholeLines(t, log))
	s.mustSubmit(mail{anonymous: true, port: atTarget})
	sent.Add(1)
	if after := len(wholeLines(t, log)); after != before+1 {
		t.Errorf("the new file grew from %d to %d lines", before, after)
	}
	lines, ids := 0, make(map[any]bool)
	for i := range rotations + 1 {
		name := log + strings.Repeat(".old", i)
		for _, d := range wholeLines(t, name) {
			lines++
			ids[d["id"]] = true
		}
		if data, _ := os.ReadFile(name); !strings.HasSuffix(string(data), "\n") {
			t.Errorf("%s ends within a line", name)
		}
	}
	if lines != int(sent.Load()) || len(ids) != lines {
		t.Errorf("%d lines, %d different ones, for %d messages", lines, len(ids), sent.Load())
	}
}
