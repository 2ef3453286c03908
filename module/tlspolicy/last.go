package tlspolicy

import (
	"maps"
	"slices"
	"sync"
	"time"

	"tlscontrol/internal/policy"
)

const (
	// defaultKeep is how long what the table last said counts while it fails: a
	// restart or a failover of a database, not its loss.
	defaultKeep = time.Hour
	// knownPatience bounds the question about a domain of which something is
	// known. A database that works answers in milliseconds.
	knownPatience = 3 * time.Second
	// restTime is how long a table that did not answer in time is not asked about
	// domains of which something is known: otherwise each message would wait.
	restTime = 5 * time.Second
	// tellTime is the least time between two log lines about a failing table.
	tellTime = 10 * time.Second
	// maxLast bounds the domains that are remembered, those with a row and those
	// without each; up to twice as many are kept. It makes a few megabytes.
	maxLast = 16384
	// maxLastName bounds the name of a domain that is remembered, in bytes. Real
	// ones are shorter.
	maxLastName = 512
)

// lastKnown is what the table last said about the domains that were asked for,
// for the time when it fails: deliveries go on with it, for a bounded time, and
// only for domains that are known. The table is asked each time all the same, so
// nothing here hides a change from a table that answers. What is known is kept
// from growing old (refresh.go).
//
// A row that was there and cannot be read any more is not replaced by an older
// one: somebody wanted something else.
type lastKnown struct {
	keep     time.Duration // 0: nothing is remembered
	patience time.Duration // with a question about a domain that is known
	now      func() time.Time

	lock sync.Mutex
	// Domains without a row have room of their own: strangers can make up any
	// number of them, and must not push out those with one.
	rows, without generations
	failed        time.Time // when the question was asked that it last failed to answer; zero: it answers
	doubt         bool      // it failed, and domains had rows before: an empty table may be another one (empty.go)
	unanswered    time.Time // when the table last did not answer in time; zero: it does
	told          time.Time
}

// lastRow is what the table said about one domain.
type lastRow struct {
	row    *row // nil: it has none
	broken bool
	at     time.Time // when it was asked
	used   time.Time // when there was mail of the domain
}

// block returns what the row says, with a place that tells how old it is.
func (l lastRow) block() *policy.Block {
	b := l.row.block()
	if b != nil {
		b.Place += ", last known as of " + l.asOf()
	}
	return b
}

func (l lastRow) asOf() string { return l.at.UTC().Format(time.RFC3339) }

// get returns what is known about a domain and still counts.
func (k *lastKnown) get(domain string) (lastRow, bool) {
	if k.keep == 0 {
		return lastRow{}, false
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	l, ok := k.find(domain)
	if ok {
		l.used = k.now()
		k.store(domain, l)
	}
	return l, ok && !l.broken && k.now().Sub(l.at) <= k.keep
}

// put remembers an answer of the table to a question asked at a time. What was
// learnt from a later question stays: answers may overtake each other. It returns
// what was known before, if the answer took its place.
func (k *lastKnown) put(domain string, r *row, err *TableError, asked time.Time) (before lastRow, known bool) {
	if k.keep == 0 {
		return lastRow{}, false
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	if err != nil && !err.Broken {
		k.fails(asked)
		return lastRow{}, false
	}
	k.unanswered = time.Time{}
	k.trust(asked)
	before, ok := k.find(domain)
	if ok && before.at.After(asked) || len(domain) > maxLastName {
		return lastRow{}, false
	}
	l := lastRow{broken: err != nil, at: asked, used: before.used}
	if !ok {
		l.used = k.now()
	}
	if r != nil && !l.broken {
		l.row = &row{key: r.key, settings: r.settings} // the text may be long
	}
	k.store(domain, l)
	return before, ok
}

// store keeps what is known where it belongs. The lock is held.
func (k *lastKnown) store(domain string, l lastRow) {
	if l.row == nil && !l.broken {
		k.rows.drop(domain)
		k.without.put(domain, l)
		return
	}
	k.without.drop(domain)
	k.rows.put(domain, l)
}

// stale lists the domains that had mail for as long as what is known would count,
// and of which that is older than it may be: those with a row first, of them and of
// the others the oldest.
func (k *lastKnown) stale(age time.Duration) []string {
	k.lock.Lock()
	defer k.lock.Unlock()
	now := k.now()
	var domains []string
	for _, known := range []generations{k.rows, k.without} {
		all := maps.Clone(known.old)
		if all == nil {
			all = make(map[string]lastRow)
		}
		maps.Copy(all, known.young)
		maps.DeleteFunc(all, func(_ string, l lastRow) bool { return now.Sub(l.used) > k.keep || now.Sub(l.at) < age })
		domains = append(domains, slices.SortedFunc(maps.Keys(all), func(a, b string) int { return all[a].at.Compare(all[b].at) })...)
	}
	return domains
}

// find returns what is known, however old. The lock is held.
func (k *lastKnown) find(domain string) (lastRow, bool) {
	if l, ok := k.rows.get(domain); ok {
		return l, true
	}
	return k.without.get(domain)
}

// rest notes that the table did not answer in time.
func (k *lastKnown) rest() {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.unanswered = k.now()
}

// resting reports whether the table failed to answer in time a moment ago.
func (k *lastKnown) resting() bool {
	k.lock.Lock()
	defer k.lock.Unlock()
	return !k.unanswered.IsZero() && k.now().Sub(k.unanswered) < restTime
}

// tell reports whether it is time for a log line.
func (k *lastKnown) tell() bool {
	k.lock.Lock()
	defer k.lock.Unlock()
	now := k.now()
	if !k.told.IsZero() && now.Sub(k.told) < tellTime {
		return false
	}
	k.told = now
	return true
}

// generations is a map that forgets what was not used lately. When the young
// one is full it becomes the old one, and the old one is dropped.
type generations struct{ young, old map[string]lastRow }

func (g *generations) get(domain string) (lastRow, bool) {
	if l, ok := g.young[domain]; ok {
		return l, true
	}
	l, ok := g.old[domain]
	if ok {
		g.put(domain, l)
	}
	return l, ok
}

func (g *generations) put(domain string, l lastRow) {
	if _, ok := g.young[domain]; !ok && len(g.young) >= maxLast {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = make(map[string]lastRow)
	}
	g.young[domain] = l
}

func (g *generations) drop(domain string) {
	delete(g.young, domain)
	delete(g.old, domain)
}
