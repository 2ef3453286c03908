package events

import (
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

// reporter tells the operator in words.
type reporter struct {
	report func(msg string)
	bell   *bell.Bell

	mu     sync.Mutex
	losses map[string]int    // documents lost since the last report, by cause
	notes  map[string]string // the latest of each kind
}

func startReporter(report func(string)) *reporter {
	r := &reporter{
		report: report,
		losses: make(map[string]int),
		notes:  make(map[string]string),
	}
	r.bell = bell.New(reportEvery, r.flush)
	return r
}

// lost counts n documents. The causes are few, and none comes from outside.
func (r *reporter) lost(n int, cause string) {
	r.mu.Lock()
	r.losses[cause] += n
	r.mu.Unlock()
	r.bell.Ring()
}

// note tells something that cost no document. Of each kind the latest is told.
func (r *reporter) note(kind, text string) {
	r.mu.Lock()
	r.notes[kind] = text
	r.mu.Unlock()
	r.bell.Ring()
}

func (r *reporter) flush() {
	r.mu.Lock()
	losses, notes := maps.Clone(r.losses), maps.Clone(r.notes)
	clear(r.losses)
	clear(r.notes)
	r.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(notes)) {
		r.say(kind + ": " + notes[kind])
	}
	for _, cause := range slices.Sorted(maps.Keys(losses)) {
		noun := "events"
		if losses[cause] == 1 {
			noun = "event"
		}
		r.say(fmt.Sprintf("%d %s lost: %s", losses[cause], noun, cause))
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
func (r *reporter) close(patience time.Duration) { r.bell.Close(patience) }
