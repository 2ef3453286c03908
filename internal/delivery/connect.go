package delivery

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// opening is one attempt to get a session out of a connection.
type opening struct {
	*run
	*handshake
	domain string
	ip     netip.Addr
	nc     net.Conn // in use at present
	local  netip.Addr
	helo   string // how the server calls itself
}

// handshake is what is decided inside a TLS handshake. The TLS session keeps it
// for as long as it lives, so it knows nothing of the message.
type handshake struct {
	host string
	plan tlsplan.Plan
	// seen is what the handshake showed, also when it was refused.
	seen tlsplan.Outcome
	// problem is why the plan gave it up, nil if it did not.
	problem *tlsplan.Problem
}

// open makes a session that meets the plan out of a fresh connection. Otherwise
// the failure says why the address was given up, and the connection on which
// that happened is described.
func (d *run) open(g *group, plan tlsplan.Plan, host string, l *link) (*session, *Connection, *Failure) {
	a := &opening{run: d, handshake: &handshake{host: host, plan: plan}, domain: g.domain, ip: l.ip}
	returned := false
	defer func() {
		if !returned { // a panic, as from a callback of the TLS configuration
			a.forget(l)
		}
	}()
	conn, outcome, f := a.connect(l)
	returned = true
	d.settled(g, a, outcome)
	d.look.examined(a, l.since, outcome, f)
	if f == nil {
		s := newSession(conn, host, l.ip, d.e.cfg.Port, outcome)
		d.e.acquired(s, l.since, false)
		return s, nil, nil
	}
	return nil, &Connection{
		Host: host, IP: l.ip, Port: d.e.cfg.Port, LocalIP: a.local,
		Outcome: outcome, Seconds: time.Since(l.since).Seconds(),
	}, f
}

// forget closes what is open, where nobody else will.
func (a *opening) forget(l *link) {
	l.drop()
	if a.nc != nil {
		_ = a.nc.Close()
	}
}

// connect goes as far as the plan lets it: EHLO, STARTTLS, and if TLS comes to
// nothing and the plan allows it, a second connection in clear. That one is the
// last; there is never a third.
func (a *opening) connect(l *link) (*smtpwire.Conn, tlsplan.Outcome, *Failure) {
	conn, err := a.greetLink(l)
	if err != nil {
		return nil, tlsplan.Plaintext(nil, nil), a.lost(wireFailure(a.host, err))
	}
	a.helo = calledItself(conn)
	if f := a.meetsUs(conn); f != nil {
		return nil, tlsplan.Plaintext(nil, nil), f
	}
	outcome, sameConn, f := a.secure(conn)
	if f != nil {
		return nil, outcome, f
	}
	if !outcome.TLS {
		judgement, problem := a.plan.Judge(outcome)
		a.troubled(problemOf(outcome).Reason, judgement != tlsplan.Accept)
		if judgement != tlsplan.Accept {
			a.abandon(conn, sameConn)
			return nil, outcome, tlsFailure(a.plan, a.host, problem)
		}
		if !sameConn {
			if conn, f = a.again(); f != nil {
				return nil, outcome, f
			}
		}
	} else if outcome.Problem != nil {
		a.troubled(outcome.Problem.Reason, false)
	}
	if judgement, problem := a.plan.JudgeExtensions(outcome); judgement != tlsplan.Accept {
		a.troubled(problem.Reason, true)
		a.abandon(conn, true)
		return nil, outcome, tlsFailure(a.plan, a.host, problem)
	}
	return conn, outcome, nil
}

// calledItself is the name that a server gives itself: that of the greeting, where
// it has one. It may be any text.
func calledItself(conn *smtpwire.Conn) string {
	greeting, hello := conn.ServerName()
	return cmp.Or(greeting, hello)
}

// greetLink is greet, unless that is done, and tells the breaker.
func (a *opening) greetLink(l *link) (*smtpwire.Conn, error) {
	if l.greeted {
		a.nc, a.local = l.nc, addrOf(l.nc.LocalAddr())
		return l.conn, l.err
	}
	conn, err := a.greet(l.nc)
	l.heard(err, a.over())
	return conn, err
}

// greet gets through greeting and EHLO.
func (a *opening) greet(nc net.Conn) (*smtpwire.Conn, error) {
	a.nc, a.local = nc, addrOf(nc.LocalAddr())
	return smtpwire.New(a.ctx, nc, a.e.cfg.Wire)
}

// again connects once more, for the last resort in clear.
func (a *opening) again() (*smtpwire.Conn, *Failure) {
	nc, err := a.dialTCP(a.ctx, a.ip)
	if err != nil {
		return nil, a.lost(dialFailure(a.host, err))
	}
	conn, err := a.greet(nc)
	if err != nil {
		return nil, a.lost(wireFailure(a.host, err))
	}
	return conn, nil
}

// lost makes sure that a cancelled delivery says so, and counts the trouble.
func (a *opening) lost(f *Failure) *Failure {
	if err := a.over(); err != nil {
		f = cancelled(err)
	}
	a.troubled(f.Reason, true)
	return f
}

