package health

import (
	"container/list"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// PlacesConfig bounds the busy sessions with a host. A field that is zero has
// its default.
type PlacesConfig struct {
	PerHost    int           // busy sessions with one host; 20
	MaxWait    time.Duration // how long Acquire waits for one; 30 s
	MaxWaiters int           // how many may wait for one host; 1000
	Quiet      time.Duration // without a complaint, for one more place; 1 min

	Clock func() time.Time // time.Now; of Quiet only

	// Changed is told what happens. It is called under the lock of Places and must
	// not call back. Optional.
	Changed func(PlaceChange)
}

// maxReduced bounds for how many hosts without a busy session a reduced limit
// is remembered; the one used longest ago is forgotten first, and has its whole
// limit again. An entry is about 300 octets.
const maxReduced = 10_000

// maxSpare is how many hosts are kept for reuse instead of being left to the
// garbage collector: hosts come and go with every message.
const maxSpare = 64

// Places are the busy sessions that each host allows. Every host has a limit,
// PerHost unless it complained (rate.go). Who finds all places taken waits in
// the order of coming, until the context ends or MaxWait is over.
type Places struct {
	cfg PlacesConfig

	mu sync.Mutex
	// hosts are those with busy places. All that wait are among them, because
	// a limit is never below one: nobody waits where nothing is busy.
	hosts map[string]*host
	// reduced are hosts without busy places whose limit is not whole.
	reduced *simplelru.LRU[string, *host]
	spare   []*host
	// events numbers what happens, places given and limits reduced, to tell
	// what came first.
	events uint64
}

// host is what is known of a host. Whenever the lock is free, either nobody
// waits or busy has reached the limit; see admit.
type host struct {
	name    string
	busy    int
	limit   int
	waiting list.List // of *waiter, the longest waiting first
	trouble trouble   // zero if limit is whole
	// sessions are the addresses to which sessions are busy, one for each.
	sessions []netip.Addr
}

// waiter waits in Acquire.
type waiter struct {
	place *Place        // set when it is given one; guarded by Places.mu
	given chan struct{} // closed then
}

// NewPlaces makes Places that are all free.
func NewPlaces(cfg PlacesConfig) *Places {
	cfg.PerHost = orDefault(cfg.PerHost, 20)
	cfg.MaxWait = orDefault(cfg.MaxWait, 30*time.Second)
	cfg.MaxWaiters = orDefault(cfg.MaxWaiters, 1000)
	cfg.Quiet = orDefault(cfg.Quiet, time.Minute)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	p := &Places{cfg: cfg, hosts: make(map[string]*host)}
	// NewLRU fails only for a size that is not positive.
	p.reduced, _ = simplelru.NewLRU[string, *host](maxReduced, nil)
	return p
}

func (p *Places) changed(c PlaceChange) {
	if p.cfg.Changed != nil {
		p.cfg.Changed(c)
	}
}

// Acquire takes a place of a host, and waits for one if all are taken. It fails
// with the error of ctx when that ends, and with a *BusyError when MaxWait is
// over or too many wait already. Names are told apart as they are written; the
// caller brings them into one form.
//
// The caller defers Release:
//
//	place, err := places.Acquire(ctx, host)
//	if err != nil {
//		return err
//	}
//	defer place.Release()
func (p *Places) Acquire(ctx context.Context, name string) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	place, h, turn, err := p.enter(name)
	if turn == nil {
		return place, err
	}
	w := turn.Value.(*waiter)
	timer := time.NewTimer(p.cfg.MaxWait)
	defer timer.Stop()
	select {
	case <-w.given:
		return w.place, nil
	case <-ctx.Done():
	case <-timer.C:
	}
	return p.leave(ctx, h, turn)
}

// enter takes a place or, if there is none, a turn in the queue of h.
func (p *Places) enter(name string) (_ *Place, h *host, turn *list.Element, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h = p.host(name)
	p.rest(h)
	if h.busy < h.limit {
		return p.take(h), h, nil, nil
	}
	if n := h.waiting.Len(); n >= p.cfg.MaxWaiters {
		p.changed(PlaceChange{Event: PlaceRefused})
		return nil, h, nil, &BusyError{Host: name, Limit: h.limit, Waiting: n}
	}
	p.changed(PlaceChange{Event: PlaceWaited, Waiting: 1})
	return nil, h, h.waiting.PushBack(&waiter{given: make(chan struct{})}), nil
}

