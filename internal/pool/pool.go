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

	closing sync.WaitGroup // sessions being closed by the pool
}

// entry is one idle session, linked into the list of all of them.
type entry[S Session] struct {
	session      S
	host         string
	timer        *time.Timer
	older, newer *entry[S]
}

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
			e := list[i]
			p.remove(e)
			return e.session, true
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
		p.remove(surplus)
		p.closing.Add(1)
	}
	p.add(&entry[S]{session: s, host: host})
	p.mu.Unlock()

	if surplus != nil {
		go p.end(surplus.session)
	}
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

// expire is called by the timer of e.
func (p *Pool[S]) expire(e *entry[S]) {
	p.mu.Lock()
	// The timer may fire while Take or Close removes the entry.
	if e.timer == nil {
		p.mu.Unlock()
		return
	}
	s := p.remove(e)
	p.closing.Add(1)
	p.mu.Unlock()
	p.end(s)
}

// add links a new entry in; the caller holds the lock.
func (p *Pool[S]) add(e *entry[S]) {
	p.hosts[e.host] = append(p.hosts[e.host], e)
	e.older = p.newest
	if p.newest != nil {
		p.newest.newer = e
	} else {
		p.oldest = e
	}
	p.newest = e
	p.changed(1)
	e.timer = time.AfterFunc(p.cfg.IdleTime, func() { p.expire(e) })
}

// remove unlinks an entry and returns its session; the caller holds the lock.
func (p *Pool[S]) remove(e *entry[S]) S {
	e.timer.Stop()
	e.timer = nil

	list := p.hosts[e.host]
	for i := range list {
		if list[i] == e {
			copy(list[i:], list[i+1:])
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
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
	e.older, e.newer = nil, nil
	p.changed(-1)
	return e.session
}

func (p *Pool[S]) changed(by int) {
	p.count += by
	if p.cfg.IdleChanged != nil {
		p.cfg.IdleChanged(by)
	}
}
