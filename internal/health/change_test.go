package health

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// story is what Changed was told, and where the gauges stand by it.
type story struct {
	events                 []string
	open, waiting, reduced int
}

func (s *story) breaker(c BreakerChange) {
	s.open += c.Open
	s.note(string(c.Event))
}

func (s *story) place(c PlaceChange) {
	s.waiting += c.Waiting
	s.reduced += c.Reduced
	s.note(string(c.Event))
}

func (s *story) note(event string) {
	if event != "" {
		s.events = append(s.events, event)
	}
}

// told checks what was told since the last time.
func (s *story) told(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(s.events, " "); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	s.events = nil
}

func TestBreakersTell(t *testing.T) {
	t.Parallel()
	var s story
	c := newClock()
	b := &bench{c, NewBreakers(BreakersConfig{Clock: c.Now, Rand: middle, Changed: s.breaker}), t}
	b.fail(addr, 2)
	b.allowed(other).Succeeded()
	s.told(t, "")
	b.fail(addr, 1)
	_, _ = b.Allow(addr)
	s.told(t, "opened refused")
	b.pass(30 * time.Second)
	probe := b.allowed(addr)
	_, _ = b.Allow(addr)
	probe.Failed(syscall.ECONNREFUSED)
	s.told(t, "probed refused")
	if s.open != 1 {
		t.Errorf("%d open, want one", s.open)
	}
	b.pass(time.Minute)
	b.allowed(addr).Succeeded()
	s.told(t, "probed closed")
	if s.open != 0 {
		t.Errorf("%d open after a success", s.open)
	}
}

// An address that mail no longer goes to is not remembered, and not counted, for
// ever.
func TestBreakersForget(t *testing.T) {
	t.Parallel()
	var s story
	c := newClock()
	b := &bench{c, NewBreakers(BreakersConfig{Clock: c.Now, Rand: middle, Changed: s.breaker}), t}
	for i := range 100 {
		b.fail(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 25), 3)
	}
	b.fail(addr, 1)
	if s.open != 100 {
		t.Errorf("%d open, want a hundred", s.open)
	}
	b.pass(forgetAfter - time.Second)
	_ = b.allowed(addr)
	if n := b.failing.Len(); n != 101 {
		t.Errorf("%d remembered within a day", n)
	}
	b.pass(time.Second)
	b.allowed(other).End()
	if n := b.failing.Len(); n != 1 || s.open != 0 {
		t.Errorf("%d remembered after a day, %d counted as open", n, s.open)
	}
}

func TestPlacesTell(t *testing.T) {
	t.Parallel()
	var s story
	c := newClock()
	p := NewPlaces(PlacesConfig{PerHost: 2, MaxWaiters: 1, MaxWait: time.Millisecond, Clock: c.Now, Changed: s.place})
	acquire := func() *Place {
		t.Helper()
		place, err := p.Acquire(context.Background(), "mx")
		if err != nil {
			t.Fatal(err)
		}
		return place
	}
	first, second := acquire(), acquire()
	s.told(t, "")
	_, h, turn, _ := p.enter("mx")
	if _, _, _, err := p.enter("mx"); err == nil {
		t.Error("a second one may wait")
	}
	if s.waiting != 1 {
		t.Errorf("%d wait, want one", s.waiting)
	}
	if _, err := p.leave(context.Background(), h, turn); err == nil {
		t.Error("a place out of nowhere")
	}
	s.told(t, "waited refused refused")

	_, _, turn, _ = p.enter("mx")
	second.Release()
	second = turn.Value.(*waiter).place
	s.told(t, "waited")
	first.Overloaded()
	second.Overloaded() // says nothing new
	s.told(t, "reduced")
	first.Release()
	second.Release()
	if s.waiting != 0 || s.reduced != 1 {
		t.Errorf("%d wait, %d reduced, want none and one", s.waiting, s.reduced)
	}
	// Time heals, and another host's message notices it.
	c.pass(time.Minute)
	place, _ := p.Acquire(context.Background(), "other")
	place.Release()
	if s.reduced != 0 {
		t.Errorf("%d reduced after a minute in quiet", s.reduced)
	}
}

func TestReducedHostsThatAreForgotten(t *testing.T) {
	t.Parallel()
	var s story
	p := NewPlaces(PlacesConfig{PerHost: 2, Changed: s.place})
	for i := range maxReduced + 5 {
		place, err := p.Acquire(context.Background(), fmt.Sprint("mx", i))
		if err != nil {
			t.Fatal(err)
		}
		place.Overloaded()
		place.Release()
	}
	if n := p.reduced.Len(); n != maxReduced || s.reduced != n {
		t.Errorf("%d remembered, %d told of", n, s.reduced)
	}
}
