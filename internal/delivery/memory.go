package delivery

import (
	"time"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/tlsplan"
)

// Downgrade tells that an MX host gave less than it had proved before, under a
// plan that took what it got.
type Downgrade struct {
	Host     string // MX host name, A-labels
	Expected downgrade.Expectation
	Action   downgrade.Action // what the operator wants done about it
}

// expecting settles what g may expect of a host from what the host proved before,
// and returns the plan for it: g's own, or one raised by the expectation where
// the operator wants deliveries deferred rather than downgraded.
func (d *run) expecting(g *group, host string) tlsplan.Plan {
	g.expected = d.e.memory.Expected(host, *g.plan)
	if d.action(g) == downgrade.Defer {
		return g.expected.Raise(*g.plan)
	}
	return *g.plan
}

// action is what the operator wants done about hosts that give less. A message that
// says TLS-Required: No would rather arrive (RFC 8689), as reports to recipients
// whose TLS broke have to.
func (d *run) action(g *group) downgrade.Action {
	if a := d.e.memory.Action(); a != downgrade.Defer || !g.lifted {
		return a
	}
	return downgrade.Log
}

// remember takes note of what s proved, or that it falls short of what the host
// had proved, after it was of use to a message and before anybody is told. A
// connection proves something once, when it is made.
func (d *run) remember(g *group, s *session) {
	if !s.reused {
		d.e.memory.Proved(s.host, s.outcome)
	}
	if g.expected.GaveLess(s.outcome) {
		g.downgrade = d.downgraded(g, s.host, s.outcome)
	}
}

// refusedByMemory takes note if a host was given up only because it had proved
// more: f, from a raised plan, then says so.
func (d *run) refusedByMemory(g *group, on *Connection, f *Failure) {
	if !f.Reason.IsTLS() || g.expected.Met(on.Outcome) {
		return
	}
	what := "TLS"
	if g.expected.Level == downgrade.Verified {
		what = "verified TLS"
	}
	f.Message = printable(on.Host+" gave "+what+" on "+g.expected.LastSeen.Format(time.DateOnly)+
		" and cannot give it now: "+problemOf(on.Outcome).String(), maxStatusText)
	// The most preferred host speaks, as in everything else.
	if told := d.downgraded(g, on.Host, on.Outcome); g.downgrade == nil {
		g.downgrade = told
	}
}

// downgraded makes the Downgrade, and tells maddy's log of the host now and then.
func (d *run) downgraded(g *group, host string, o tlsplan.Outcome) *Downgrade {
	x, action := g.expected, d.action(g)
	if d.look == nil && d.e.memory.Tell(host) {
		d.e.cfg.Log.Warn("an MX host gives less TLS than it did before",
			"mx_host", host, "domain", g.domain, "expected", string(x.Level), "verification", string(x.By),
			"last_seen", x.LastSeen.Format(time.RFC3339), "problem", printable(problemOf(o).String(), maxStatusText),
			"downgrade_action", string(action))
	}
	return &Downgrade{Host: host, Expected: x, Action: action}
}
