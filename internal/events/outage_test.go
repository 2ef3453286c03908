package events

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told runs a test with a reporter and a clock of its own. What was reported begins
// with the second in which it was.
func told(t *testing.T, run func(t *testing.T, r *reporter, said func() string)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		log := &lines{}
		r := startReporter(func(msg string) { log.add(fmt.Sprint(int(time.Since(begin).Seconds()), " ", msg)) })
		run(t, r, func() string {
			synctest.Wait()
			log.Lock()
			defer log.Unlock()
			return strings.Join(log.all, "\n")
		})
	})
}

func want(t *testing.T, said string, lines ...string) {
	t.Helper()
	if w := strings.Join(lines, "\n"); said != w {
		t.Errorf("told\n%s\nwant\n%s", said, w)
	}
}

// TestOutageIsToldAtOnce: also beside other news, and a second one soon after; as
// long as it lasts again in each minute. Lines say when it was.
func TestOutageIsToldAtOnce(t *testing.T) {
	told(t, func(t *testing.T, r *reporter, said func() string) {
		r.note("the clock", "is wrong")
		for range 2 {
			time.Sleep(10 * time.Second)
			r.database.away(time.Now().Add(-3*time.Second), "events wait: gone")
			time.Sleep(time.Second)
			r.database.away(time.Now(), "events wait: still gone")
			time.Sleep(time.Second)
			r.database.back()
			r.database.back()
		}
		time.Sleep(time.Hour)
		for range 70 {
			r.database.away(time.Now(), "events wait: gone")
			time.Sleep(time.Second)
		}
		r.close(time.Second)
		want(t, said(),
			"0 the clock: is wrong (at 2000-01-01T00:00:00Z)",
			"10 the database: is away since 2000-01-01T00:00:07Z, events wait: gone",
			"12 the database: is back since 2000-01-01T00:00:12Z, was away since 2000-01-01T00:00:07Z, for 5s",
			"22 the database: is away since 2000-01-01T00:00:19Z, events wait: gone",
			"24 the database: is back since 2000-01-01T00:00:24Z, was away since 2000-01-01T00:00:19Z, for 5s",
			"3624 the database: is away since 2000-01-01T01:00:24Z, events wait: gone",
			"3684 the database: is away since 2000-01-01T01:00:24Z, events wait: gone",
		)
	})
}

// TestOutagesWithoutEnd: a database that comes and goes every 1.5 seconds does not fill
// the log, and each "is back" has its "is away" before it.
func TestOutagesWithoutEnd(t *testing.T) {
	told(t, func(t *testing.T, r *reporter, said func() string) {
		for range 30 {
			r.database.away(time.Now(), "gone")
			time.Sleep(700 * time.Millisecond)
			r.database.back()
			time.Sleep(800 * time.Millisecond)
		}
		r.close(time.Second)
		want(t, said(),
			"0 the database: is away since 2000-01-01T00:00:00Z, gone",
			"0 the database: is back since 2000-01-01T00:00:00Z, was away since 2000-01-01T00:00:00Z, for 700ms",
			"1 the database: is away since 2000-01-01T00:00:01Z, gone",
			"2 the database: is back since 2000-01-01T00:00:02Z, was away since 2000-01-01T00:00:01Z, for 700ms",
			"20 the database: is away since 2000-01-01T00:00:03Z, gone",
			"20 the database: is back since 2000-01-01T00:00:18Z, was away since 2000-01-01T00:00:03Z, for 7.7s in all, 11 times",
			"20 the database: is away since 2000-01-01T00:00:19Z, gone",
			"40 the database: is back since 2000-01-01T00:00:39Z, was away since 2000-01-01T00:00:19Z, for 9.8s in all, 14 times",
			"45 the database: is away since 2000-01-01T00:00:40Z, gone",
			"45 the database: is back since 2000-01-01T00:00:44Z, was away since 2000-01-01T00:00:40Z, for 2.1s in all, 3 times",
		)
	})
}

// TestNotesSayWhen: what had to wait says of when it is, and comes in that order.
func TestNotesSayWhen(t *testing.T) {
	told(t, func(t *testing.T, r *reporter, said func() string) {
		r.lost(1, "too large")
		time.Sleep(10 * time.Second)
		r.note("the journal cannot be written", "full")
		r.lost(2, "too large")
		time.Sleep(10 * time.Second)
		r.lost(3, "too large")
		r.note("the journal", "takes events again")
		time.Sleep(time.Hour)
		r.close(time.Second)
		want(t, said(),
			"0 1 event lost: too large (since 2000-01-01T00:00:00Z)",
			"60 the journal cannot be written: full (at 2000-01-01T00:00:10Z)",
			"60 the journal: takes events again (at 2000-01-01T00:00:20Z)",
			"60 5 events lost: too large (since 2000-01-01T00:00:10Z)",
		)
	})
}
