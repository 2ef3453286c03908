package delivery

import (
	"context"
	"math"
	"net/netip"
	"time"

	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// session is a connection to an MX host that was judged once and may be judged
// again for another message.
type session struct {
	conn    *smtpwire.Conn
	host    string
	ip      netip.Addr
	port    int
	outcome tlsplan.Outcome
	batch   int       // recipients that one transaction may have
	mailMax int       // transactions that it may carry
	uses    int       // messages carried so far
	reused  bool      // taken from the pool for the present message
	since   time.Time // when the present message got hold of it
	opened  time.Time
}

// maxRecipients bounds the recipients of one transaction: every server takes a
// hundred (RFC 5321, section 4.5.3.1.8), some answer 452 to more.
const maxRecipients = 100

// newSession makes a session of a connection that was judged; what the server
// announced of its limits (RFC 9422) is kept.
func newSession(conn *smtpwire.Conn, host string, ip netip.Addr, port int, o tlsplan.Outcome) *session {
	s := &session{conn: conn, host: host, ip: ip, port: port, outcome: o, batch: maxRecipients, mailMax: math.MaxInt, opened: time.Now()}
	mailMax, rcptMax := conn.Extensions().Limits()
	if rcptMax > 0 {
		s.batch = min(s.batch, rcptMax)
	}
	if mailMax > 0 {
		s.mailMax = mailMax
	}
	return s
}

// maxAge is how long a session is used again, busy or not: load balancers spread
// sessions, not messages, and a host that was taken out of service is to be left
// in the end. It is that of Postfix (smtp_connection_reuse_time_limit).
const maxAge = 5 * time.Minute

// quitTimeout is how long a session waits for the reply to QUIT. Nobody waits
// for it but the goroutine that closes the session, and Engine.Close.
const quitTimeout = 2 * time.Second

// resetTimeout bounds the RSET that follows a refused message.
const resetTimeout = 10 * time.Second

// Outcome implements pool.Session.
func (s *session) Outcome() tlsplan.Outcome { return s.outcome }

// Close ends the session politely.
func (s *session) Close() { quit(s.conn) }

// describe is the session as a document tells of it, up to now.
func (s *session) describe() *Connection {
	return &Connection{
		Host:    s.host,
		IP:      s.ip,
		Port:    s.port,
		LocalIP: addrOf(s.conn.LocalAddr()),
		Outcome: s.outcome,
		Reused:  s.reused,
		Seconds: time.Since(s.since).Seconds(),
	}
}

// release gives a session back after a message, behind the status: into the
// pool if it can carry another one, else it is closed.
func (e *Engine) release(s *session, clean, broken bool) {
	s.uses++
	e.observe(func(o Observer) { o.PoolChanged(0, -1) })
	switch {
	case broken:
		_ = s.conn.Close()
	case s.uses > e.cfg.ReuseLimit, s.uses >= s.mailMax, time.Since(s.opened) > maxAge:
		e.behind(s.Close)
	case clean:
		e.keep(s)
	default:
		e.behind(func() {
			ctx, cancel := context.WithTimeout(e.base, resetTimeout)
			defer cancel()
			if err := s.conn.Reset(ctx); err != nil {
				_ = s.conn.Close()
				return
			}
			e.keep(s)
		})
	}
}

// keep puts a session into the pool, and closes it behind the status if that
// has no use for it.
func (e *Engine) keep(s *session) {
	if !e.pool.Put(s.host, s) {
		e.behind(s.Close)
	}
}

// acquired notes that a session is about to carry a message.
func (e *Engine) acquired(s *session, since time.Time, reused bool) {
	s.reused, s.since = reused, since
	e.observe(func(o Observer) {
		o.PoolChanged(0, 1)
		o.Connected(Connected{Outcome: s.outcome, Reused: reused})
	})
}
