package health

import (
	"context"
	"testing"
)

// TestRefused: a refusal is a complaint if others of ours are with the very
// address that refuses.
func TestRefused(t *testing.T) {
	t.Parallel()
	p := NewPlaces(PlacesConfig{PerHost: 8})
	acquire := func() *Place {
		t.Helper()
		place, err := p.Acquire(context.Background(), "mx")
		if err != nil {
			t.Fatal(err)
		}
		return place
	}
	here, there := addr.Addr(), other.Addr()
	first, second, third := acquire(), acquire(), acquire()
	if second.Refused(here) {
		t.Error("nobody is connected, and a refusal is a complaint")
	}
	first.Connected(there)
	if second.Refused(here) {
		t.Error("another address is busy, and a refusal is a complaint")
	}
	first.Connected(here)
	if first.Refused(here) {
		t.Error("a complaint over the place's own session, which has ended")
	}
	if !second.Refused(here) {
		t.Error("a refusal beside a busy session is no complaint")
	}
	if !third.Refused(here) {
		t.Error("another refusal beside a busy session is no complaint")
	}
	if limit, changed := first.Overloaded(); limit != 1 || changed {
		t.Errorf("limit %d, changed %v: three busy ones, of which half are one", limit, changed)
	}
	second.Release()
	if second.Refused(here) {
		t.Error("a place that was given back complains")
	}
	first.Release()
	first.Connected(here)
	if third.Refused(here) {
		t.Error("a complaint over a session that is not busy any more")
	}
	third.Release()
	if len(p.hosts) != 0 {
		t.Errorf("%d hosts are in use", len(p.hosts))
	}
}
