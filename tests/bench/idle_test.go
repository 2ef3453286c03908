package bench

import (
	"runtime"
	"testing"

	"tlscontrol/tests/bench/sink"
)

// BenchmarkIdleSession tells what an idle connection costs in memory of ours,
// right after it was opened and carried one message; the kernel's buffers are
// not counted. A second figure says so for a message of 1 MiB, which must not stay
// behind.
func BenchmarkIdleSession(b *testing.B) {
	for _, size := range []int{small, large} {
		for _, name := range []string{ours, theirs} {
			b.Run(sizeName(size)+"/"+name, func(b *testing.B) {
				for b.Loop() {
					bytes, err := idleSession(name, size)
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(bytes, "B/session")
				}
			})
		}
	}
}

func idleSession(name string, size int) (bytes float64, err error) {
	const sessions = 64
	s := scenario{work: oneDomain, at: sessions, size: size, delay: sink.Delay, chunking: true}
	c, err := s.newClient(name)
	if err != nil {
		return 0, err
	}
	defer c.close()
	workers, err := newCrew(c, sessions)
	if err != nil {
		return 0, err
	}
	defer workers.hangUp()
	counts, err := theWorld.Counts()
	if err != nil {
		return 0, err
	}
	before := liveHeap()
	if _, err := workers.deliver(s.work.destinations(sessions)); err != nil {
		return 0, err
	}
	after := liveHeap()
	now, err := theWorld.Counts()
	return (after - before) / float64(now.Sub(counts).Connections), err
}

// liveHeap is what is in use after collecting what is not, twice, because pools
// are emptied only the second time.
func liveHeap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
