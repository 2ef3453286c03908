package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// dialling is one attempt to get a session with one address of one host.
type dialling struct {
	*run
	plan tlsplan.Plan
	host string
	ip   netip.Addr

	local netip.Addr
	// seen is what the handshake showed, also when it was refused.
	seen tlsplan.Outcome
	// verdict is what the plan made of it inside the handshake.
	verdict tlsplan.Judgement
	problem *tlsplan.Problem
}

// open connects to one address of a host, and returns a session that meets the
// plan. Otherwise the failure says why the address was given up, and the
// connection on which that happened is described if one was made.
func (d *run) open(plan tlsplan.Plan, host string, ip netip.Addr) (*session, *Connection, *Failure) {
	started := time.Now()
	a := &dialling{run: d, plan: plan, host: host, ip: ip}
	conn, outcome, f := a.connect()
	if f == nil {
		s := &session{conn: conn, host: host, ip: ip, port: d.e.cfg.Port, outcome: outcome}
		d.e.acquired(s, started, false)
		return s, nil, nil
	}
	if !a.local.IsValid() {
		return nil, nil, f
	}
	return nil, &Connection{
		Host: host, IP: ip, Port: d.e.cfg.Port, LocalIP: a.local,
		Outcome: outcome, Seconds: time.Since(started).Seconds(),
	}, f
}

// connect goes as far as the plan lets it: EHLO, STARTTLS, and if TLS comes to
// nothing and the plan allows it, a second connection in clear. That one is the
// last; there is never a third.
func (a *dialling) connect() (*smtpwire.Conn, tlsplan.Outcome, *Failure) {
	conn, f := a.greet()
	if f != nil {
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
			if conn, f = a.greet(); f != nil {
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

// greet dials and gets through greeting and EHLO.
func (a *dialling) greet() (*smtpwire.Conn, *Failure) {
	ctx, cancel := context.WithTimeout(a.ctx, a.e.cfg.ConnectTimeout)
	defer cancel()
	address := net.JoinHostPort(a.ip.String(), strconv.Itoa(a.e.cfg.Port))
	nc, err := a.e.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, a.lost(dialFailure(a.host, err))
	}
	a.local = addrOf(nc.LocalAddr())
	conn, err := smtpwire.New(a.ctx, nc, a.e.cfg.Wire)
	if err != nil {
		return nil, a.lost(wireFailure(a.host, err))
	}
	return conn, nil
}

// lost makes sure that a cancelled delivery says so, and counts the trouble.
func (a *dialling) lost(f *Failure) *Failure {
	if err := a.ctx.Err(); err != nil {
		f = cancelled(err)
	}
	a.troubled(f.Reason, true)
	return f
}

// secure tries STARTTLS and says what came of it. sameConn is false when the
// connection is gone and only a new one could go on in clear. A failure means
// that the host is lost for a reason that is not TLS.
func (a *dialling) secure(conn *smtpwire.Conn) (_ tlsplan.Outcome, sameConn bool, _ *Failure) {
	if !conn.Extensions().Has("STARTTLS") {
		return tlsplan.Plaintext(&tlsplan.Problem{
			Reason: tlsplan.TLSNotOffered, Text: "the host does not offer STARTTLS",
		}, nil), true, nil
	}
	err := conn.StartTLS(a.ctx, a.tlsConfig())
	if err == nil {
		a.seen.HandshakeIn = conn.HandshakeDuration()
		a.seen.OffersREQUIRETLS = conn.Extensions().Has("REQUIRETLS")
		return a.seen, true, nil
	}
	if ctxErr := a.ctx.Err(); ctxErr != nil {
		_ = conn.Close()
		return tlsplan.Plaintext(nil, a.seen.Certificate), false, a.lost(cancelled(ctxErr))
	}
	var we *smtpwire.Error
	if !errors.As(err, &we) {
		_ = conn.Close()
		return tlsplan.Plaintext(nil, nil), false, a.lost(internalFailure(err))
	}
	switch {
	case we.Stage == smtpwire.StageSTARTTLS && we.Reply != nil && we.Reply.Code != 421:
		return tlsplan.Plaintext(&tlsplan.Problem{
			Reason: tlsplan.TLSRejected, Text: "STARTTLS was answered " + we.Reply.String(),
		}, nil), true, nil
	case we.Stage == smtpwire.StageHandshake, we.Stage == smtpwire.StageSTARTTLS && we.Reply == nil:
		_ = conn.Close()
		return tlsplan.Plaintext(a.broken(we), a.seen.Certificate), false, nil
	}
	_ = conn.Close()
	return tlsplan.Plaintext(nil, a.seen.Certificate), false, a.lost(wireFailure(a.host, err))
}

// broken says what is to blame for a handshake that did not come to its end:
// the certificate if the plan gave up over it, else the handshake.
func (a *dialling) broken(we *smtpwire.Error) *tlsplan.Problem {
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
// accepts it.
func (a *dialling) tlsConfig() *tls.Config {
	cfg := a.e.cfg.TLS.Clone()
	cfg.ServerName = a.host
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		a.seen = tlsplan.Examiner{Host: a.host, Roots: cfg.RootCAs}.Examine(cs)
		a.verdict, a.problem = a.plan.Judge(a.seen)
		if a.verdict != tlsplan.Accept {
			return errJudged
		}
		return nil
	}
	return cfg
}

// abandon ends a connection that is alive but not wanted.
func (a *dialling) abandon(conn *smtpwire.Conn, alive bool) {
	if !alive {
		return
	}
	a.e.behind(func() {
		ctx, cancel := context.WithTimeout(context.Background(), quitTimeout)
		defer cancel()
		conn.Quit(ctx)
	})
}

// dialFailure maps the errors of dialling.
func dialFailure(host string, err error) *Failure {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return failf(451, [3]int{4, 4, 1}, tlsplan.Timeout, err, "%s did not answer in time", host)
	}
	return failf(451, [3]int{4, 4, 1}, tlsplan.Connect, err, "%s cannot be reached", host)
}

// problemOf is the problem of an outcome that has one.
func problemOf(o tlsplan.Outcome) *tlsplan.Problem {
	if o.Problem != nil {
		return o.Problem
	}
	return &tlsplan.Problem{Reason: tlsplan.Internal}
}
