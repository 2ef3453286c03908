package route

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// sweepEvery is how often what has expired is dropped. It bounds how long the
// memory of an unused answer is kept beyond its TTL.
const sweepEvery = time.Minute

// errClosed is why lookups fail after Close.
var errClosed = errors.New("the resolver is closed")

// Resolver asks recursive resolvers and remembers what they answered for as long
// as the answers allow. It holds no connections, but for a socket to each resolver
// on loopback while that is asked (line.go), and may be used from several
// goroutines.
type Resolver struct {
	servers []*server
	lines   []*line       // of the servers that have one
	mixed   bool          // some servers are trusted, and some are not
	hedge   time.Duration // hedgeAfter
	answers *cache
	flights singleflight.Group
	now     func() time.Duration // since the resolver was made

	ctx     context.Context // of the questions on their way; ends with Close
	stop    context.CancelCauseFunc
	running sync.WaitGroup // flights and tries

	mu     sync.Mutex
	closed bool
	sweep  *time.Timer // nil while nothing is remembered
}

// NewResolver returns a resolver that asks servers, each host:port, in the order
// given. Close it to end the questions that are on their way.
func NewResolver(servers []string) *Resolver {
	begin := time.Now()
	r := &Resolver{
		hedge:   hedgeAfter,
		answers: newCache(maxEntries, maxBytes),
		now:     func() time.Duration { return time.Since(begin) },
	}
	r.servers, r.mixed = newServers(servers)
	for _, s := range r.servers {
		if s.trusted {
			s.line = &line{address: s.address, idle: lineIdle, running: &r.running}
			r.lines = append(r.lines, s.line)
		}
	}
	r.ctx, r.stop = context.WithCancelCause(context.Background())
	return r
}

// Close ends the questions on their way, waits for their goroutines and forgets
// all answers. Lookups fail afterwards, as Temporary.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	if r.sweep != nil {
		r.sweep.Stop()
		r.sweep = nil
	}
	r.mu.Unlock()
	r.stop(errClosed)
	for _, l := range r.lines {
		l.close()
	}
	r.running.Wait()
	r.answers.clear()
}

// enter counts a flight, unless the resolver is closed. The caller tells
// r.running when the flight is done.
func (r *Resolver) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.running.Add(1)
	return true
}

// remember keeps an answer for its TTL and sees to it that it is dropped
// afterwards.
func (r *Resolver) remember(q question, e entry, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	e.expires = r.now() + ttl
	r.answers.put(q, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sweep == nil && !r.closed {
		r.sweep = time.AfterFunc(sweepEvery, r.tidy)
	}
}

// tidy drops what has expired, and comes again while anything is remembered.
func (r *Resolver) tidy() {
	r.answers.sweep(r.now())
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
	case r.answers.len() == 0:
		// A lookup that is about to remember something arms the timer anew.
		r.sweep = nil
	default:
		r.sweep.Reset(sweepEvery)
	}
}