// secure tries STARTTLS and says what came of it. sameConn is false when the
// connection is gone and only a new one could go on in clear. A failure means
// that the host is lost for a reason that is not TLS.
func (a *opening) secure(conn *smtpwire.Conn) (_ tlsplan.Outcome, sameConn bool, _ *Failure) {
	if !conn.Extensions().Has("STARTTLS") {
		return tlsplan.Plaintext(&tlsplan.Problem{
			Reason: tlsplan.TLSNotOffered, Text: "the host does not offer STARTTLS",
		}, nil), true, nil
	}
	err := conn.StartTLS(a.ctx, a.tlsConfig(a.e.cfg.TLS, a.e.tickets))
	if err == nil {
		a.seen.HandshakeIn = conn.HandshakeDuration()
		a.seen.OffersREQUIRETLS = conn.Extensions().Has("REQUIRETLS")
		return a.seen, true, nil
	}
	if ctxErr := a.over(); ctxErr != nil {
		_ = conn.Close()
		return tlsplan.Plaintext(nil, a.seen.Certificate), false, a.lost(cancelled(ctxErr))
	}
	var we *smtpwire.Error
	if !errors.As(err, &we) {
		_ = conn.Close()
		return tlsplan.Plaintext(nil, nil), false, a.lost(internalFailure(err))
	}
	switch {
	case we.Stage == smtpwire.StageSTARTTLS && we.Reply != nil && we.Reply.Code >= 400 && we.Reply.Code != 421:
		return tlsplan.Plaintext(&tlsplan.Problem{
			Reason: tlsplan.TLSRejected, Text: "STARTTLS was answered " + we.Reply.String(),
		}, nil), true, nil
	case we.Stage == smtpwire.StageHandshake,
		we.Stage == smtpwire.StageSTARTTLS && (we.Reply == nil || we.Reply.Code < 400):
		// Neither yes nor no, and in clear: nothing good can follow here.
		_ = conn.Close()
		return tlsplan.Plaintext(a.broken(we), a.seen.Certificate), false, nil
	}
	_ = conn.Close()
	return tlsplan.Plaintext(nil, a.seen.Certificate), false, a.lost(wireFailure(a.host, err))
}

// broken says what is to blame for a handshake that did not come to its end:
// the certificate if the plan gave up over it, else the handshake.
func (a *opening) broken(we *smtpwire.Error) *tlsplan.Problem {
	if a.problem != nil {
		return a.problem
	}
	text := we.Error()
	if we.Err != nil {
		text = we.Err.Error()
	}
	return &tlsplan.Problem{Reason: tlsplan.TLSHandshake, Text: text}
}

// errJudged ends a handshake that the plan gave up.
var errJudged = errors.New("the certificate does not meet the plan")

// tlsConfig is the configuration of the one handshake. Go's own verification is
// off because VerifyConnection does all of it: it examines whatever was shown,
// notes it for the document, and lets the handshake end only if the plan
// accepts it. It does so for a resumed session too, whose certificate is the one
// shown when the session began: a ticket proves nothing by itself.
func (h *handshake) tlsConfig(base *tls.Config, tickets tls.ClientSessionCache) *tls.Config {
	cfg := base.Clone()
	cfg.ServerName = h.plan.ServerName(h.host)
	cfg.InsecureSkipVerify = true
	// Small first records help a browser to draw; here they only cost.
	cfg.DynamicRecordSizingDisabled = true
	cfg.ClientSessionCache = proven{tickets, h}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		h.seen = h.plan.Examiner(h.host, cfg.RootCAs).Examine(cs)
		var verdict tlsplan.Judgement
		if verdict, h.problem = h.plan.Judge(h.seen); verdict != tlsplan.Accept {
			return errJudged
		}
		return nil
	}
	return cfg
}

// proven keeps the tickets of sessions whose certificate was found good, no
// others: a host that mends its certificate is believed at once. A ticket is for
// the TLSA records by which that was: a host that changes both its certificate and
// its records is not held to the old one.
type proven struct {
	tls.ClientSessionCache
	of *handshake
}

// Get implements tls.ClientSessionCache.
func (p proven) Get(key string) (*tls.ClientSessionState, bool) {
	return p.ClientSessionCache.Get(p.key(key))
}

// Put implements tls.ClientSessionCache.
func (p proven) Put(key string, cs *tls.ClientSessionState) {
	if cs == nil || p.of.seen.Verified() {
		p.ClientSessionCache.Put(p.key(key), cs)
	}
}

func (p proven) key(name string) string {
	if !p.of.plan.DANE.Usable() {
		return name
	}
	records := p.of.plan.DANE.Key()
	return name + " " + string(records[:])
}

// abandon ends a connection that is alive but not wanted.
func (a *opening) abandon(conn *smtpwire.Conn, alive bool) {
	if !alive {
		return
	}
	a.e.behind(func() { quit(conn) })
}

// problemOf is the problem of an outcome that has one.
func problemOf(o tlsplan.Outcome) *tlsplan.Problem {
	if o.Problem != nil {
		return o.Problem
	}
	return &tlsplan.Problem{Reason: tlsplan.Internal}
}
