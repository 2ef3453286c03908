package route

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxTTL bounds how long a record is believed, as RFC 8767, section 4 advises
	// (days to weeks; we take one day). It also settles what a TTL with the highest
	// bit set means.
	maxTTL = 24 * time.Hour
	// maxNegativeTTL bounds how long an absence is believed. RFC 2308, section 5
	// allows up to three hours; a domain that has just been set up should not wait
	// that long for its first mail.
	maxNegativeTTL = 15 * time.Minute
	// failureTTL is how long a lookup that failed is not repeated, so that a name
	// or resolver in trouble is not asked again by every message. RFC 9520, 3.2
	// wants one second at least and five minutes at most. A queue comes back much
	// later than that, so nobody's next attempt sees an old failure.
	failureTTL = time.Second

	// maxEntries and maxBytes bound the cache; whichever is reached first makes
	// what was not used for longest go.
	maxEntries = 100_000
	maxBytes   = 32 << 20
)

// question is what is asked, and what its answer is remembered by.
type question struct {
	name  string // A-labels, lower case, no final dot
	qtype uint16
}

// entry is how a lookup ended.
type entry struct {
	finding
	failure *Error        // in place of the finding; shared, not to be changed
	expires time.Duration // on the resolver's clock
}

// entryBytes is about what an entry costs without names and lists, measured: the
// list element, the slot in the map, rounding.
const entryBytes = 360

// size is about what an entry costs.
func (e *entry) size(q question) int {
	size := entryBytes + len(q.name) + 24*len(e.ips)
	for i := range e.hosts {
		size += 40 + len(e.hosts[i].Name)
	}
	for _, text := range e.texts {
		size += 16 + len(text)
	}
	for i := range e.tlsa {
		size += 32 + len(e.tlsa[i].CertAssoc)
	}
	if e.name != q.name {
		size += len(e.name)
	}
	if e.failure != nil {
		size += entryBytes
	}
	return size
}

// cache remembers answers until they expire, within bounds.
type cache struct {
	maxEntries, maxBytes int

	mu      sync.Mutex
	entries *simplelru.LRU[question, entry]
	bytes   int
	most    int // entries since the table was made
}

func newCache(maxEntries, maxBytes int) *cache {
	c := &cache{maxEntries: maxEntries, maxBytes: maxBytes}
	c.reset()
	return c
}

// reset begins with an empty table: a map that was large once stays large. It
// needs c.mu.
func (c *cache) reset() {
	entries, err := simplelru.NewLRU(c.maxEntries, func(q question, e entry) { c.bytes -= e.size(q) })
	if err != nil {
		panic(err) // Only for a size that is not positive.
	}
	c.entries, c.bytes, c.most = entries, 0, 0
}

// smallTable is a table that may stay as large as it is.
const smallTable = 1000

// shrink moves what is left of a table that was much larger into a new one. It
// needs c.mu.
func (c *cache) shrink() {
	if c.entries.Len() > 0 && (c.most <= smallTable || c.entries.Len() > c.most/4) {
		return
	}
	old := c.entries
	c.reset()
	for _, q := range old.Keys() { // the least recently used first
		if e, ok := old.Peek(q); ok {
			c.add(q, e)
		}
	}
}

// add needs c.mu.
func (c *cache) add(q question, e entry) {
	c.bytes += e.size(q)
	c.entries.Add(q, e)
	c.most = max(c.most, c.entries.Len())
}

// get returns the entry for q that has not expired.
func (c *cache) get(q question, now time.Duration) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.Get(q)
	if !ok || now >= e.expires {
		return entry{}, false
	}
	return e, true
}

func (c *cache) put(q question, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Remove(q)
	c.add(q, e)
	for c.bytes > c.maxBytes {
		c.entries.RemoveOldest()
	}
}

// sweep drops what has expired. It gives the lock back between entries, so that
// a full cache does not hold up lookups.
func (c *cache) sweep(now time.Duration) {
	c.mu.Lock()
	questions := c.entries.Keys()
	c.mu.Unlock()
	for _, q := range questions {
		c.mu.Lock()
		if e, ok := c.entries.Peek(q); ok && now >= e.expires {
			c.entries.Remove(q)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink()
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}
