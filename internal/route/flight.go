package route

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// lookupTimeout bounds one lookup with all the aliases on its way. Whoever waits
// for it may give up earlier.
const lookupTimeout = 30 * time.Second

// inquiry is what one caller wants to know: answered from memory, or waiting for
// a flight that it may share with others.
type inquiry struct {
	question question
	known    entry
	flight   <-chan singleflight.Result // nil if known holds the answer
}

// lookup finds the records of one type, following aliases. Errors are *Error of
// kind Temporary.
func (r *Resolver) lookup(ctx context.Context, q question) (finding, error) {
	i := r.inquire(ctx, q)
	return i.wait(ctx)
}

// inquire looks into the cache and, where nothing is remembered, joins the flight
// for the question or starts one. It does not block.
func (r *Resolver) inquire(ctx context.Context, q question) inquiry {
	if e, ok := r.answers.get(q, r.now()); ok {
		return inquiry{question: q, known: e}
	}
	if ctx.Err() != nil {
		return inquiry{question: q, known: entry{failure: q.failed(context.Cause(ctx))}}
	}
	key := dns.Type(q.qtype).String() + " " + q.name
	return inquiry{question: q, flight: r.flights.DoChan(key, func() (any, error) { return r.fly(q), nil })}
}

// wait waits for the answer until ctx ends; the flight goes on for the others.
func (i *inquiry) wait(ctx context.Context) (finding, error) {
	if i.flight == nil {
		return i.known.result()
	}
	select {
	case landed := <-i.flight:
		e := landed.Val.(entry)
		return e.result()
	case <-ctx.Done():
		return finding{}, i.question.failed(context.Cause(ctx))
	}
}

// result gives each caller an error of its own.
func (e *entry) result() (finding, error) {
	if e.failure == nil {
		return e.finding, nil
	}
	failure := *e.failure
	return finding{}, &failure
}

// fly asks a question for everybody who wants to know, and remembers the answer.
// It has a deadline of its own: a caller who gives up takes nothing from the
// others.
func (r *Resolver) fly(q question) (e entry) {
	if !r.enter() {
		return entry{failure: q.failed(errClosed)}
	}
	defer r.running.Done()
	defer func() {
		if failure := recover(); failure != nil {
			e = entry{failure: q.failed(fmt.Errorf("internal error: %v", failure))}
		}
	}()
	// Another flight may have landed since the caller looked.
	if e, ok := r.answers.get(q, r.now()); ok {
		return e
	}
	// The name may be part of something larger, as a message's envelope.
	q.name = strings.Clone(q.name)
	ctx, cancel := context.WithTimeout(r.ctx, lookupTimeout)
	defer cancel()
	found, ttl, failure := r.follow(ctx, q)
	if failure != nil {
		ttl = failureTTL
	}
	e = entry{finding: found, failure: failure}
	r.remember(q, e, ttl)
	return e
}

// failed is the error of a question that was not answered.
func (q question) failed(err error) *Error {
	return &Error{Kind: Temporary, Name: q.name, Type: dns.TypeToString[q.qtype], Err: err}
}
