package mtasts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// retryAfter is how long a policy that could not be fetched is left alone, as
	// RFC 8461, 3.3 wants for each id in the TXT record.
	retryAfter = 5 * time.Minute
	// fetchPause is how long a domain is left alone after any fetch, whatever ids
	// it announces.
	fetchPause = time.Minute
	// maxFetches bounds the fetches that mail waits for, and placeTimeout how long
	// one waits for its place. Each of them costs a connection and some 100 KiB.
	maxFetches   = 100
	placeTimeout = time.Minute

	// refreshAfter is when a policy is fetched again though its id is the same; once
	// a day is what RFC 8461, 3.3 suggests. One that lives shorter is fetched again
	// in the middle of its life, and not if that is sooner than minRefresh.
	refreshAfter = 24 * time.Hour
	minRefresh   = time.Hour
)

// mayFetch tells whether the policy announced by id may be fetched now.
func (e *entry) mayFetch(now time.Time, id string) bool {
	if f := e.failure; f != nil {
		if recently(f.at, now, fetchPause) || f.id == id && recently(f.at, now, retryAfter) {
			return false
		}
	}
	return !e.policy.freshAt(now) || !recently(e.policy.Fetched, now, fetchPause)
}

// recently tells whether less than d has passed since t. A time in the future,
// from a clock that was wrong, is not recent.
func recently(t, now time.Time, d time.Duration) bool {
	passed := now.Sub(t)
	return 0 <= passed && passed < d
}

// outcome is how a flight ended: with a failure, or without one and a valid
// policy.
type outcome struct {
	policy  *Policy
	failure *Error
}

// join waits for the policy that id announces, until ctx ends or, if there is a
// valid one, patience does; the flight goes on for the others.
func (c *Cache) join(ctx context.Context, name, id string, held *Policy) (*Policy, *Error) {
	if held != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.patience, errSlow)
		defer cancel()
	}
	flight := c.flights.DoChan(name, func() (any, error) { return c.fly(name, id, c.places), nil })
	select {
	case landed := <-flight:
		end := landed.Val.(outcome)
		if end.failure != nil {
			return held, end.failure
		}
		return end.policy, nil
	case <-ctx.Done():
		return held, &Error{Kind: Internal, Domain: name, Err: context.Cause(ctx)}
	}
}

// errSlow is why a newer policy is not waited for.
var errSlow = errors.New("the policy host is slow, and mail does not wait for it")

// fly fetches a policy for everybody who waits for it, and remembers it. It has a
// deadline of its own: a caller who gives up takes nothing from the others.
func (c *Cache) fly(name, id string, places chan struct{}) (end outcome) {
	fail := func(kind Kind, err error) outcome {
		return outcome{failure: &Error{Kind: kind, Domain: name, Err: err}}
	}
	if !c.enter() {
		return fail(Internal, errClosed)
	}
	defer c.running.Done()
	defer func() {
		if broken := recover(); broken != nil {
			end = fail(Internal, fmt.Errorf("internal error: %v", broken))
			c.table.fail(name, failure{err: end.failure, at: c.now(), id: id})
		}
	}()
	// Another flight may have landed since the caller looked.
	now := c.now()
	if known := c.table.look(name); !known.mayFetch(now, id) {
		return outcome{policy: known.policy, failure: known.fault()}
	}
	if err := c.takePlace(places); err != nil {
		return fail(Internal, err)
	}
	defer func() { <-places }()
	return c.renew(name, id)
}

// takePlace waits until a fetch may begin. Places are many, and a fetch is over
// after a minute, so that waiting in vain takes an attack.
func (c *Cache) takePlace(places chan struct{}) error {
	timer := time.NewTimer(placeTimeout)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return nil
	case <-timer.C:
		return errors.New("too many policies are being fetched")
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// renew fetches a policy and remembers it, or that it could not be fetched.
func (c *Cache) renew(name, id string) outcome {
	began := c.now()
	body, failed := c.client.fetch(c.ctx, name)
	if c.ctx.Err() != nil {
		return outcome{failure: &Error{Kind: Internal, Domain: name, Err: context.Cause(c.ctx)}}
	}
	var policy *Policy
	if failed == nil {
		var err error
		// It ages from when it was asked for, at which time it was current.
		if policy, err = parsePolicy(body, id, began); err != nil {
			failed = &Error{Kind: Invalid, Domain: name, Err: err}
		}
	}
	known := c.table.look(name)
	if failed != nil {
		failed = failed.kept()
		c.tell(known, failed)
		c.table.fail(name, failure{err: failed, at: c.now(), id: id})
		return outcome{failure: failed}
	}
	c.remember(name, policy, known)
	return outcome{policy: policy}
}

// remember puts a policy into the table and on disk.
func (c *Cache) remember(name string, policy *Policy, known entry) {
	used := known.used
	if used.IsZero() {
		used = policy.Fetched
	}
	gone := c.table.put(name, entry{policy: policy, used: used, refresh: refreshTime(policy)})
	c.unread.settle(name) // not before it is there to be found
	level := slog.LevelDebug
	if known.policy != nil && known.failure != nil {
		level = slog.LevelInfo // The end of a trouble that was told.
	}
	c.log.Log(c.ctx, level, "MTA-STS policy fetched", "domain", name, "id", policy.ID, "mode", string(policy.Mode),
		"expires", policy.Expires)
	if c.disk != nil {
		c.disk.save(name, policy, used)
		c.disk.remove(gone)
	}
}

// tell logs that a fetch failed. The operator should know that a policy which
// mail depends on cannot be refreshed (RFC 8461, 3.3), once. What a stranger does
// not get to work is his own business.
func (c *Cache) tell(known entry, failed *Error) {
	if known.failure == nil && known.policy != nil && known.policy.Mode != None {
		c.log.Warn("MTA-STS policy cannot be refreshed; the one at hand stays in force until it expires",
			"domain", failed.Domain, "expires", known.policy.Expires, "reason", string(failed.Kind), "detail", failed.Detail())
		return
	}
	c.log.Debug("MTA-STS policy cannot be fetched",
		"domain", failed.Domain, "reason", string(failed.Kind), "detail", failed.Detail())
}

// refreshTime is when a policy is to be fetched again, zero for never: not all that
// were fetched together at the same time, either. One that demands nothing need
// not be kept alive.
func refreshTime(p *Policy) time.Time {
	after := min(p.Expires.Sub(p.Fetched)/2, refreshAfter)
	if after < minRefresh || p.Mode == None {
		return time.Time{}
	}
	return p.Fetched.Add(jittered(after))
}

// jittered is d, up to a tenth shorter or longer.
func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
