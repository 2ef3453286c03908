package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// pending lists the messages that the queue has on disk.
func (s *server) pending() []string {
	s.Helper()
	metas, err := filepath.Glob(s.path("state/remote_queue/*.meta"))
	if err != nil {
		s.Fatal(err)
	}
	return metas
}

// TestShutdown: a process that is told to stop while a host keeps it waiting
// stops soon, whatever time-outs are configured; what it could not deliver is
// deferred, and delivered by the next one.
func TestShutdown(t *testing.T) {
	t.Parallel()
	const n, parallel = 30, 20
	s := newServer(t, answering("body", "stall"), mailtest.Behaviour{})
	s.dns.MX("silent.example", 10, host(0))
	s.dns.MX("sound.example", 10, host(1))
	s.config(blocks{endpoints: twoDoors, queue: fmt.Sprint("max_parallelism ", parallel)}) // and time-outs of minutes
	s.start()
	for range n {
		s.mustSubmit(mail{to: []string{"b@silent.example", "b@sound.example"}, anonymous: true, port: atQueue})
	}
	s.eventually("deliveries are running", func() bool {
		return s.mx[0].Connections() == parallel && len(s.mx[1].Messages()) == parallel
	})
	s.stop() // fails the test if the process does not stop, or badly

	if got := len(s.pending()); got != n {
		t.Errorf("%d messages on disk, want %d", got, n)
	}
	told := make(map[any]int)
	for _, d := range wholeLines(t, s.path("deliveries.jsonl")) {
		told[d["recipient"]]++
		if d["recipient"] == "b@silent.example" && !strings.HasPrefix(d.status(), "failed temporary 451") {
			t.Errorf("document %v", d)
		}
	}
	if told["b@silent.example"] < parallel || told["b@sound.example"] < parallel {
		t.Errorf("documents %v", told)
	}

	s.mx[0].Set(mailtest.Behaviour{})
	s.age()
	s.start()
	s.eventually("all is delivered", func() bool { return len(s.pending()) == 0 })
	for i, m := range s.mx {
		if got := len(messageIDs(m)); got != n {
			t.Errorf("%d different messages arrived at %s, want %d", got, host(i), n)
		}
	}
	if got := len(s.mx[1].Messages()); got != n {
		t.Errorf("%d messages arrived at %s, want %d: nothing was cut off there", got, host(1), n)
	}
}
