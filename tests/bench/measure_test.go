package bench

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tlscontrol/tests/bench/sink"
)

// client is one of the things that are compared.
type client interface {
	// worker returns what one of those who deliver at the same time uses.
	worker() (worker, error)
	close() error
}

// worker delivers one message after the other.
type worker interface {
	deliver(to destination) error
	hangUp()
}

// measurement is what came out of a run.
type measurement struct {
	messages   int
	elapsed    time.Duration
	p50, p99   time.Duration
	failing    time.Duration // mean of the mail that could not be delivered
	cpu        time.Duration // of this process
	allocs     uint64
	allocBytes uint64
	sink       sink.Counts
}

// perMessage divides by the number of messages.
func (m measurement) perMessage(n float64) float64 { return n / float64(m.messages) }

func (m measurement) rate() float64 { return float64(m.messages) / m.elapsed.Seconds() }

// cpuSeconds is for a thousand messages.
func (m measurement) cpuSeconds() float64 { return m.perMessage(m.cpu.Seconds() * 1000) }

// report hands the figures to the benchmark; ns/op of the package testing is
// left out, since messages/s says it better.
func (m measurement) report(b *testing.B) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(m.rate(), "msgs/s")
	b.ReportMetric(ms(m.p50), "p50-ms")
	b.ReportMetric(ms(m.p99), "p99-ms")
	if m.failing > 0 {
		b.ReportMetric(ms(m.failing), "ms-failing")
	}
	b.ReportMetric(m.cpuSeconds(), "cpu-s/1000")
	b.ReportMetric(m.perMessage(float64(m.allocs)), "allocs/op")
	b.ReportMetric(m.perMessage(float64(m.allocBytes)), "B/op")
	b.ReportMetric(m.perMessage(float64(m.sink.Connections)), "conns/op")
	b.ReportMetric(m.perMessage(float64(m.sink.Handshakes)), "handshakes/op")
}

// stopwatch takes everything that is measured, at the start and at the end.
type stopwatch struct {
	b       *testing.B
	started time.Time
	cpu     time.Duration
	memory  runtime.MemStats
	sink    sink.Counts
}

func startWatch(b *testing.B) (*stopwatch, error) {
	s := stopwatch{b: b}
	var err error
	if s.sink, err = theWorld.Counts(); err != nil {
		return nil, err
	}
	runtime.ReadMemStats(&s.memory)
	b.ResetTimer() // after which the package testing guesses how often to run
	s.cpu, s.started = cpuTime(), time.Now()
	return &s, nil
}

// stop tells what happened to so many messages, each of which took as long as
// took says. took is sorted.
func (s *stopwatch) stop(took []time.Duration) (m measurement, err error) {
	m.elapsed, m.cpu = time.Since(s.started), cpuTime()-s.cpu
	s.b.StopTimer()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	m.allocs, m.allocBytes = memory.Mallocs-s.memory.Mallocs, memory.TotalAlloc-s.memory.TotalAlloc
	counts, err := theWorld.Counts()
	m.sink = counts.Sub(s.sink)
	m.messages = len(took)
	slices.Sort(took)
	m.p50, m.p99 = took[len(took)/2], took[len(took)*99/100]
	return m, err
}

// cpuTime is what this process has used; the sink is another one.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only for a bad argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crew is a client with its workers.
type crew []worker

func newCrew(c client, size int) (crew, error) {
	workers := make(crew, size)
	var all sync.WaitGroup
	errs := make([]error, size)
	for i := range workers {
		all.Go(func() { workers[i], errs[i] = c.worker() })
	}
	all.Wait()
	return workers, errors.Join(errs...)
}

func (c crew) hangUp() {
	for _, w := range c {
		w.hangUp()
	}
}

// deliver sends a message to each destination and returns how long each took.
// The first error ends it.
func (c crew) deliver(to []destination) ([]time.Duration, error) {
	var (
		took  = make([]time.Duration, len(to))
		next  atomic.Int64
		all   sync.WaitGroup
		first error
		once  sync.Once
	)
	for _, w := range c {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(to) {
					return
				}
				started := time.Now()
				if err := w.deliver(to[i]); err != nil {
					once.Do(func() { first = err })
					next.Store(int64(len(to)))
					return
				}
				took[i] = time.Since(started)
			}
		})
	}
	all.Wait()
	return took, first
}
