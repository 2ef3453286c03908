package downgrade

import (
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// Action is what to do when a host gives less than it proved.
type Action string

// The actions; the words of downgrade_action and of the document.
const (
	Off   Action = "off"   // neither remember nor compare
	Log   Action = "log"   // tell, and change nothing
	Defer Action = "defer" // use the host for nothing less than it proved
)

// Level is what a host proved.
type Level string

// The levels; nothing proved is "".
const (
	TLS      Level = "tls"      // TLS, whatever its certificate
	Verified Level = "verified" // TLS with a certificate that checked out
)

// Evidence is what one host proved, and when last. Zero times stand for never;
// whoever proved Verified proved TLS.
type Evidence struct {
	TLS      time.Time
	Verified time.Time
	// By is how the certificate was last found good, empty if it never was.
	By tlsplan.Verification
}

// resolution is how exactly times are kept. A busy host proves the same every
// second, and must not be written down every second.
const resolution = time.Hour

// with returns the evidence after a connection turned out as o, and whether that
// is worth noting.
func (e Evidence) with(o tlsplan.Outcome, now time.Time) (Evidence, bool) {
	if !o.TLS {
		return e, false
	}
	next := e
	if !recent(e.TLS, now, resolution) {
		next.TLS = now
	}
	if o.Verified() && !recent(e.Verified, now, resolution) {
		next.TLS, next.Verified, next.By = now, now, o.Verification
	}
	return next, next != e
}

// after returns what is left of the evidence without what is older than since.
func (e Evidence) after(since time.Time) Evidence {
	if e.TLS.Before(since) {
		e.TLS = time.Time{}
	}
	if e.Verified.Before(since) {
		e.Verified, e.By = time.Time{}, ""
	}
	return e
}

// IsZero reports whether nothing was proved.
func (e Evidence) IsZero() bool { return e.TLS.IsZero() && e.Verified.IsZero() }

// Level is the most that was proved.
func (e Evidence) Level() Level {
	switch {
	case !e.Verified.IsZero():
		return Verified
	case !e.TLS.IsZero():
		return TLS
	}
	return ""
}

// Expectation is what a plan may expect of a host. Zero expects nothing.
type Expectation struct {
	Level    Level
	By       tlsplan.Verification // how the certificate was found good, for Verified
	LastSeen time.Time            // when it was proved last
}

// Expect says what p may expect of a host with this evidence. Plans that demand
// something themselves expect nothing, and one that does not care for
// certificates expects TLS of a host that proved more.
func (e Evidence) Expect(p tlsplan.Plan) Expectation {
	switch level := e.Level(); {
	case p.Requires() || level == "":
		return Expectation{}
	case level == Verified && !p.Skip:
		return Expectation{Level: Verified, By: e.By, LastSeen: e.Verified}
	}
	return Expectation{Level: TLS, LastSeen: e.TLS}
}

// Met reports whether a connection that turned out as o is what was expected.
func (x Expectation) Met(o tlsplan.Outcome) bool {
	switch x.Level {
	case TLS:
		return o.TLS
	case Verified:
		return o.Verified()
	}
	return true
}

// GaveLess reports whether a host whose connection turned out as o gave less than it
// had proved. One that proved TLS alone, and gives it with a certificate that we mind,
// does what it always did; that a message then goes in clear is our choice.
func (x Expectation) GaveLess(o tlsplan.Outcome) bool {
	return !x.Met(o) && (x.Level != TLS || !o.GaveTLS())
}

// Raise makes of an opportunistic plan one that only a connection meets which
// meets the expectation as well, and that refuses no other fresh one. Failures are
// temporary: what the host proved may come back, or the operator lets it go.
//
// Where TLS is expected, a bad certificate is taken rather than clear text, also
// by plans that would have gone on in clear: it is what the host proved, and the
// alternative is not to deliver at all.
func (x Expectation) Raise(p tlsplan.Plan) tlsplan.Plan {
	switch x.Level {
	case TLS:
		p.Demand, p.KeepUnverified = tlsplan.DemandTLS, true
	case Verified:
		p.Demand, p.KeepUnverified = tlsplan.DemandVerified, false
	default:
		return p
	}
	p.OnFailure = policy.Defer
	return p
}
