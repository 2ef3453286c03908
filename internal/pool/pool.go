// Package pool keeps idle sessions, by MX host, for the next message.
//
// There is one way to get a session out of the pool, Take, and it asks the
// plan of the new message first: a session that was opened for a weaker plan is
// not seen by a stricter one, whoever calls. Sessions that nobody takes are
// closed after the idle time; there are never more of them than the limits say.
//
// A session in the pool belongs to the pool. Take hands it over to the caller,
// who either gives it back with Put or closes it.
package pool

import (
	"slices"
	"sync"
	"time"

	"tlscontrol/internal/tlsplan"
)

// Session is what the pool keeps.
type Session interface {
	// Outcome tells what the connection turned out to be. It never changes.
	Outcome() tlsplan.Outcome
	// Close ends the session. The pool calls it without holding a lock; it may
	// take as long as a polite QUIT does, and must be bounded by itself.
	Close()
}

// Config bounds the pool.
type Config struct {
	PerHost  int           // idle sessions kept for one host; 0 keeps none
	Total    int           // idle sessions kept in all; the oldest goes first
	IdleTime time.Duration // a session idle for longer is closed; 0 keeps none
	// IdleChanged is told by how much the number of idle sessions changed. It
	// is called under the pool's lock and must not call back. Optional.
	IdleChanged func(by int)
	// Panicked is told of a panic while a session was closed. Optional; the
	// panic goes no further in any case.
	Panicked func(p any)
}

// Pool keeps idle sessions. The zero value is not usable; see New.
type Pool[S Session] struct {
	cfg Config

	mu     sync.Mutex
	hosts  map[string][]*entry[S] // the most recently used last
	oldest *entry[S]              // list of all entries by age
	newest *entry[S]
	count  int
	closed bool
	// expiry runs when the oldest entry may have been idle for too long; nil until
	// there was one. Entries are taken and put back with every message, so they
	// have no timers of their own.
	expiry *time.Timer
	armed  bool      // expiry will run
	spare  *entry[S] // entries for reuse, linked by newer
	spares int

	closing sync.WaitGroup // sessions being closed by the pool
}

// entry is one idle session, linked into the list of all of them.
type entry[S Session] struct {
	session      S
	host         string
	since        time.Time // idle since then
	older, newer *entry[S]
}

// maxSpare bounds the entries that are kept for reuse: as many as may be taken
// and put back at about the same time.
const maxSpare = 256

// New makes an empty pool.
func New[S Session](cfg Config) *Pool[S] {
	return &Pool[S]{cfg: cfg, hosts: make(map[string][]*entry[S])}
}

// Take returns the most recently used idle session for host that meets plan,
// and false if there is none.
func (p *Pool[S]) Take(host string, plan tlsplan.Plan) (S, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.hosts[host]
	for i := len(list) - 1; i >= 0; i-- {
		if plan.MayReuse(list[i].session.Outcome()) {
			return p.remove(list[i]), true
		}
	}
	var none S
	return none, false
}

// Put gives a session to the pool. It takes the place of the host's, or the
// pool's, oldest one if there is none free. It returns false if the pool is
// closed, or keeps nothing: then the session is still the caller's.
func (p *Pool[S]) Put(host string, s S) bool {
	p.mu.Lock()
	if p.closed || p.cfg.PerHost <= 0 || p.cfg.IdleTime <= 0 || p.cfg.Total <= 0 {
		p.mu.Unlock()
		return false
	}
	var surplus *entry[S]
	if list := p.hosts[host]; len(list) >= p.cfg.PerHost {
		surplus = list[0]
	} else if p.count >= p.cfg.Total {
		surplus = p.oldest
	}
	if surplus != nil {
		p.closing.Add(1)
		go p.end(p.remove(surplus))
	}
	p.add(host, s)
	p.mu.Unlock()
	return true
}

// Idle returns the number of idle sessions.
func (p *Pool[S]) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Close closes all idle sessions and waits until they are closed. Sessions
// that are put back later are not taken.
func (p *Pool[S]) Close() {
	p.mu.Lock()
	p.closed = true
	if p.expiry != nil {
		p.expiry.Stop()
	}
	var all []S
	for p.oldest != nil {
		all = append(all, p.remove(p.oldest))
	}
	p.closing.Add(len(all))
	p.mu.Unlock()

	for _, s := range all {
		go p.end(s)
	}
	p.closing.Wait()
}

// end closes a session that has been counted in p.closing.
func (p *Pool[S]) end(s S) {
	defer p.closing.Done()
	defer func() {
		if panicked := recover(); panicked != nil && p.cfg.Panicked != nil {
			p.cfg.Panicked(panicked)
		}
	}()
	s.Close()
}

// expire closes the sessions that have been idle for too long, and comes again
// when the oldest of the others will be.
func (p *Pool[S]) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	now := time.Now()
	for p.oldest != nil && now.Sub(p.oldest.since) >= p.cfg.IdleTime {
		s := p.remove(p.oldest)
		p.closing.Add(1)
		go p.end(s)
	}
	p.arm(now)
}

// arm sees to it that expire runs in time; the caller holds the lock.
func (p *Pool[S]) arm(now time.Time) {
	if p.armed || p.closed || p.oldest == nil {
		return
	}
	p.armed = true
	wait := p.cfg.IdleTime - now.Sub(p.oldest.since)
	if p.expiry == nil {
		p.expiry = time.AfterFunc(wait, p.expire)
		return
	}
	p.expiry.Reset(wait)
}

// add links a new entry in; the caller holds the lock.
func (p *Pool[S]) add(host string, s S) {
	e := p.spare
	if e != nil {
		p.spare, e.newer = e.newer, nil
		p.spares--
	} else {
		e = new(entry[S])
	}
	e.session, e.host, e.since = s, host, time.Now()
	p.hosts[host] = append(p.hosts[host], e)
	e.older = p.newest
	if p.newest != nil {
		p.newest.newer = e
	} else {
		p.oldest = e
	}
	p.newest = e
	p.changed(1)
	p.arm(e.since)
}

// remove unlinks an entry and returns its session; the caller holds the lock.
func (p *Pool[S]) remove(e *entry[S]) S {
	list := p.hosts[e.host]
	at := slices.Index(list, e)
	if list = slices.Delete(list, at, at+1); len(list) == 0 {
		delete(p.hosts, e.host)
	} else {
		p.hosts[e.host] = list
	}

	if e.older != nil {
		e.older.newer = e.newer
	} else {
		p.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		p.newest = e.older
	}
	s := e.session
	*e = entry[S]{}
	if p.spares < maxSpare {
		e.newer, p.spare = p.spare, e
		p.spares++
	}
	p.changed(-1)
	return s
}

func (p *Pool[S]) changed(by int) {
	p.count += by
	if p.cfg.IdleChanged != nil {
		p.cfg.IdleChanged(by)
	}
}
