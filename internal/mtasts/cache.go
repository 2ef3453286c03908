package mtasts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"tlscontrol/internal/route"
)

// Config is what a Cache is made of.
type Config struct {
	Resolver Resolver
	Roots    *x509.CertPool // for policy hosts; nil: the system's
	Port     int            // of policy hosts; 0: 443
	// Dir is where policies outlive a restart; "": nowhere. A directory that cannot
	// be read or written costs a log line.
	Dir string
	// ReadOnly leaves Dir as it is and refreshes nothing before it is asked for, for
	// commands beside the server that owns it.
	ReadOnly bool
	// AllowPrivate admits policy hosts at addresses that are not on the Internet.
	AllowPrivate bool
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // for the age of policies; nil: time.Now

	// read reads a file of Dir; nil: readFile. Another disk is for tests: root, who
	// runs some, may read everything.
	read func(path string) ([]byte, error)
	// drain is how long Close waits for the disk; 0: drainTimeout.
	drain time.Duration
}

// Result is what Lookup found out.
type Result struct {
	Policy *Policy // nil: no policy applies, mail goes as it would without MTA-STS
	// Err is an *Error that says why there is none although there might be, or why
	// the one at hand, which is valid, could not be refreshed. A domain without
	// MTA-STS has neither.
	Err error
	// Unread is why a policy that is on disk cannot be read, where no other is known.
	// It may demand more than mail would get without it, which therefore has to wait.
	// It is for the operator: it names the file.
	Unread error
}

// Cache knows policies. It may be used from several goroutines.
type Cache struct {
	resolver Resolver
	client   client
	log      *slog.Logger
	clock    func() time.Time
	table    *table
	disk     *writer // nil without a directory
	unread   unread
	readFile func(path string) ([]byte, error)

	flights   singleflight.Group
	patience  time.Duration // patience
	places    chan struct{} // taken by fetches that somebody waits for
	upkeeping sync.Mutex    // one round at a time

	ctx     context.Context // of fetches; ends with Close
	stop    context.CancelCauseFunc
	running sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// errClosed is why fetches fail after Close.
var errClosed = errors.New("the cache is closed")

// New makes a cache and reads the policies that are on disk. Close it to end its
// goroutines.
func New(cfg Config) (*Cache, error) {
	if cfg.Resolver == nil {
		return nil, errors.New("mtasts: no resolver")
	}
	if cfg.Port == 0 {
		cfg.Port = 443
	}
	if cfg.Port < 1 || cfg.Port > 65535 {
		return nil, fmt.Errorf("mtasts: %d is no port", cfg.Port)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.read == nil {
		cfg.read = readFile
	}
	c := &Cache{
		resolver: cfg.Resolver,
		client: client{
			resolver: cfg.Resolver, roots: cfg.Roots, port: cfg.Port, allowPrivate: cfg.AllowPrivate,
		},
		log:      cfg.Log,
		clock:    cfg.Now,
		readFile: cfg.read,
		table:    newTable(maxPolicies, maxFailures, maxBytes),
		places:   make(chan struct{}, maxFetches), patience: patience,
	}
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	if cfg.Dir != "" {
		c.disk = startWriter(cfg, c.log)
		c.load()
	}
	if !cfg.ReadOnly {
		c.running.Go(c.keepUp)
	}
	return c, nil
}

// Close ends fetches and goroutines and writes what is not on disk yet. Lookups
// find what is remembered afterwards, and fetch nothing.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop(errClosed)
	c.running.Wait()
	if c.disk != nil {
		c.disk.close()
	}
}

// enter counts a flight, unless the cache is closed. The caller tells c.running
// when the flight is done.
func (c *Cache) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Add(1)
	return true
}

// now is the time of day: a monotonic clock stands still while a machine sleeps,
// and policies age.
func (c *Cache) now() time.Time { return c.clock().Round(0).UTC() }

// askAgain is how long the TXT record of a domain with a valid policy is not
// asked for after a lookup of it failed, so that not each message waits for a
// resolver in trouble.
const askAgain = time.Minute

