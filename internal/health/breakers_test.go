package health

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fail(addr, 2)
	b.allowed(addr).End()
	b.fail(addr, 1)
	b.refused(addr, "not dialled again until 14:55:31: no answer since 14:55:01 (connection refused)")
	d := b.allowed(other)
	if p := d.Probe(); p != nil {
		t.Errorf("a dial like any other is a probe: %v", p)
	}
	d.Succeeded()

	b.pass(30*time.Second - 1)
	b.refused(addr, "not dialled again until 14:55:31: no answer since 14:55:01 (connection refused)")
	b.pass(1)
	probe := b.allowed(addr)
	const meanwhile = "not dialled while another attempt is under way: " +
		"no answer since 2026-03-05 14:55:01 (connection refused)"
	b.refused(addr, meanwhile)
	if p := probe.Probe(); p == nil || p.Error() != meanwhile {
		t.Errorf("the probe itself: %v, want %s", p, meanwhile)
	}
	b.pass(30 * time.Second)
	probe.Failed(syscall.ETIMEDOUT)
	b.refused(addr, "not dialled again until 14:57:01: no answer since 14:55:01 (timed out)")

	b.pass(time.Minute)
	b.allowed(addr).Succeeded()
	if n := b.failing.Len(); n != 0 {
		t.Errorf("%d addresses remembered after a success, want none", n)
	}
	b.fail(addr, 2)
	b.allowed(addr).Succeeded()
}

func TestBreakerPeriodsDoubleUpToMax(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fail(addr, 2)
	for _, want := range []time.Duration{
		30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute,
		10 * time.Minute, 10 * time.Minute,
	} {
		b.fail(addr, 1)
		_, err := b.Allow(addr)
		var open *OpenError
		if !errors.As(err, &open) {
			t.Fatalf("Allow: %v, want an *OpenError", err)
		}
		if got := open.Until.Sub(b.now); got != want {
			t.Fatalf("open for %v, want %v", got, want)
		}
		b.pass(want)
	}
	b.allowed(addr).Succeeded()
	b.fail(addr, 3)
	b.refused(addr, fmt.Sprintf("not dialled again until %s: no answer since %s (connection refused)",
		b.now.Add(30*time.Second).Format(time.TimeOnly), b.now.Format(time.TimeOnly)))
}

func TestBreakerJitter(t *testing.T) {
	t.Parallel()
	for rnd, want := range map[float64]time.Duration{0: 24 * time.Second, 0.5: 30 * time.Second, 1: 36 * time.Second} {
		c := newClock()
		b := &bench{c, NewBreakers(BreakersConfig{
			Failures: 1, Clock: c.Now, Rand: func() float64 { return rnd },
		}), t}
		b.fail(addr, 1)
		b.pass(want - time.Millisecond)
		if _, err := b.Allow(addr); err == nil {
			t.Errorf("random %v: open for less than %v", rnd, want)
		}
		b.pass(2 * time.Millisecond)
		b.allowed(addr).End()
	}
}

// together begins n dials at once, all of which end with err half a minute later.
func (b *bench) together(n int, err error) {
	b.t.Helper()
	var dials []*Dial
	for range n {
		dials = append(dials, b.allowed(addr))
	}
	b.pass(30 * time.Second)
	for _, d := range dials {
		d.Failed(err)
	}
}

// One restart of a server meets all dials that are under way.
func TestBreakerCountsRefusalsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for range 3 {
		b.together(64, syscall.ECONNREFUSED)
	}
	b.refused(addr, "not dialled again until 14:57:01: no answer since 14:55:01 (connection refused)")
}

// A queue must not send all its deliveries into the same silence three times.
func TestBreakerCountsEachTimeOut(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.together(2, syscall.ETIMEDOUT)
	b.together(64, syscall.ETIMEDOUT)
	b.refused(addr, "not dialled again until 14:56:31: no answer since 14:55:01 (timed out)")

	// Those that were under way when it opened make it no longer.
	b = newBench(t)
	late := []*Dial{b.allowed(addr), b.allowed(addr)}
	b.pass(time.Second)
	b.fail(addr, 3)
	for _, d := range late {
		d.Failed(syscall.ETIMEDOUT)
	}
	b.refused(addr, "not dialled again until 14:55:32: no answer since 14:55:02 (connection refused)")
}

