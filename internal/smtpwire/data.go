package smtpwire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
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

// bdatSmall sends the message of n octets at x.buf.out[headRoom:] as one chunk,
// in the same flight as the envelope where that is possible and safe. With no
// recipient accepted the server refuses the chunk (RFC 3030, section 2).
func (x *exchange) bdatSmall(n int) {
	write := func(commands []byte) error {
		x.closing, x.chunked, x.written = true, true, true
		commands = appendBDAT(commands, int64(n))
		return x.c.writeBehind(x.buf.out[:headRoom+n], commands)
	}
	last := write
	if x.t.EnvelopeFirst || namesRecipient(x.buf.out[headRoom:headRoom+n]) {
		last = x.command
	}
	if !x.envelope(last) {
		return
	}
	if !x.closing {
		if x.accepted == 0 {
			return
		}
		if x.c.tookEarly() {
			x.broke(StageBody, nil, errEarly)
			return
		}
		if err := write(x.c.out[:0]); err != nil {
			x.writeFailed(StageBody, err)
			return
		}
	}
	x.final()
}

// maxEarly is the largest message that is sent before it is known that the server
// wants it: up to here a round trip is a good part of the time that it takes.
const maxEarly = 8 << 20

// lookThrough is about how long it takes to find out that the text of a message could
// not be taken for commands: half a microsecond a KiB, and as much again for a busy
// machine. To a server that is nearer there is nothing to gain.
func lookThrough(size int64) time.Duration {
	return time.Duration(max(size, smallBody)>>10) * time.Microsecond
}

// bdatLarge sends the message as one chunk. BDAT begins with the length, so the
// message is read twice: to count it, and to send it. The alternative, several
// chunks, waits for the server after each of them, or lets the last one go out
// before it is known that none of the others is missing.
//
// Where it is possible and safe the message follows the envelope at once, until that
// is answered: if nobody is accepted then, the session is given up for what is left
// to send.
func (x *exchange) bdatLarge() {
	x.src.close()
	early := x.c.pipelining() && !x.t.EnvelopeFirst && x.t.Size <= maxEarly && x.c.roundTrip > lookThrough(x.t.Size)
	if early {
		size, text, err := x.measure()
		if err != nil {
			x.settle(&Error{Stage: StageBody, Err: err})
			return
		}
		early = !text.found
		x.left = size
	}
	last := x.command
	if early {
		last = func(commands []byte) error {
			x.closing = true
			x.src = x.source()
			return x.sendChunk(appendBDAT(commands, x.left), x.unanswered)
		}
	}
	if !x.envelope(last) {
		return
	}
	switch {
	case x.accepted == 0 && !x.written:
		return
	case !x.closing:
		size, _, err := x.measure()
		if err != nil {
			x.broke(StageBody, nil, err)
			return
		}
		x.left = size
		x.src = x.source()
		err = x.sendChunk(appendBDAT(x.c.out[:0], size), nil)
		if err != nil {
			x.writeFailed(StageBody, err)
			return
		}
	case !x.written:
		if err := x.sendChunk(nil, nil); err != nil {
			x.writeFailed(StageBody, err)
			return
		}
	}
	x.final()
}

// sendChunk writes commands and then the message, block by block, to its end or
// as long as goOn, if it is not nil, wants; nil says that the envelope is answered.
// What goes wrong with the message itself is a *contentError.
func (x *exchange) sendChunk(commands []byte, goOn func() bool) error {
	for first := true; first || goOn == nil || goOn(); first = false {
		out := append(x.buf.out[:0], commands...)
		out, done, err := x.src.next(out, block)
		if err != nil {
			return &contentError{err}
		}
		if x.left -= int64(len(out) - len(commands)); x.left < 0 || done && x.left > 0 {
			return &contentError{errChanged}
		}
		if done && goOn == nil && x.c.tookEarly() {
			return &contentError{errEarly}
		}
		x.chunked, x.written, commands = true, done, nil
		if err := x.c.writeBody(out); err != nil || done {
			return err
		}
	}
	return nil
}

// unanswered reports whether replies to the envelope are still to come, and looks
// for them without waiting. All of them count, not the first: a server may keep
// one back while it reads the message, and would wait for us as we for it.
func (x *exchange) unanswered() bool {
	c := x.c
	if n, err := c.peek.pending(c.raw); err != nil {
		return false
	} else if n > 0 || c.records != nil && len(c.records.early) > 0 {
		c.soon()
		if _, err := c.br.Peek(c.br.Buffered() + 1); err != nil && !isTimeout(err) {
			return false
		}
	}
	got, _ := c.br.Peek(c.br.Buffered())
	return len(got) < c.br.Size() && countReplies(got) < x.awaited
}

// countReplies counts the complete replies in b.
func countReplies(b []byte) (n int) {
	for line := range bytes.Lines(b) {
		if bytes.HasSuffix(line, lineFeed) && (len(line) < 4 || line[3] != '-') {
			n++
		}
	}
	return n
}

// contentError is a reason not to send the rest of the message, and no failure to
// send it.
type contentError struct{ error }

// errChanged is the cause if a message was not the same when it was read again.
var errChanged = errors.New("the message changed while it was sent")

// measure returns how many octets the message has on the wire, and what its text
// could be taken for.
func (x *exchange) measure() (int64, scanner, error) {
	x.src = x.source()
	defer x.src.close()
	var n counter
	var text scanner
	for {
		if err := x.src.read(); err != nil {
			return 0, text, err
		}
		if len(x.src.pending) == 0 {
			return n.total(), text, nil
		}
		n.add(x.src.pending)
		text.add(x.src.pending)
		x.src.pending = nil
	}
}

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

// appendBDAT appends the BDAT command of the only chunk (RFC 3030, section 2).
func appendBDAT(b []byte, n int64) []byte {
	b = append(b, "BDAT "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, " LAST\r\n"...)
}

// writeBehind writes commands and then the message at buf[headRoom:]. The commands
// are put right before the message if there is room, so that both leave in the
// same packets.
func (c *Conn) writeBehind(buf, commands []byte) error {
	c.out = commands
	start := headRoom - len(commands)
	if start < 0 {
		if err := c.write(commands, c.cfg.Timeouts.Command); err != nil {
			return err
		}
		start = headRoom
	}
	copy(buf[start:headRoom], commands)
	return c.writeBody(buf[start:])
}
