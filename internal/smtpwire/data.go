package smtpwire

import (
	"errors"
	"fmt"
	"strconv"
)

// run sends the transaction in the way that suits the server and the message.
func (x *exchange) run() {
	if !x.c.chunking() {
		x.data()
		return
	}
	// A message that is known to be large is opened only when the server wants it.
	var start []byte
	if x.t.Size <= smallBody {
		out := x.buf.out[headRoom:headRoom]
		body, done, err := x.src.next(out, smallBody)
		if err != nil {
			x.settle(&Error{Stage: StageBody, Err: err})
			return
		}
		if done {
			x.bdatSmall(len(body))
			return
		}
		start = body
	}
	x.bdatLarge(start)
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

// bdatSmall sends the message of n octets at x.buf.out[headRoom:] as one chunk,
// in the same flight as the envelope where that is possible and safe. With no
// recipient accepted the server refuses the chunk (RFC 3030, section 2).
func (x *exchange) bdatSmall(n int) {
	write := func(commands []byte) error {
		x.closing, x.chunked, x.written = true, true, true
		commands = appendBDAT(commands, n, true)
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
		if err := write(x.c.out[:0]); err != nil {
			x.writeFailed(StageBody, err)
			return
		}
	}
	x.final()
}

// bdatLarge sends the message in chunks once the envelope stands; start is what
// was encoded already. While the server works on a chunk the next one is written,
// where PIPELINING is offered; the last one only when all others are accepted, so
// that a message with a hole in it is never completed.
func (x *exchange) bdatLarge(start []byte) {
	if !x.envelope(x.command) || x.accepted == 0 {
		return
	}
	buf := chunkPool.Get().(*chunk)
	defer chunkPool.Put(buf)
	ahead := 0
	if x.c.pipelining() {
		ahead = 1
	}
	out := append(buf[headRoom:headRoom], start...)
	var done bool
	var err error
	for unanswered := 0; ; unanswered++ {
		if out, done, err = x.src.next(out, chunkSize); err != nil {
			x.broke(StageBody, nil, err)
			return
		}
		if done || ahead > 0 && unanswered > 0 && namesRecipient(out) {
			ahead = 0
		}
		for ; unanswered > ahead; unanswered-- {
			if !x.chunkAccepted(unanswered) {
				return
			}
		}
		x.chunked, x.written = true, done
		line := appendBDAT(x.c.out[:0], len(out), done)
		if err := x.c.writeBehind(buf[:headRoom+len(out)], line); err != nil {
			x.writeFailed(StageBody, err)
			return
		}
		if done {
			x.final()
			return
		}
		out = out[:0]
	}
}

// chunkAccepted reads the reply to the oldest of unanswered chunks. If that is a
// refusal it decides, and the replies to the others are read to stay in step.
func (x *exchange) chunkAccepted(unanswered int) bool {
	code, ok := x.answer(StageData, x.c.cfg.Timeouts.Command)
	if !ok || code < 400 {
		return ok
	}
	x.refuse(StageData)
	for ; unanswered > 1; unanswered-- {
		if _, ok := x.answer(StageData, x.c.cfg.Timeouts.Command); !ok {
			break
		}
	}
	return false
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
	for range maxSurplus {
		if err := x.c.quiet(); !errors.Is(err, ErrProtocol) {
			return true
		}
		x.surplus = true
		code, err := x.c.read(min(salvage, x.c.cfg.Timeouts.Final))
		if err == nil && code/100 != 2 {
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

// maxSurplus is how many replies too many are read.
const maxSurplus = 100

// appendBDAT appends a BDAT command (RFC 3030, section 2).
func appendBDAT(b []byte, n int, last bool) []byte {
	b = append(b, "BDAT "...)
	b = strconv.AppendInt(b, int64(n), 10)
	if last {
		b = append(b, " LAST"...)
	}
	return append(b, '\r', '\n')
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