// Dials that overlap without end must not hide each other's failures.
func TestBreakerOpensUnderSteadyLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var under []*Dial
	for second := 0; ; second++ {
		if second > 100 {
			t.Fatal("still closed after 100 s in which every dial timed out")
		}
		d, err := b.Allow(addr)
		if err != nil {
			break
		}
		under = append(under, d)
		if second >= 30 {
			under[second-30].Failed(syscall.ETIMEDOUT)
		}
		b.pass(time.Second)
	}
}

func TestBreakerProbePlaceIsGivenBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fail(addr, 3)
	b.pass(30 * time.Second)
	b.allowed(addr).End()
	func() {
		defer func() { _ = recover() }()
		d := b.allowed(addr)
		defer d.End()
		panic("in the dialler")
	}()
	probe := b.allowed(addr)
	probe.Failed(nil)
	probe.Succeeded()
	probe.End()
	b.refused(addr, "not dialled again until 14:56:31: no answer since 14:55:01")
}

func TestBreakerLateResults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	success, failure := b.allowed(addr), b.allowed(addr)
	b.fail(addr, 3)
	failure.Failed(syscall.ETIMEDOUT)
	b.refused(addr, "not dialled again until 14:55:31: no answer since 14:55:01 (connection refused)")
	success.Succeeded()

	// The probe of a breaker that was closed meanwhile has no say in the next
	// one's probe.
	success = b.allowed(addr)
	b.fail(addr, 3)
	b.pass(30 * time.Second)
	stale := b.allowed(addr)
	success.Succeeded()
	b.fail(addr, 3)
	b.pass(30 * time.Second)
	probe := b.allowed(addr)
	stale.End()
	b.refused(addr, "not dialled while another attempt is under way: "+
		"no answer since 2026-03-05 14:55:31 (connection refused)")
	probe.End()
	b.allowed(addr).Succeeded()
}

func TestBreakerKnowsMappedAddresses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:25")
	b.fail(mapped, 2)
	b.fail(addr, 1)
	b.refused(mapped, "not dialled again until 14:55:31: no answer since 14:55:01 (connection refused)")
	b.allowed(netip.AddrPortFrom(addr.Addr(), 587)).Succeeded()
}

func TestBreakersAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.fail(addr, 3)
	next := netip.MustParseAddr("10.0.0.0")
	for range maxFailing {
		next = next.Next()
		b.allowed(netip.AddrPortFrom(next, 26)).Succeeded()
		b.allowed(netip.AddrPortFrom(next, 25)).Failed(syscall.ECONNREFUSED)
	}
	if n := b.failing.Len(); n != maxFailing {
		t.Errorf("%d addresses remembered, want %d", n, maxFailing)
	}
	b.allowed(addr).End()
}

// However many call: once open, never more than one dials, and a success is
// enough to let all of them.
func TestBreakerUnderManyGoroutines(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	b := NewBreakers(BreakersConfig{Failures: 1, Clock: func() time.Time { return time.Unix(now.Load(), 0) }})
	d, _ := b.Allow(addr)
	d.Failed(syscall.ECONNREFUSED)

	var dialling, dialled atomic.Int64
	var all sync.WaitGroup
	for g := range 32 {
		rnd := rand.New(rand.NewPCG(1, uint64(g)))
		all.Go(func() {
			for range 500 {
				now.Add(10)
				d, err := b.Allow(addr)
				if err != nil {
					continue
				}
				if n := dialling.Add(1); n > 1 {
					t.Errorf("%d dials at once to an address that does not answer", n)
				}
				dialled.Add(1)
				runtime.Gosched()
				dialling.Add(-1)
				if rnd.IntN(2) == 0 {
					d.Failed(syscall.ETIMEDOUT)
				}
				d.End()
			}
		})
	}
	all.Wait()
	if dialled.Load() == 0 {
		t.Error("nobody was allowed to dial")
	}
	now.Add(3600)
	d, err := b.Allow(addr)
	if err != nil {
		t.Fatalf("after an hour: %v", err)
	}
	d.Succeeded()
	for range 10 {
		if _, err := b.Allow(addr); err != nil {
			t.Fatalf("after a success: %v", err)
		}
	}
}
