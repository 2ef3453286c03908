package events

import (
	"fmt"
	"sync"
	"time"

	"tlscontrol/internal/bell"
)

// The database goes away and comes back rarely: so many changes are told at once.
// Where it does so all the time, some are told together, once in changeEvery.
const (
	changesAtOnce = 4
	changeEvery   = 20 * time.Second
)

// outages tells the operator that the database is away, again in each minute that
// it stays so, and that it is back. Every line says since when, which may be a while
// before: that a statement hangs is known when its time is over. No end is told
// without its beginning.
type outages struct {
	say  func(msg string)
	bell *bell.Bell

	mu   sync.Mutex
	now  *outage     // nil while the database is there
	over overOutages // since the end of one was told last
}

// outage is a time in which the database takes no events.
type outage struct {
	since time.Time
	why   string    // what was the matter last, and what becomes of events
	told  time.Time // when this was told last; zero: not yet
}

// overOutages sums up outages that are over.
type overOutages struct {
	first outage
	times int
	total time.Duration
	until time.Time // the end of the last one
}

func startOutages(say func(string)) *outages {
	o := &outages{say: say}
	o.bell = bell.NewPatient(changeEvery, changesAtOnce, o.flush)
	return o
}

// away notes that what was begun then has failed.
func (o *outages) away(since time.Time, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		o.now = &outage{since: since}
	}
	o.now.why = why
	if o.now.due() {
		o.bell.Ring()
	}
}

// back notes that the database works, which is what it usually does.
func (o *outages) back() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.now == nil {
		return
	}
	if o.over.times == 0 {
		o.over.first = *o.now
	}
	o.over.times++
	o.over.until = time.Now()
	o.over.total += o.over.until.Sub(o.now.since)
	o.now = nil
	o.bell.Ring()
}

// flush tells what has changed.
func (o *outages) flush() {
	for _, msg := range o.take() {
		o.say(msg)
	}
}

func (o *outages) take() (msgs []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over.times > 0 {
		if o.over.first.told.IsZero() {
			msgs = append(msgs, o.over.first.String())
		}
		msgs = append(msgs, o.over.String())
		o.over = overOutages{}
	}
	if o.now != nil && o.now.due() {
		msgs = append(msgs, o.now.String())
		o.now.told = time.Now()
	}
	return msgs
}

// due reports whether it is time to tell of an outage.
func (o *outage) due() bool { return time.Since(o.told) >= reportEvery }

func (o *outage) String() string {
	return "the database: is away since " + stamp(o.since) + ", " + o.why
}

func (e *overOutages) String() string {
	msg := fmt.Sprintf("the database: is back since %s, was away since %s, for %v",
		stamp(e.until), stamp(e.first.since), e.total.Round(100*time.Millisecond))
	if e.times > 1 {
		msg += fmt.Sprintf(" in all, %d times", e.times)
	}
	return msg
}

// stamp is a time in the operator's log, whose own times are those of the telling.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
