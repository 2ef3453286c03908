package delivery

import (
	"net/netip"
	"time"

	"tlscontrol/internal/tlsplan"
)

// Probed is one address that answered when a host was probed.
type Probed struct {
	IP, LocalIP netip.Addr
	// Seen is what the handshake showed, also where it was then refused; without
	// TLS if there was none, or it broke before it showed anything.
	Seen tlsplan.Outcome
	// Outcome is the connection on which the message would have crossed, or the
	// address was given up.
	Outcome tlsplan.Outcome
	Seconds float64 // from dialling until that was settled
	// Failure is why the address was given up, nil if the message would have
	// crossed.
	Failure *Failure
}

// Under says what another plan for the same host would do with the connection: nil
// if the message would have crossed, else why not.
func (p *Probed) Under(plan tlsplan.Plan) *tlsplan.Problem {
	o := p.Outcome
	if !o.TLS && o.Problem == nil {
		return &tlsplan.Problem{Reason: p.reason()} // lost before that was known
	}
	if !o.TLS && o.Problem.Reason.IsCertificate() {
		o = p.Seen // Another plan might keep what this one gave up.
	}
	judgement, problem := plan.Judge(o)
	if judgement == tlsplan.Accept {
		judgement, problem = plan.JudgeExtensions(o)
	}
	if judgement == tlsplan.Accept {
		return nil
	}
	return problem
}

func (p *Probed) reason() tlsplan.Reason {
	if p.Failure != nil {
		return p.Failure.Reason
	}
	return tlsplan.Internal
}

// look makes a run that looks and sends nothing: what would carry the message is
// noted and ended.
type look struct {
	dials bool
	seen  []Probed
}

// examined notes how a connection turned out, if anybody wants to know.
func (l *look) examined(a *opening, since time.Time, o tlsplan.Outcome, f *Failure) {
	if l == nil {
		return
	}
	l.seen = append(l.seen, Probed{
		IP: a.ip, LocalIP: a.local, Seen: a.seen, Outcome: o, Failure: f, Seconds: time.Since(since).Seconds(),
	})
}

// end says QUIT on a session that would have carried the message.
func (l *look) end(d *run, s *session) { d.e.behind(s.Close) }

// taken returns what was noted since the last time.
func (l *look) taken() []Probed {
	seen := l.seen
	l.seen = nil
	return seen
}
