// Package smtpwire speaks SMTP (RFC 5321) to one server over one connection. It
// knows bytes, replies and deadlines; it knows no policy and no DNS, and
// decides neither whether clear text is good enough nor what is tried next.
//
// The walk of a session:
//
//  1. New takes a connected socket, reads the greeting and sends EHLO, or HELO
//     to a server that does not know EHLO (conn.go, extensions.go).
//  2. StartTLS turns it into a TLS session, with nothing carried over from the
//     clear part: not a buffered byte, not an extension (starttls.go).
//  3. Send carries one message, any number of times (transaction.go):
//     addresses are checked before they go into a command (address.go); MAIL,
//     RCPT and, where the server permits, DATA or a small message as BDAT go
//     out in one flight, whose replies are then read in order (flight.go); the
//     message follows with every line end made CRLF (body.go, data.go, chunk.go).
//  4. Reset makes a session clean again after a transaction that was not.
//  5. Quit or Close ends it.
//
// Everything the server sends is read by replyReader (reply.go), which is bounded
// in lines and octets. Every wait goes through wire.go: one deadline for each
// reply or written block, not prolonged by single bytes, and ended at once
// by the context. Every failure is an *Error that says in which stage it fell and
// holds the reply, if there was one (errors.go).
//
// A session that broke (network error, protocol error, 421) is closed and stays
// so. A Conn belongs to one goroutine at a time, except for Close.
package smtpwire

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Timeouts are the deadlines of the phases. Zero means the default, which
// follows RFC 5321, section 4.5.3.2.
type Timeouts struct {
	Greeting time.Duration // the first 220; default 5 min
	Command  time.Duration // each reply to a command, the TLS handshake; default 5 min
	Body     time.Duration // each block of the message to be written; default 3 min
	Final    time.Duration // the reply to the final dot or to BDAT LAST; default 10 min
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&t.Greeting, 5*time.Minute)
	set(&t.Command, 5*time.Minute)
	set(&t.Body, 3*time.Minute)
	set(&t.Final, 10*time.Minute)
	return t
}

// Config is what a session needs to know about its own side.
type Config struct {
	// Hostname is the argument of EHLO, in A-labels; empty is localhost.localdomain.
	Hostname string
	Timeouts Timeouts
	// NoChunking sends every message with DATA.
	NoChunking bool
	// Stop ends every wait, and every later call, when it ends. It is for a context
	// that outlives sessions; calls that get it as theirs are the cheapest. Nil is
	// none.
	Stop context.Context
	// NoPipelining waits for each reply before the next command.
	NoPipelining bool
}

// Conn is one SMTP session.
type Conn struct {
	cfg     Config
	raw     net.Conn    // the socket: deadlines and Close go here
	nc      net.Conn    // what is read and written: raw, or tls on top of it
	tls     *tls.Conn   // nil in clear
	records *records    // below tls
	plain   plainReader // between tls and br
	br      *bufio.Reader
	rr      replyReader
	peek    peeker
	out     []byte // commands of the flight that is being built

	greeting  string // name in the greeting
	name      string // name in the newest reply to EHLO or HELO
	ext       Extensions
	handshake time.Duration
	roundTrip time.Duration // that the newest EHLO took
	broken    bool          // no further command is possible
	clean     bool          // MAIL may come next without RSET
	used      bool          // a transaction or RSET was sent before

	exchange exchange // the transaction under way

	ctx    context.Context // of the call under way
	last   time.Time       // when the transaction under way must be over; zero: no such time
	watch  watch
	closed atomic.Bool
}

// New starts a session on nc: it reads the greeting and sends EHLO, and HELO if
// that is answered 5xx. On an error, always an *Error, nc is closed.
func New(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost.localdomain"
	}
	c := &Conn{cfg: cfg, raw: nc, nc: nc, br: bufio.NewReaderSize(nc, 4096)}
	if !validHostname(cfg.Hostname) {
		return nil, c.fail(StageEHLO, nil, ErrBadHostname)
	}
	c.watchStop()
	c.begin(ctx)
	defer c.end()
	code, err := c.read(cfg.Timeouts.Greeting)
	if err != nil {
		return nil, c.fail(StageGreeting, nil, err)
	}
	if code/100 != 2 {
		return nil, c.failReply(StageGreeting)
	}
	c.greeting = nameIn(c.rr.text)
	if err := c.hello(); err != nil {
		return nil, err
	}
	c.clean = true
	return c, nil
}