// patience is how long mail waits for a newer policy while it has a valid one.
const patience = 10 * time.Second

// Lookup finds the policy that applies to mail for a domain, given in U- or
// A-labels, now. It may take as long as a fetch, one minute, where nothing is
// known of the domain; it ends with ctx.
func (c *Cache) Lookup(ctx context.Context, domain string) Result {
	name, ok := policyDomain(domain)
	if !ok {
		return Result{}
	}
	now := c.now()
	// Asked before anything else: what can be read while we wait in vain is in the table
	// by then, where we have looked already.
	unread := c.unread.cause(name)
	known := c.table.use(name, now)
	policy, failure := c.current(ctx, name, known, now)
	if policy != nil && policy.Mode == None {
		// How a domain takes its policy back (RFC 8461, 8.3). If it cannot be fetched
		// again, nothing is lost.
		return Result{}
	}
	if policy == nil && unread != nil && failure == nil {
		// A record that is gone, or that somebody hides, ends no policy (RFC 8461, 3.3).
		failure = &Error{Kind: Internal, Domain: name, Err: errUnread}
	}
	switch {
	case failure == nil:
		return Result{Policy: policy} // A nil *Error would be an error.
	case policy == nil:
		return Result{Err: failure, Unread: unread}
	}
	return Result{Policy: policy, Err: failure}
}

// current decides whether what is known of a domain will do, and fetches a policy
// if not. Whatever happens, a valid policy stays in force (RFC 8461, 3.3).
func (c *Cache) current(ctx context.Context, name string, known entry, now time.Time) (policy *Policy, failure *Error) {
	var held *Policy
	if known.policy.freshAt(now) {
		held = known.policy
	}
	defer func() {
		if broken := recover(); broken != nil {
			policy, failure = held, &Error{Kind: Internal, Domain: name, Err: fmt.Errorf("internal error: %v", broken)}
		}
	}()
	if held != nil && recently(known.silent, now, askAgain) {
		return held, &Error{Kind: DNS, Domain: name, Err: errSilent}
	}
	id, failure := c.announced(ctx, name, &known)
	switch {
	case failure != nil || id == "":
		if held != nil && failure != nil && failure.Kind == DNS {
			c.table.change(name, func(e *entry) { e.silent = now })
		}
		return held, failure
	case held != nil && held.ID == id, !known.mayFetch(now, id):
		return held, known.fault()
	}
	return c.join(ctx, name, id, held)
}

// errSilent stands in for the failure that keeps us from asking.
var errSilent = errors.New("the TXT record could not be looked up a moment ago")

// announced returns the id in the domain's TXT record, "" if it has none.
func (c *Cache) announced(ctx context.Context, name string, known *entry) (id string, failure *Error) {
	texts, err := c.resolver.TXT(ctx, recordPrefix+name)
	if err != nil {
		return "", unanswered(ctx, name, err)
	}
	record, err := pick(texts)
	switch {
	case err != nil:
		return "", &Error{Kind: Invalid, Domain: name, Err: err}
	case record == "":
		return "", nil
	case known.policy != nil && record == known.record:
		return known.policy.ID, nil
	}
	id, err = recordID(record)
	if err != nil {
		return "", &Error{Kind: Invalid, Domain: name, Err: err}
	}
	if known.policy != nil && id == known.policy.ID {
		// Known by its text next time.
		c.table.change(name, func(e *entry) {
			if e.policy.ID == id {
				e.record = record
			}
		})
	}
	return id, nil
}

// unanswered is what it means that a TXT record could not be looked up: nothing,
// if there is no such name.
func unanswered(ctx context.Context, name string, err error) *Error {
	var missing *route.Error
	switch {
	case errors.As(err, &missing) && missing.Kind == route.NotFound:
		return nil
	case ctx.Err() != nil:
		return &Error{Kind: Internal, Domain: name, Err: context.Cause(ctx)}
	}
	return &Error{Kind: DNS, Domain: name, Err: err}
}

// fault is how the last fetch failed, if it did.
func (e *entry) fault() *Error {
	if e.failure == nil {
		return nil
	}
	return e.failure.err
}
