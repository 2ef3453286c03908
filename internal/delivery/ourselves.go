package delivery

import (
	"errors"
	"fmt"
	"strings"

	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// Mail that we relay to ourselves runs in circles (RFC 5321, section 5.1). Where an
// MX record has our own name, package route sees it. Any other name may lead to our
// address too, through NAT or a proxy that only the outside knows of; then it is we
// who answer, and we say who we are.

// errOurselves is why a host is passed over that greets as we do.
var errOurselves = errors.New("which is this server")

// loopFailure is what recipients get whose mail should have ended here.
func loopFailure(domain string, err error) *Failure {
	return failf(554, [3]int{5, 4, 6}, tlsplan.MXLookup, err, "Mail for %s loops back to this host", domain)
}

// ourName returns a name of ours that the server gives itself, "" if it has none of
// them.
func (e *Engine) ourName(conn *smtpwire.Conn) string {
	greeting, hello := conn.ServerName()
	for _, ours := range e.cfg.OwnNames {
		// The greeting of maddy has the name, its reply to EHLO has not.
		if sameName(greeting, ours) || sameName(hello, ours) {
			return ours
		}
	}
	return ""
}

func sameName(said, ours string) bool {
	return strings.EqualFold(strings.TrimSuffix(said, "."), ours)
}

// meetsUs says whether a fresh connection leads to ourselves, and ends it if so.
//
// The name was said in clear. Who could forge it could as well have taken the mail
// and refused its recipients for good, unless the host must prove who it is: then he
// gets no more than he would by breaking the handshake, a host that fails for now.
func (a *opening) meetsUs(conn *smtpwire.Conn) *Failure {
	name := a.e.ourName(conn)
	if name == "" {
		return nil
	}
	f := loopFailure(a.domain, fmt.Errorf("%s greets as %s, %w", a.host, name, errOurselves))
	if a.plan.Demand == tlsplan.DemandVerified || a.plan.Demand == tlsplan.DemandDANE {
		f.Code, f.Enhanced[0] = 451, 4
	}
	a.troubled(f.Reason, true)
	a.abandon(conn, true)
	return f
}

// metOurselves notes that a host turned out to be ourselves. No host after it is
// tried: none is preferred over it. If none was tried before that is, either, the
// mail should have ended here, whatever became of hosts of the same preference; else
// those that are preferred over us have spoken.
func (g *group) metOurselves(h route.Host, lost HostFailure, f *Failure, on *Connection) {
	g.hosts = append(g.hosts, lost)
	g.loop = f
	if g.route.Hosts[0].Preference == h.Preference {
		g.worst, g.worstFor, g.last = f, g.plan, on
	}
}
