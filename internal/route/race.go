package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// rounds is how often the list of servers is gone through.
	rounds = 2
	// hedgeAfter is how long a server may be silent before another is asked beside
	// it. A resolver answers from its cache within milliseconds, and most of what it
	// has to ask for within this time, so that few questions are asked twice.
	hedgeAfter = 300 * time.Millisecond
)

// race is one question on its way to several servers; the first usable answer
// wins.
//
// The servers are asked in order. One that fails makes room for the next at once.
// One that is silent for a moment gets company: the next server of the first
// round, and when there is none left, the same one once more, since a packet may
// have been lost. The second round replaces what has failed or timed out.
type race struct {
	r        *Resolver
	question question
	plan     []*server // still to be asked
	fresh    int       // how many of the plan were not asked before
	repeated bool      // a silent server was asked once more
	waiting  []*server // asked and silent, in the order asked
	finished chan try
	hedge    *time.Timer
}

// try is how one question to one server ended.
type try struct {
	server *server
	reply  *dns.Msg
	err    error
}

// exchange asks one question until a server answers it. Errors are of kind
// Temporary: silence, refusals and nonsense say nothing about the name.
func (r *Resolver) exchange(ctx context.Context, q question) (answer, *Error) {
	var last try
	order := r.order()
	m := race{
		r: r, question: q, plan: slices.Repeat(order, rounds), fresh: len(order),
		finished: make(chan try, rounds*len(order)+1), // all tries, so that none is held up
		hedge:    time.NewTimer(r.hedge),
	}
	defer m.hedge.Stop()
	tries, overtaken := context.WithCancel(ctx)
	defer overtaken()
	m.next(tries)
	for len(m.waiting) > 0 {
		select {
		case t := <-m.finished: // Also when ctx ends, which ends the tries.
			if ctx.Err() != nil {
				t.err = context.Cause(ctx)
				return answer{}, t.failure(q)
			}
			if t.usable() {
				return m.won(t), nil
			}
			last = t
			m.lost(t)
			m.next(tries)
		case <-m.hedge.C:
			m.accompany(tries)
		}
	}
	return answer{}, last.failure(q)
}

// failure is what is told of a question whose last try was t.
func (t try) failure(q question) *Error {
	switch {
	case t.server == nil:
		return q.failed(errors.New("no resolver configured"))
	case t.err != nil:
		failure := q.failed(t.err)
		failure.Server = t.server.address
		return failure
	}
	failure := q.failed(nil)
	failure.Server, failure.Rcode = t.server.address, rcodeText(t.reply.Rcode)
	return failure
}

// ask puts the question to one server; the result comes over m.finished.
func (m *race) ask(ctx context.Context, s *server) {
	m.waiting = append(m.waiting, s)
	m.hedge.Reset(m.r.hedge)
	m.r.running.Go(func() {
		t := try{server: s}
		defer func() {
			if failure := recover(); failure != nil {
				t.reply, t.err = nil, fmt.Errorf("internal error: %v", failure)
			}
			m.finished <- t
		}()
		t.reply, t.err = ask(ctx, s, m.question.name, m.question.qtype)
	})
}

// next asks the next server of the plan, if its answer is wanted already.
func (m *race) next(ctx context.Context) {
	if len(m.plan) == 0 || !m.mayOvertake(m.plan[0]) {
		return
	}
	s := m.plan[0]
	m.plan, m.fresh = m.plan[1:], m.fresh-1
	m.ask(ctx, s)
}

// accompany asks another server beside the silent ones.
func (m *race) accompany(ctx context.Context) {
	switch {
	case m.fresh > 0 && m.mayOvertake(m.plan[0]):
		m.next(ctx)
	case !m.repeated:
		m.repeated = true
		m.ask(ctx, m.waiting[0])
	}
}

// mayOvertake keeps a server whose word is no evidence from overtaking one whose
// word is: it is asked when the other has failed.
func (m *race) mayOvertake(s *server) bool {
	return s.trusted || !slices.ContainsFunc(m.waiting, func(w *server) bool { return w.trusted })
}

// usable tells whether the server said something about the name.
func (t try) usable() bool {
	return t.err == nil && (t.reply.Rcode == dns.RcodeSuccess || t.reply.Rcode == dns.RcodeNameError)
}

// won ends the race. Servers that were asked before the winner and are still
// silent are asked later next time.
func (m *race) won(t try) answer {
	t.server.demotedUntil.Store(0)
	for _, s := range m.waiting[:slices.Index(m.waiting, t.server)] {
		m.r.demote(s)
	}
	a := newAnswer(t.reply, t.server.address)
	if m.r.mixed && !t.server.trusted {
		// The evidence may be back as soon as a trusted server is.
		a.limit = demotedFor
	}
	return a
}

// lost takes note of a failure. SERVFAIL is about the name more often than about
// the server, whose place in the order it does not change.
func (m *race) lost(t try) {
	i := slices.Index(m.waiting, t.server)
	m.waiting = slices.Delete(m.waiting, i, i+1)
	if t.err != nil || t.reply.Rcode != dns.RcodeServerFailure {
		m.r.demote(t.server)
	}
}
