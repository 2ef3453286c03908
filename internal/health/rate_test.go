package health

import (
	"testing"
	"time"
)

// complain reports a complaint and checks what limit follows.
func complain(t *testing.T, place *Place, want int, wantChanged bool) {
	t.Helper()
	if limit, changed := place.Overloaded(); limit != want || changed != wantChanged {
		t.Errorf("after a complaint: limit %d, changed %v; want %d, %v", limit, changed, want, wantChanged)
	}
}

// succeed takes n places one after the other and succeeds on each.
func succeed(t *testing.T, p *Places, n int) {
	t.Helper()
	for range n {
		place := acquired(t, p, mx, 1)[0]
		place.Succeeded()
		place.Release()
	}
}

// allows checks that a host has exactly n places, while none is taken.
func allows(t *testing.T, p *Places, n int) {
	t.Helper()
	held := acquired(t, p, mx, n)
	full(t, p, mx)
	release(held...)
}

func TestComplaintHalvesWhatWasBusy(t *testing.T) {
	t.Parallel()
	p := NewPlaces(PlacesConfig{})
	held := acquired(t, p, mx, 20)
	complain(t, held[7], 10, true)
	complain(t, held[7], 10, false)
	complain(t, held[8], 10, false) // taken before the reduction
	release(held[:10]...)
	full(t, p, mx) // ten are still busy
	release(held[10:13]...)
	again := acquired(t, p, mx, 3)
	full(t, p, mx)
	complain(t, again[0], 5, true)
	release(held...)
	release(again...)
	allows(t, p, 5)
	few := acquired(t, p, mx, 3)
	complain(t, few[2], 1, true)
	release(few...)
	one := acquired(t, p, mx, 1)
	complain(t, one[0], 1, false)
	release(one...)
	allows(t, p, 1)
}

func TestSuccessRecoversUpToWhatWasRefused(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := NewPlaces(PlacesConfig{Clock: c.Now})
	held := acquired(t, p, mx, 6)
	complain(t, held[0], 3, true)
	for range 100 {
		held[1].Succeeded() // was taken before the complaint
	}
	release(held...)
	succeed(t, p, 2)
	allows(t, p, 3)
	succeed(t, p, 1)
	allows(t, p, 4)
	succeed(t, p, 4)
	allows(t, p, 5)
	succeed(t, p, 1000)
	allows(t, p, 5) // six were refused, not a minute ago

	c.pass(time.Minute)
	allows(t, p, 6)
	for limit := 6; limit < 20; limit++ {
		succeed(t, p, limit-1)
		allows(t, p, limit)
		succeed(t, p, 1)
		allows(t, p, limit+1)
	}
	forgotten(t, p)
}

func TestQuietRecovers(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := NewPlaces(PlacesConfig{PerHost: 5, Clock: c.Now})
	held := acquired(t, p, mx, 4)
	complain(t, held[0], 2, true)
	release(held...)
	c.pass(time.Minute - 1)
	allows(t, p, 2)
	c.pass(1)
	allows(t, p, 3)
	c.pass(90 * time.Second)
	allows(t, p, 4)
	c.pass(30 * time.Second)
	allows(t, p, 5)
	forgotten(t, p)

	held = acquired(t, p, mx, 4)
	complain(t, held[0], 2, true)
	release(held...)
	c.pass(100 * 365 * 24 * time.Hour)
	allows(t, p, 5)
	forgotten(t, p)
}

// A limit that grows wakes those who wait, not only those who come.
func TestRecoveryAdmitsWhoWaits(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := NewPlaces(PlacesConfig{PerHost: 8, Clock: c.Now})
	held := acquired(t, p, mx, 5)
	complain(t, held[0], 2, true)
	release(held...)
	held = acquired(t, p, mx, 2)
	var waiting []*waiter
	for range 3 {
		_, _, turn, err := p.enter(mx)
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, turn.Value.(*waiter))
	}
	held[0].Succeeded()
	held[1].Succeeded()
	<-waiting[0].given
	c.pass(time.Minute)
	held[0].Succeeded()
	<-waiting[1].given
	c.pass(time.Minute)
	held[0].Release()
	<-waiting[2].given
	for _, w := range waiting {
		w.place.Release()
	}
	held[1].Release()
}
