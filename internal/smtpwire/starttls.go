package smtpwire

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

var errTLSActive = errors.New("TLS is in use already")

// StartTLS sends STARTTLS (RFC 3207), does the handshake with cfg, whose
// ServerName or VerifyConnection are the caller's business and which is kept, and
// sends EHLO again, whose reply replaces the first one whole.
//
// A 4xx or 5xx reply to STARTTLS is an error with that Reply and
// StageSTARTTLS; the session then goes on in clear, if the caller wants it (not
// after 421). On every other error the connection is closed. StageHandshake is a
// broken handshake: bytes in clear where TLS must begin (ErrInjected), a failed
// handshake, or an alert, EOF or garbage in place of the first reply after it,
// since a TLS 1.3 client has finished before it hears that the server did
// not like it. A proper reply that refuses the second EHLO is StageEHLO.
func (c *Conn) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if c.tls != nil {
		return c.fail(StageSTARTTLS, nil, errTLSActive)
	}
	if err := c.ready(); err != nil {
		if errors.Is(err, ErrProtocol) {
			// A reply sent ahead would stand for the one to STARTTLS.
			return c.fail(StageHandshake, nil, ErrInjected)
		}
		return c.fail(StageSTARTTLS, nil, err)
	}
	c.begin(ctx)
	defer c.end()
	code, err := c.command("STARTTLS\r\n")
	if err != nil {
		return c.fail(StageSTARTTLS, nil, err)
	}
	if code != 220 {
		if code < 400 || code == 421 {
			return c.failReply(StageSTARTTLS)
		}
		r := c.rr.reply()
		return &Error{Stage: StageSTARTTLS, Reply: &r}
	}
	// Anything that came along with the 220 was sent in clear. What comes later
	// meets the handshake and breaks it.
	if c.br.Buffered() > 0 {
		return c.fail(StageHandshake, nil, ErrInjected)
	}
	if err := c.upgrade(ctx, cfg); err != nil {
		return c.fail(StageHandshake, nil, err)
	}
	if e := c.hello(); e != nil {
		if e.Reply == nil && !e.Timeout() && c.interrupted() == nil {
			e.Stage = StageHandshake
		}
		return e
	}
	return nil
}

// upgrade does the handshake and lets every later read and write go through TLS.
func (c *Conn) upgrade(ctx context.Context, cfg *tls.Config) error {
	c.records = &records{Conn: c.raw}
	tc := tls.Client(c.records, cfg)
	c.deadline(c.cfg.Timeouts.Command)
	start := time.Now()
	if err := tc.HandshakeContext(ctx); err != nil {
		return c.cause(err)
	}
	c.handshake = time.Since(start)
	c.tls, c.nc, c.plain.tls = tc, tc, tc
	c.br.Reset(&c.plain)
	return nil
}
