package smtpwire

import (
	"errors"
	"fmt"
	"time"
)

// run sends the transaction in the way that suits the server and the message.
func (x *exchange) run() {
	if !x.c.chunking() {
		x.data()
		return
	}
	// A message that is known to be large is opened only when the server wants it.
	if x.t.Size <= smallBody {
		body, done, err := x.src.next(x.buf.out[headRoom:headRoom], smallBody)
		if err != nil {
			x.settle(&Error{Stage: StageBody, Err: err})
			return
		}
		if done {
			x.bdatSmall(len(body))
			return
		}
	}
	x.bdatLarge()
}

// data sends the message with DATA. In the same flight as the envelope DATA is
// sent before it is known whether there is a recipient; a server that says 354
// all the same gets an empty message, which no one receives, to be in step again
// (RFC 2920, section 3.1).
func (x *exchange) data() {
	c := x.c
	if !x.envelope(func(commands []byte) error {
		x.closing = true
		return x.command(append(commands, "DATA\r\n"...))
	}) {
		return
	}
	if !x.closing {
		if x.accepted == 0 {
			return
		}
		if err := x.command([]byte("DATA\r\n")); err != nil {
			x.writeFailed(StageData, err)
			return
		}
	}
	code, ok := x.answer(StageData, c.cfg.Timeouts.Command)
	switch {
	case !ok:
	case code >= 400:
		x.refuse(StageData)
	case x.accepted == 0:
		if err := x.command([]byte(".\r\n")); err != nil {
			x.writeFailed(StageFinal, err)
			return
		}
		x.answer(StageFinal, c.cfg.Timeouts.Final)
	default:
		x.stream()
	}
}

// stream writes the message after 354, block by block, and reads the final reply.
// If the message cannot be read to its end the dot is not sent: a connection
// that ends before it delivers nothing.
func (x *exchange) stream() {
	x.src.enc.stuff = true
	for done := false; !done; {
		var out []byte
		var err error
		out, done, err = x.src.next(x.buf.out[:0], block)
		if err != nil {
			x.broke(StageBody, nil, err)
			return
		}
		if done {
			if x.c.tookEarly() {
				x.broke(StageBody, nil, errEarly)
				return
			}
			out = append(out, ".\r\n"...)
			x.written = true
		}
		x.streamed = true
		if err := x.c.writeBody(out); err != nil {
			x.writeFailed(StageBody, err)
			return
		}
	}
	x.final()
}

// tookEarly reports whether the server has accepted a message whose end it has not
// seen. That would pass for the final reply, and the true one, maybe a refusal, for
// nothing. An early refusal is one all the same.
func (c *Conn) tookEarly() bool {
	if !errors.Is(c.quiet(), ErrProtocol) {
		return false
	}
	// It may be a record that is TLS's own business.
	c.deadline(surplusWait)
	early, err := c.br.Peek(1)
	return err == nil && early[0] == '2'
}

// errEarly is the cause if tookEarly is true.
var errEarly = fmt.Errorf("%w: accepted before it was complete", ErrProtocol)

// final reads the reply that decides about the message. Where no recipient was
// accepted there is nothing to decide: each has its own error.
func (x *exchange) final() {
	code, ok := x.answer(StageFinal, x.c.cfg.Timeouts.Final)
	switch {
	case !ok:
	case code >= 400:
		x.refuse(StageFinal)
	case x.accepted > 0:
		final := x.c.rr.reply()
		if x.chunked && !x.surplusPositive() {
			return
		}
		x.delivered = true
		x.res.Final = final
	}
}

// surplusPositive looks whether there are more replies than commands. Then one of
// them was not ours, and the one that was read as the final one may have been
// that to a RCPT. If all are positive the message was accepted in any case, and
// only the session is over; if not, or if they cannot be read, it is not known.
func (x *exchange) surplusPositive() bool {
	c := x.c
	for range maxSurplus {
		if err := c.quiet(); !errors.Is(err, ErrProtocol) {
			return true
		}
		x.surplus = true
		c.rr.got = false
		code, err := c.read(surplusWait)
		silent := !c.rr.got
		c.rr.got = true
		switch {
		case err != nil && silent:
			// No reply: the end of the connection, or of TLS, or a record that is
			// TLS's own business.
			return true
		case err == nil && code/100 != 2:
			err = fmt.Errorf("%w: more replies than commands, one of them %d", ErrProtocol, code)
		}
		if err != nil {
			x.broke(StageFinal, nil, err)
			return false
		}
	}
	x.broke(StageFinal, nil, fmt.Errorf("%w: more replies than commands", ErrProtocol))
	return false
}

const (
	// maxSurplus is how many replies too many are read.
	maxSurplus = 100
	// surplusWait is how long what has begun to arrive may take. Whoever waits for
	// the status waits for it too.
	surplusWait = 200 * time.Millisecond
)