// leave ends the wait of one who will wait no longer. A place that came at that
// very moment is kept if only the time was over, and goes to the next one if
// the context ended.
func (p *Places) leave(ctx context.Context, h *host, turn *list.Element) (*Place, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := turn.Value.(*waiter)
	err := ctx.Err()
	switch {
	case w.place != nil && err == nil:
		return w.place, nil
	case w.place != nil:
		p.release(w.place)
		return nil, err
	}
	h.waiting.Remove(turn)
	left := PlaceChange{Waiting: -1}
	if err == nil {
		left.Event = PlaceRefused
		err = &BusyError{Host: h.name, Limit: h.limit, Waiting: h.waiting.Len(), Waited: p.cfg.MaxWait}
	}
	p.changed(left)
	return nil, err
}

// Place is leave to keep one session with a host busy. Its methods may be
// called from any goroutine, and do nothing after Release.
type Place struct {
	p      *Places
	h      *host  // nil after Release; guarded by p.mu
	number uint64 // event number
	// session is the address to which a session is busy here, invalid if there is
	// none yet; guarded by p.mu.
	session netip.Addr
}

// Connected says that a session with an address of the host is busy on this place.
func (place *Place) Connected(to netip.Addr) {
	place.p.mu.Lock()
	defer place.p.mu.Unlock()
	if h := place.h; h != nil {
		place.forgetSession(h)
		place.session = to.Unmap()
		h.sessions = append(h.sessions, place.session)
	}
}

// forgetSession undoes Connected; the caller holds the lock.
func (place *Place) forgetSession(h *host) {
	if !place.session.IsValid() {
		return
	}
	last := len(h.sessions) - 1
	h.sessions[slices.Index(h.sessions, place.session)] = h.sessions[last]
	h.sessions = h.sessions[:last]
	place.session = netip.Addr{}
}

// Release gives the place to the one who waits longest, or frees it.
func (place *Place) Release() {
	place.p.mu.Lock()
	defer place.p.mu.Unlock()
	place.p.release(place)
}

// release is Release; the caller holds the lock.
func (p *Places) release(place *Place) {
	h := place.h
	if h == nil {
		return
	}
	place.forgetSession(h)
	place.h = nil
	h.busy--
	p.rest(h)
	p.admit(h)
	if h.busy == 0 {
		p.park(h)
	}
}

// take makes one more place of h busy; the caller holds the lock.
func (p *Places) take(h *host) *Place {
	h.busy++
	p.events++
	return &Place{p: p, h: h, number: p.events}
}

// admit gives what places are free to those who wait. It follows whatever may
// have freed one: a release, a higher limit. The caller holds the lock.
func (p *Places) admit(h *host) {
	for h.busy < h.limit && h.waiting.Len() > 0 {
		w := h.waiting.Remove(h.waiting.Front()).(*waiter)
		w.place = p.take(h)
		p.changed(PlaceChange{Waiting: -1})
		close(w.given)
	}
}

// host finds a host, or begins one with its whole limit; the caller holds the
// lock and makes a place of it busy.
func (p *Places) host(name string) *host {
	if h := p.hosts[name]; h != nil {
		return h
	}
	h, known := p.reduced.Peek(name)
	switch last := len(p.spare) - 1; {
	case known:
		p.reduced.Remove(name)
	case last >= 0:
		h, p.spare = p.spare[last], p.spare[:last]
	default:
		h = &host{}
	}
	if !known {
		h.name, h.limit = name, p.cfg.PerHost
	}
	p.hosts[name] = h
	return h
}

// park puts a host away that has no busy place: it is forgotten, unless its
// limit is reduced. The caller holds the lock.
func (p *Places) park(h *host) {
	delete(p.hosts, h.name)
	defer p.sweep()
	if h.limit < p.cfg.PerHost {
		if p.reduced.Add(h.name, h) { // in place of another one
			p.changed(PlaceChange{Reduced: -1})
		}
		return
	}
	if len(p.spare) < maxSpare {
		h.name = ""
		p.spare = append(p.spare, h)
	}
}

// sweep forgets the hosts used longest ago as far as they have recovered.
func (p *Places) sweep() {
	for {
		name, h, found := p.reduced.GetOldest()
		if !found {
			return
		}
		if p.rest(h); h.limit < p.cfg.PerHost {
			return
		}
		p.reduced.Remove(name)
	}
}
