package mtasts

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxPolicies and maxBytes bound what is remembered, in memory and on disk;
	// whichever is reached first makes what was not used for longest go.
	maxPolicies = 50_000
	maxBytes    = 64 << 20
	// maxFailures bounds the domains whose policy cannot be fetched. They have a
	// table of their own: nobody's failures shall push another's policy out.
	maxFailures = 10_000
	// entryBytes is about what an entry costs without names and lists.
	entryBytes = 700
)

// entry is what is known of one domain. Its parts are replaced, never changed.
type entry struct {
	policy *Policy   // the last one fetched; nil if there never was one
	record string    // TXT record last seen with the policy's id
	used   time.Time // when it was last asked for
	// refresh is when it is to be fetched again though nobody waits for it; zero if
	// its life is too short for that.
	refresh time.Time
	failure *failure  // of the last fetch, nil if that succeeded
	silent  time.Time // when the TXT record last could not be looked up
}

// failure is how a fetch failed.
type failure struct {
	err *Error
	at  time.Time
	id  string // in the TXT record that led to it
}

func (e *entry) size(domain string) int {
	size := entryBytes + 2*len(domain) + len(e.record)
	if e.policy != nil {
		for _, mx := range e.policy.MX {
			size += 16 + len(mx)
		}
	}
	return size
}

// table remembers domains, within bounds.
type table struct {
	maxBytes int

	mu       sync.Mutex
	policies *simplelru.LRU[string, *entry]
	failures *simplelru.LRU[string, *entry] // of domains without a policy
	bytes    int                            // of policies
	gone     []string                       // pushed out, and not told yet
}

func newTable(policies, failures, bytes int) *table {
	t := &table{maxBytes: bytes}
	var err, err2 error
	t.policies, err = simplelru.NewLRU(policies, func(domain string, e *entry) {
		t.bytes -= e.size(domain)
		t.gone = append(t.gone, domain)
	})
	t.failures, err2 = simplelru.NewLRU[string, *entry](failures, nil)
	if err != nil || err2 != nil {
		panic("mtasts: a table needs room") // Only for sizes that are not positive.
	}
	return t
}

// use returns what is known of a domain that mail goes to.
func (t *table) use(domain string, now time.Time) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.policies.Get(domain); ok {
		e.used = now
		return *e
	}
	return t.peek(domain)
}

// look returns what is known of a domain.
func (t *table) look(domain string) entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peek(domain)
}

// peek needs t.mu.
func (t *table) peek(domain string) entry {
	if e, ok := t.policies.Peek(domain); ok {
		return *e
	}
	if e, ok := t.failures.Get(domain); ok {
		return *e
	}
	return entry{}
}

// put remembers a policy and forgets failures. It returns the domains that had
// to go for it.
func (t *table) put(domain string, e entry) (gone []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures.Remove(domain)
	t.policies.Remove(domain)
	t.gone = nil // The domain itself, which comes back.
	t.bytes += e.size(domain)
	t.policies.Add(domain, &e)
	for t.bytes > t.maxBytes {
		t.policies.RemoveOldest()
	}
	gone, t.gone = t.gone, nil
	return gone
}

// fail remembers how a fetch failed.
func (t *table) fail(domain string, f failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.policies.Peek(domain); ok {
		e.failure = &f
		return
	}
	t.failures.Add(domain, &entry{failure: &f})
}

// change alters what is known of a domain that has a policy.
func (t *table) change(domain string, alter func(*entry)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.policies.Peek(domain); ok {
		before := e.size(domain)
		alter(e)
		t.bytes += e.size(domain) - before
	}
}

// due lists the domains whose policies are to be refreshed and were used since,
// those that expire first in front, and drops and lists those that have expired.
func (t *table) due(now, since time.Time) (refresh, expired []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, domain := range t.policies.Keys() {
		e, ok := t.policies.Peek(domain)
		switch {
		case !ok:
		case !e.policy.freshAt(now):
			t.policies.Remove(domain)
			if e.failure != nil {
				t.failures.Add(domain, &entry{failure: e.failure})
			}
		case !e.refresh.IsZero() && !now.Before(e.refresh) && e.used.After(since):
			refresh = append(refresh, domain)
		}
	}
	expired, t.gone = t.gone, nil
	return refresh, expired
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.policies.Len()
}
