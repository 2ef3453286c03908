package bench

import (
	"fmt"
	"testing"

	"tlscontrol/tests/bench/sink"
)

// TestArrives: each client gets its messages through each kind of service, and
// the sink counts them. The subtests share the sink's counters and run one after
// the other.
func TestArrives(t *testing.T) {
	const at, messages = 4, 24
	for _, s := range []scenario{
		{work: oneDomain, at: at, size: small, chunking: true},
		{work: oneDomain, at: at, size: small},
		{work: manyDomains, at: at, size: small, chunking: true},
		{work: freshDomains, at: at, size: small, chunking: true},
		{work: freshHosts, at: at, size: small, chunking: true},
		{work: oneDomain, at: at, size: large, chunking: true, delay: sink.Delay},
		{work: oneDomain, at: at, size: large, delay: sink.Delay},
	} {
		for _, name := range []string{bound, boundBusy, ours, theirs} {
			if name == boundBusy && (s.work.apart || !s.chunking) {
				continue
			}
			t.Run(fmt.Sprint(s.name(), "/", name), func(t *testing.T) {
				before, err := theWorld.Counts()
				if err != nil {
					t.Fatal(err)
				}
				s.deliver(t, name, messages)
				after, err := theWorld.Counts()
				if err != nil {
					t.Fatal(err)
				}
				got := after.Sub(before)
				if got.Messages != messages {
					t.Errorf("%d messages arrived, want %d", got.Messages, messages)
				}
				if got.Handshakes != got.Connections {
					t.Errorf("%d connections, %d handshakes", got.Connections, got.Handshakes)
				}
				if s.work.apart && got.Connections != messages {
					t.Errorf("%d connections for %d hosts", got.Connections, messages)
				}
			})
		}
	}
}

// deliver has a client deliver n messages.
func (s scenario) deliver(t *testing.T, name string, n int) {
	t.Helper()
	c, err := s.newClient(name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	workers, err := newCrew(c, s.workers(name))
	if err != nil {
		t.Fatal(err)
	}
	defer workers.hangUp()
	if _, err := workers.deliver(s.work.destinations(n)); err != nil {
		t.Fatal(err)
	}
}
