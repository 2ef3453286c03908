package smtpwire

import (
	"fmt"
	"io"
)

// quiet reports an error unless the server has kept silent since its last reply.
// On a session that was used before, a reply that nobody asked for would be
// taken for that to MAIL, each later one for its predecessor's, and in the end the
// reply to a RCPT for that to the message. What has arrived may be in our buffer,
// in the TLS layer or right below it (records.go), and in the socket. What is in the socket under
// TLS may be no reply but TLS's own; a session that was idle is given up for it
// all the same.
func (c *Conn) quiet() error {
	if c.br.Buffered() > 0 {
		return fmt.Errorf("%w: unsolicited reply", ErrProtocol)
	}
	switch n, err := c.peek.pending(c.raw); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("%w: unsolicited bytes", ErrProtocol)
	}
	if c.tls == nil || !c.records.begun() && !c.plain.full {
		return nil
	}
	// There is something in the TLS layer or right below it, perhaps of TLS's own. A
	// read that may not wait gets what of it is a reply, and a time-out if that is
	// nothing, which does no harm to the session.
	c.raw.SetReadDeadline(past)
	defer c.noDeadline()
	if _, err := c.br.Peek(1); err == nil {
		return fmt.Errorf("%w: unsolicited reply", ErrProtocol)
	} else if !isTimeout(err) {
		return err
	}
	if c.records.begun() {
		return fmt.Errorf("%w: unsolicited bytes", ErrProtocol) // the rest is on its way
	}
	return nil
}

// errGone is that of a session which the server has ended meanwhile.
var errGone = fmt.Errorf("closed by the server: %w", io.EOF)
