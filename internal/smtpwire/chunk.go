package smtpwire

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

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
