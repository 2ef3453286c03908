package delivery_test

import (
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
)

// keeper is an observer that follows what keeps deliveries back.
type keeper struct {
	recorder
	panics bool

	mu                     sync.Mutex
	open, waiting, reduced int
	breaker                map[health.BreakerEvent]int
	place                  map[health.PlaceEvent]int
}

func newKeeper() *keeper {
	return &keeper{breaker: make(map[health.BreakerEvent]int), place: make(map[health.PlaceEvent]int)}
}

func (k *keeper) BreakerChanged(c health.BreakerChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open += c.Open
	k.breaker[c.Event]++
	if k.panics {
		panic("an observer")
	}
}

func (k *keeper) PlaceChanged(c health.PlaceChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting += c.Waiting
	k.reduced += c.Reduced
	k.place[c.Event]++
	if k.panics {
		panic("an observer")
	}
}

// watch adds k to the observers.
func (k *keeper) watch(c *delivery.Config) { c.Observers = append(c.Observers, k) }

// TestObserversHearWhatKeepsBack: of breakers and places, also when another
// observer panics over it.
func TestObserversHearWhatKeepsBack(t *testing.T) {
	t.Parallel()
	f, k, bad := blown(), newKeeper(), newKeeper()
	bad.panics = true
	w := newWorld(t, func(c *delivery.Config) {
		f.install(c)
		bad.watch(c)
		k.watch(c)
	}, good())
	for range 4 {
		w.expect(f, noAnswer, min(f.dials.Load()+1, 3))
	}
	if k.open != 1 || k.breaker[health.BreakerOpened] != 1 || k.breaker[health.BreakerRefused] != 1 {
		t.Errorf("%d open, events %v", k.open, k.breaker)
	}
	f.pass(30 * time.Second)
	f.err.Store(nil)
	w.expect(f, "delivered", 4)
	if k.open != 0 || k.breaker[health.BreakerProbed] != 1 || k.breaker[health.BreakerClosed] != 1 {
		t.Errorf("%d open, events %v", k.open, k.breaker)
	}
}

// TestObserversHearOfComplaints: a host that has one place and complains of two.
func TestObserversHearOfComplaints(t *testing.T) {
	t.Parallel()
	var c counter
	c.expect(2)
	k := newKeeper()
	w, _ := rawWorld(t, func(cfg *delivery.Config) {
		places(health.PlacesConfig{PerHost: 2, MaxWait: hang})(cfg)
		k.watch(cfg)
	}, func(p *peer) {
		if p.number > 2 {
			c.host(p)
			return
		}
		c.meet(p)
		c.leave()
		p.sayOnce("421 4.3.2 busy")
	})
	if got := w.sendMany(2); got["421 4.3.2 connect"] != 2 {
		t.Fatalf("statuses %v", got)
	}
	c.expect(1)
	if got := w.sendMany(8); got["delivered"] != 8 {
		t.Fatalf("statuses %v", got)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting != 0 || k.reduced != 1 || k.place[health.HostReduced] != 1 || k.place[health.PlaceRefused] != 0 {
		t.Errorf("%d wait, %d reduced, events %v", k.waiting, k.reduced, k.place)
	}
}