// hello sends EHLO, then HELO if the server answers 5xx, and takes over what it offers.
func (c *Conn) hello() *Error {
	c.ext = Extensions{}
	began := time.Now()
	code, err := c.command("EHLO " + c.cfg.Hostname + "\r\n")
	c.roundTrip = time.Since(began)
	if err != nil {
		return c.fail(StageEHLO, nil, err)
	}
	if code/100 == 2 {
		c.name = nameIn(c.rr.text)
		c.ext = parseExtensions(string(c.rr.text))
		return nil
	}
	if code/100 != 5 {
		return c.failReply(StageEHLO)
	}
	refused := c.rr.reply()
	code, err = c.command("HELO " + c.cfg.Hostname + "\r\n")
	if err != nil {
		// Servers that turn a client away do so at EHLO and hang up: that
		// reply tells more than the EOF after it.
		return c.fail(StageEHLO, &refused, err)
	}
	if code/100 != 2 {
		return c.failReply(StageEHLO)
	}
	c.name = nameIn(c.rr.text)
	return nil
}

// command sends one line and reads its reply.
func (c *Conn) command(line string) (code int, err error) {
	c.out = append(c.out[:0], line...)
	if err := c.write(c.out, c.cfg.Timeouts.Command); err != nil {
		return 0, err
	}
	return c.read(c.cfg.Timeouts.Command)
}

// ServerName returns the names that the server gives itself in its greeting and in
// its newest reply to EHLO or HELO (RFC 5321, section 4.2): the first word of each.
// Some servers say something else there, as "Hello"; it may be any text.
func (c *Conn) ServerName() (greeting, hello string) { return c.greeting, c.name }

// Extensions returns what the newest EHLO reply announced.
func (c *Conn) Extensions() Extensions { return c.ext }

// TLS returns the state of the TLS session; false in clear.
func (c *Conn) TLS() (tls.ConnectionState, bool) {
	if c.tls == nil {
		return tls.ConnectionState{}, false
	}
	return c.tls.ConnectionState(), true
}

// HandshakeDuration is the time that the TLS handshake took; 0 in clear.
func (c *Conn) HandshakeDuration() time.Duration { return c.handshake }

// LocalAddr returns our end of the connection.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the server's end of the connection.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Reset sends RSET, after which the next transaction may begin. A server that
// refuses it, or whose replies no longer fit the commands, cannot be talked to
// any further: on an error the session is closed.
func (c *Conn) Reset(ctx context.Context) error {
	if err := c.ready(); err != nil {
		return c.fail(StageReset, nil, err)
	}
	c.begin(ctx)
	defer c.end()
	c.used = true
	code, err := c.command("RSET\r\n")
	if err != nil {
		return c.fail(StageReset, nil, err)
	}
	if code/100 != 2 {
		return c.failReply(StageReset)
	}
	c.clean = true
	return nil
}

// Quit ends the session politely: QUIT, its reply, a TLS close_notify. It waits
// no longer than ctx allows and always closes the connection.
func (c *Conn) Quit(ctx context.Context) {
	defer c.Close()
	if c.ready() != nil {
		return
	}
	c.begin(ctx)
	defer c.end()
	c.broken = true
	if _, err := c.command("QUIT\r\n"); err != nil {
		return
	}
	if c.tls != nil {
		c.tls.Close()
	}
}

// Close closes the connection without a word. It may be called more than once,
// and from another goroutine to end a call that is under way.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.unwatchStop()
	return c.raw.Close()
}

// ready reports why no command may be sent now, if so. A reply that nobody asked
// for would be taken for that to the next command, so it ends the session.
func (c *Conn) ready() error {
	if c.broken || c.closed.Load() {
		return ErrClosed
	}
	if c.br.Buffered() > 0 {
		return fmt.Errorf("%w: unsolicited reply", ErrProtocol)
	}
	return nil
}

// fail closes the session and says why.
func (c *Conn) fail(stage Stage, reply *Reply, err error) *Error {
	c.broken = true
	c.Close()
	return &Error{Stage: stage, Reply: reply, Err: err}
}

// failReply closes the session because of the newest reply.
func (c *Conn) failReply(stage Stage) *Error {
	r := c.rr.reply()
	if r.Code >= 400 {
		return c.fail(stage, &r, nil)
	}
	return c.fail(stage, &r, fmt.Errorf("%w: unexpected reply", ErrProtocol))
}

// validHostname admits names and address literals: printable ASCII without
// spaces, of the length of RFC 5321, section 4.5.3.1.2.
func validHostname(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>"\`, r) }
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, odd) < 0
}
