package health

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

var (
	addr  = netip.MustParseAddrPort("192.0.2.1:25")
	other = netip.MustParseAddrPort("[2001:db8::1]:25")
)

// clock is a time that passes when told.
type clock struct{ now time.Time }

func newClock() *clock {
	return &clock{time.Date(2026, 3, 5, 14, 55, 1, 0, time.UTC)}
}

func (c *clock) Now() time.Time       { return c.now }
func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// middle is a Rand without jitter.
func middle() float64 { return 0.5 }

// bench is a set of breakers on a table, with a clock beside them.
type bench struct {
	*clock
	*Breakers
	t *testing.T
}

func newBench(t *testing.T) *bench {
	c := newClock()
	return &bench{c, NewBreakers(BreakersConfig{Clock: c.Now, Rand: middle}), t}
}

// allowed is a dial that must be allowed.
func (b *bench) allowed(a netip.AddrPort) *Dial {
	b.t.Helper()
	d, err := b.Allow(a)
	if err != nil {
		b.t.Fatalf("Allow(%v): %v, want leave to dial", a, err)
	}
	return d
}

// refused is a dial that must be refused with this text.
func (b *bench) refused(a netip.AddrPort, want string) {
	b.t.Helper()
	_, err := b.Allow(a)
	var open *OpenError
	if !errors.As(err, &open) {
		b.t.Fatalf("Allow(%v): %v, want an *OpenError", a, err)
	}
	if err.Error() != want {
		b.t.Fatalf("Allow(%v):\n got %s\nwant %s", a, err, want)
	}
}

// fail dials and fails, n times one after the other.
func (b *bench) fail(a netip.AddrPort, n int) {
	b.t.Helper()
	for range n {
		b.allowed(a).Failed(syscall.ECONNREFUSED)
	}
}
