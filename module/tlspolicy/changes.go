package tlspolicy

import (
	"sync"
	"time"

	"tlscontrol/internal/policy"
)

// Settings in the table change behind the server's back: by the command line, another
// relay, or SQL. What it reads differs then from what it knew, and that is a line in
// the log, so that somebody who asks afterwards who loosened a domain, and when, finds
// something. The API's own changes are known at once, and told by the API, with its key.

const (
	// changeTime is the time in which at most maxChanges changes have a line each; of more
	// only their number is told: a table may be filled anew.
	changeTime = time.Minute
	maxChanges = 50
)

// changeLog counts the lines about changes.
type changeLog struct {
	lock   sync.Mutex
	began  time.Time // of the changeTime that counts
	lines  int       // in it
	untold int       // changes without a line since
}

// turn reports whether a change may have its line, and how many had none before, if it
// is time to tell that.
func (c *changeLog) turn(now time.Time) (tell bool, untold int) {
	c.lock.Lock()
	defer c.lock.Unlock()
	untold = c.next(now)
	if c.lines == maxChanges {
		c.untold++
		return false, untold
	}
	c.lines++
	return true, untold
}

// rest is how many changes had no line, if it is time to tell that.
func (c *changeLog) rest(now time.Time) int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.next(now)
}

// end is how many changes had no line at last.
func (c *changeLog) end() int {
	c.lock.Lock()
	defer c.lock.Unlock()
	untold := c.untold
	c.untold = 0
	return untold
}

// next begins a new time if the one before is over. The lock is held.
func (c *changeLog) next(now time.Time) (untold int) {
	if now.Sub(c.began) < changeTime {
		return 0
	}
	untold = c.untold
	c.began, c.lines, c.untold = now, 0, 0
	return untold
}

// learn remembers an answer of the table (see put), and tells of a change.
func (m *Module) learn(domain string, r *row, err *TableError, asked time.Time) {
	before, known := m.last.put(domain, r, err, asked)
	if !known {
		return
	}
	broken := err != nil
	was, is := settingsOf(before.row, before.broken), settingsOf(r, broken)
	if was == is {
		return
	}
	tell, untold := m.changes.turn(m.last.now())
	m.tellUntold(untold)
	if !tell {
		return
	}
	fields := []any{"domain", domain, "seen_in", "table", "known_since", before.asOf()}
	for i, name := range policy.SettingNames() {
		if i < 2 || was.value(name) != is.value(name) { // require_tls and skip_verification are always there
			fields = append(fields, name, is.value(name), name+"_before", was.value(name))
		}
	}
	m.log.Msg("domain settings changed", fields...)
}

// tellUntold tells of changes that had no line.
func (m *Module) tellUntold(n int) {
	if n > 0 {
		m.log.Msg("settings of more domains changed", "changes", n, "seen_in", "table")
	}
}

// said is what a row says, for comparing.
type said struct {
	settings policy.Block
	broken   bool
}

func settingsOf(r *row, broken bool) said {
	if broken || r == nil {
		return said{broken: broken}
	}
	return said{settings: r.settings}
}

// value is a setting in words.
func (s said) value(name string) string {
	switch value := s.settings.Get(name); {
	case s.broken:
		return "unreadable"
	case value == "":
		return "absent"
	default:
		return value
	}
}
