package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"tlscontrol/internal/events"
)

// A key of one domain may be given to whoever owns that domain. It must not tell
// them about the others that the relay sends for, not even which there are. So
// what it sees is decided by its domain before anything is looked up: events by a
// condition of the statement itself, lists without asking what else is in them;
// and all names that are not its own are refused in the same words, whether they
// are known, unknown or no names at all.

// opens reports whether a key is for routes of this access.
func (k Key) opens(to access) bool {
	switch {
	case k.Domain == "":
		return true
	case to == readers:
		return k.Reads
	}
	return to == senders
}

// ownTurns is how many questions of a key that reads one domain are answered at a
// time. The store has few connections, and those who run the relay need them, too.
const ownTurns = 2

// ownTogether is how many of such keys together. There may be many of them, and one
// who looks after the relay must not wait behind all of their owners.
const ownTogether = events.MaxReaders - 1

// ownLine is how many of its questions may wait for that.
const ownLine = 16

// turn waits until a key that reads one domain may ask. It returns how to end that.
func (c *call) turn(r *http.Request, rt *route) (leave func(), err error) {
	if c.key.Domain == "" || rt.access != readers {
		return func() {}, nil
	}
	// Whoever waits has a place that those who send mail need.
	if !c.budget.line.TryAcquire(1) {
		return nil, tooMany("Too many questions at a time with this key", time.Second)
	}
	defer c.budget.line.Release(1)
	ctx, cancel := context.WithTimeout(r.Context(), placePatience)
	defer cancel()
	if err := c.budget.turns.Acquire(ctx, 1); err != nil {
		return nil, tooMany("Too many questions at a time with this key", time.Second)
	}
	if err := c.budget.together.Acquire(ctx, 1); err != nil {
		c.budget.turns.Release(1)
		return nil, unavailable("Too many questions at a time, try again later")
	}
	return func() { c.budget.together.Release(1); c.budget.turns.Release(1) }, nil
}

// own is admit for the page: to a key of one domain there are no others.
func (a *API) own(key Key, name string) (string, error) {
	domain, err := a.admit(Key{}, nil, name)
	if key.Domain != "" && domain != key.Domain {
		return "", domainNotFound(name)
	}
	return domain, err
}

// listed returns the domains that a key may see, sorted: those that have settings of
// their own, and those that the API names. A key of one domain sees that one, with
// or without settings.
func (a *API) listed(ctx context.Context, key Key) ([]string, error) {
	if key.Domain != "" {
		if !a.knows(key.Domain) {
			return nil, nil
		}
		return []string{key.Domain}, nil
	}
	names, err := a.Domains.Names(ctx)
	if err != nil {
		return nil, err
	}
	names = append(names, a.sending...)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return strings.HasPrefix(name, "*.") || !a.knows(name)
	}), nil
}
