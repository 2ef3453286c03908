package bench

import (
	"fmt"
	"testing"
	"time"

	"tlscontrol/tests/bench/sink"
)

// scenario is what is to be done.
type scenario struct {
	work     work
	at       int // so many messages at a time
	size     int
	delay    time.Duration
	chunking bool
}

// Sizes of messages.
const (
	small = 4 << 10
	large = 1 << 20
)

// scenarios lists all, those that belong together side by side.
func scenarios() []scenario {
	var all []scenario
	delays := []time.Duration{0, sink.Delay}
	add := func(w work, size int, chunking bool) {
		for _, delay := range delays {
			for _, at := range []int{1, 16, 64} {
				all = append(all, scenario{work: w, at: at, size: size, delay: delay, chunking: chunking})
			}
		}
	}
	for _, size := range []int{small, large} {
		for _, w := range []work{oneDomain, manyDomains, freshHosts} {
			add(w, size, true)
		}
	}
	add(freshDomains, small, true)
	add(oneDomain, small, false)
	return all
}

// name is what -bench selects by, with one slash for each property.
func (s scenario) name() string {
	return fmt.Sprintf("%s/%s/delay=%s/%s/at=%d", s.work.key, sizeName(s.size), s.delay, s.offer(), s.at)
}

// offer is what the service lets a body be sent with.
func (s scenario) offer() string {
	if s.chunking {
		return "BDAT"
	}
	return "DATA"
}

func sizeName(size int) string {
	if size >= 1<<20 {
		return fmt.Sprintf("%dMiB", size>>20)
	}
	return fmt.Sprintf("%dKiB", size>>10)
}

// clients are those who are compared, in the order in which they run.
func (s scenario) clients() []string {
	if s.work.key == oneDomain.key && s.size == small && s.chunking {
		return []string{boundBusy, bound, ours, theirs}
	}
	return []string{bound, ours, theirs}
}

// newClient makes a client by its name.
func (s scenario) newClient(name string) (client, error) {
	service, err := theWorld.Service(sink.Service{Delay: s.delay, Chunking: s.chunking})
	if err != nil {
		return nil, err
	}
	m, err := newMessage(s.size)
	if err != nil {
		return nil, err
	}
	switch name {
	case bound:
		return newRaw(service, m, s.work.apart), nil
	case boundBusy:
		return &rawBusy{raw: newRaw(service, m, s.work.apart)}, nil
	}
	return newTarget(name, service, m)
}

// workers is how many messages are under way at a time.
func (s scenario) workers(client string) int {
	if client == boundBusy {
		return s.at * inFlight
	}
	return s.at
}

// BenchmarkDeliver drives each client through each scenario. Connections that
// the scenario can use again are there before the clock starts.
func BenchmarkDeliver(b *testing.B) {
	for _, s := range scenarios() {
		for _, client := range s.clients() {
			b.Run(s.name()+"/"+client, func(b *testing.B) {
				m, err := s.measure(b, client)
				if err != nil {
					b.Fatal(err)
				}
				m.report(b)
				results.add(s, client, m)
			})
		}
	}
}

// measure has a client deliver b.N messages.
func (s scenario) measure(b *testing.B, name string) (m measurement, err error) {
	c, err := s.newClient(name)
	if err != nil {
		return m, err
	}
	defer c.close()
	workers, err := newCrew(c, s.workers(name))
	if err != nil {
		return m, err
	}
	defer workers.hangUp()
	if err := s.warmUp(c, workers, name); err != nil {
		return m, fmt.Errorf("before the clock starts: %w", err)
	}
	to := s.work.destinations(b.N)

	watch, err := startWatch(b)
	if err != nil {
		return m, err
	}
	took, err := workers.deliver(to)
	if err != nil {
		return m, err
	}
	if m, err = watch.stop(took); err != nil {
		return m, err
	}
	if m.sink.Messages != int64(b.N) {
		return m, fmt.Errorf("%d messages arrived, want %d", m.sink.Messages, b.N)
	}
	return m, nil
}

// warmUp opens what the client wants to keep open: every worker delivers once,
// and every one of many domains gets a message.
func (s scenario) warmUp(c client, workers crew, name string) error {
	if _, err := workers.deliver(s.work.destinations(len(workers))); err != nil {
		return err
	}
	if s.work.spread == 1 || name == bound {
		return nil
	}
	more, err := newCrew(c, 64)
	if err != nil {
		return err
	}
	defer more.hangUp()
	_, err = more.deliver(s.work.destinations(s.work.spread))
	return err
}
