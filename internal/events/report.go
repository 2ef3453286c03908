package events

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"tlscontrol/internal/bell"
)

// reportEvery is the least time between two reports: what is full or away must
// not fill the operator's log as well.
const reportEvery = time.Minute

// reporter tells the operator in words. What it says of when something was is not
// what the operator's log says, which is when it was told.
type reporter struct {
	report   func(msg string)
	bell     *bell.Bell
	database *outages

	mu     sync.Mutex
	losses map[string]loss // since the last report, by cause
	notes  map[string]note // the latest of each kind
}

// loss is how many documents were lost since a time.
type loss struct {
	n     int
	since time.Time
}

type note struct {
	text string
	at   time.Time
}

func startReporter(report func(string)) *reporter {
	r := &reporter{
		report: report,
		losses: make(map[string]loss),
		notes:  make(map[string]note),
	}
	r.bell = bell.New(reportEvery, r.flush)
	r.database = startOutages(r.say)
	return r
}

// lost counts n documents. The causes are few, and none comes from outside.
func (r *reporter) lost(n int, cause string) {
	r.mu.Lock()
	l, ok := r.losses[cause]
	if !ok {
		l.since = time.Now()
	}
	l.n += n
	r.losses[cause] = l
	r.mu.Unlock()
	r.bell.Ring()
}

// note tells something that cost no document. Of each kind the latest is told.
func (r *reporter) note(kind, text string) {
	r.mu.Lock()
	r.notes[kind] = note{text, time.Now()}
	r.mu.Unlock()
	r.bell.Ring()
}

func (r *reporter) flush() {
	r.mu.Lock()
	losses, notes := maps.Clone(r.losses), maps.Clone(r.notes)
	clear(r.losses)
	clear(r.notes)
	r.mu.Unlock()
	kinds := slices.SortedFunc(maps.Keys(notes), func(a, b string) int {
		return cmp.Or(notes[a].at.Compare(notes[b].at), cmp.Compare(a, b))
	})
	for _, kind := range kinds {
		r.say(fmt.Sprintf("%s: %s (at %s)", kind, notes[kind].text, stamp(notes[kind].at)))
	}
	for _, cause := range slices.Sorted(maps.Keys(losses)) {
		l, noun := losses[cause], "events"
		if l.n == 1 {
			noun = "event"
		}
		r.say(fmt.Sprintf("%d %s lost: %s (since %s)", l.n, noun, cause, stamp(l.since)))
	}
}

func (r *reporter) say(msg string) {
	defer func() { _ = recover() }() // a log that panics is no reason to end
	if r.report != nil {
		r.report(printable(msg))
	}
}

// printable keeps an error of somebody else's on one line.
func printable(msg string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, msg)
}

// close reports what is left, and does not wait for ever.
func (r *reporter) close(patience time.Duration) {
	end := time.Now().Add(patience)
	r.database.bell.Close(patience)
	r.bell.Close(time.Until(end))
}
