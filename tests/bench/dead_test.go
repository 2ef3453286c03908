package bench

import (
	"sync"
	"testing"

	"tlscontrol/tests/bench/sink"
)

// Titles of BenchmarkQueueDeadHosts' results.
const (
	allLiveTitle  = "maddy's queue, 8 hosts, 16 slots, 4KiB, 20ms, all hosts answer"
	halfDeadTitle = "maddy's queue, 8 hosts, 16 slots, 4KiB, 20ms, as much mail for 8 that do not"
)

// deadTimeout is short, so that a target that waits for it each time comes to an
// end.
const deadTimeout = "connect_timeout 500ms"

// BenchmarkQueueDeadHosts: mail for hosts that answer, alone and in between as
// much mail for hosts that do not. That they do not was learnt before.
func BenchmarkQueueDeadHosts(b *testing.B) {
	if theWorld.NoDeadHosts != "" {
		b.Skip("a host that does not answer cannot be made here: ", theWorld.NoDeadHosts)
	}
	for _, half := range []bool{false, true} {
		name, title := "all-answer", allLiveTitle
		if half {
			name, title = "half-dead", halfDeadTitle
		}
		for _, client := range []string{ours, theirs} {
			b.Run(name+"/"+client, func(b *testing.B) {
				m, err := measureDead(b, client, half)
				if err != nil {
					b.Fatal(err)
				}
				m.report(b)
				results.note(title, client, m)
			})
		}
	}
}

func measureDead(b *testing.B, client string, half bool) (m measurement, err error) {
	service, err := theWorld.Service(sink.Service{Delay: sink.Delay, Chunking: true, HalfDead: true})
	if err != nil {
		return m, err
	}
	text, err := newMessage(small)
	if err != nil {
		return m, err
	}
	t, err := newTarget(client, service, text, deadTimeout)
	if err != nil {
		return m, err
	}
	defer t.close()
	workers, err := newCrew(t, slots)
	if err != nil {
		return m, err
	}
	live, dead := work{domain: sink.Live}, work{domain: sink.Dead}
	if _, err := workers.deliver(live.destinations(slots)); err != nil {
		return m, err
	}
	if !half {
		return throughQueue(b, t, live.destinations(b.N), nil)
	}
	learn(workers, dead.destinations(2*slots))
	return throughQueue(b, t, live.destinations(b.N), dead.destinations(b.N))
}

// learn has the workers fail.
func learn(workers crew, to []destination) {
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			for j := i; j < len(to); j += len(workers) {
				_ = w.deliver(to[j])
			}
		})
	}
	all.Wait()
}

// deadGoals are about two groups of results.
func deadGoals(r *resultBook) [][]string {
	var alive, half *resultGroup
	for _, g := range r.groups {
		switch g.title {
		case allLiveTitle:
			alive = g
		case halfDeadTitle:
			half = g
		}
	}
	if alive == nil || half == nil {
		return nil
	}
	was, ok := alive.by[ours]
	is, too := half.by[ours]
	if !ok || !too {
		return nil
	}
	return [][]string{
		goal{title: halfDeadTitle, figure: "throughput of that when all answer", least: 0.9}.row(is.rate() / was.rate()),
		goal{title: halfDeadTitle, figure: "p99 of that when all answer", most: 1.2}.row(is.p99.Seconds() / was.p99.Seconds()),
	}
}
