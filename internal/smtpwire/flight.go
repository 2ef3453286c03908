package smtpwire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A flight ends after this many commands or octets. The replies to a flight
// must fit the socket buffers while we still write (RFC 2920, section 3.1):
// a hundred of them are some 10 KiB, the smallest buffers in use hold more.
const (
	flightCommands = 100
	flightOctets   = 32 << 10
)

// salvage is how long a server's last words are waited for after a write has
// failed. They are in our socket buffer already, or will never come.
const salvage = 2 * time.Second

func (c *Conn) pipelining() bool { return !c.cfg.NoPipelining && c.ext.Has("PIPELINING") }

func (c *Conn) chunking() bool { return !c.cfg.NoChunking && c.ext.Has("CHUNKING") }

// envelope sends MAIL and all RCPT and reads their replies: in flights where
// PIPELINING is offered (RFC 2920), else one by one. The last flight is handed
// to last, which may append to it and must write it; without pipelining last is
// not called. It returns false if the session broke.
func (x *exchange) envelope(last func(commands []byte) error) bool {
	c := x.c
	commands := x.appendMail(c.out[:0])
	perFlight, room := 1, 0 // without pipelining MAIL goes alone
	if c.pipelining() {
		perFlight, room = flightCommands, flightCommands
	}
	stage, next := StageMail, 0
	for {
		first := next
		for ; next < len(x.rcpts) && next-first < room && len(commands) < flightOctets; next++ {
			commands = x.appendRcpt(commands, next)
		}
		c.out = commands
		write := x.command
		if next == len(x.rcpts) && c.pipelining() {
			write = last
		}
		x.sent = true
		if x.awaited = next - first; stage == StageMail {
			x.awaited++
		}
		if err := write(commands); err != nil {
			x.writeFailed(stage, err)
			return false
		}
		if !x.readEnvelope(stage, x.rcpts[first:next]) {
			return false
		}
		if next == len(x.rcpts) || x.mailRefused {
			return true
		}
		stage, room, commands = StageRcpt, perFlight, commands[:0]
	}
}

// command writes commands that no body follows.
func (x *exchange) command(commands []byte) error {
	return x.c.write(commands, x.c.cfg.Timeouts.Command)
}

// readEnvelope reads the replies to one flight: to MAIL, if stage says that the
// flight began with it, and to rcpts. A refused MAIL is the error of all
// recipients; the replies to their RCPT then only keep us in step.
func (x *exchange) readEnvelope(stage Stage, rcpts []wireRcpt) bool {
	if stage == StageMail {
		code, ok := x.answer(StageMail, x.c.cfg.Timeouts.Command)
		if !ok {
			return false
		}
		if x.mailRefused = code >= 400; x.mailRefused {
			x.refuse(StageMail)
		}
	}
	for _, r := range rcpts {
		code, ok := x.answer(StageRcpt, x.c.cfg.Timeouts.Command)
		switch {
		case !ok:
			return false
		case x.mailRefused:
		case code >= 400:
			x.refused = true
			reply := x.c.rr.reply()
			x.res.Recipients[r.index].Err = &Error{Stage: StageRcpt, Reply: &reply}
		default:
			x.accepted++
		}
	}
	return true
}

// answer reads one reply and returns false if that ended the session: an I/O
// error, 421, or a reply that cannot follow here. 354 is good after DATA and
// only there, and 2xx is not.
func (x *exchange) answer(stage Stage, d time.Duration) (code int, ok bool) {
	code, err := x.c.read(d)
	if err != nil {
		x.broke(stage, nil, err)
		return 0, false
	}
	good := code/100 == 2
	if stage == StageData && !x.c.chunking() {
		good = code == 354
	}
	if good || code >= 400 && code != 421 {
		return code, true
	}
	r := x.c.rr.reply()
	if code != 421 {
		err = fmt.Errorf("%w: unexpected reply", ErrProtocol)
	}
	x.broke(stage, &r, err)
	return 0, false
}

// writeFailed ends the session after a failed write. A server that hangs up in
// the middle has often said why ("552 too big", "421 shutting down"); only a refusal
// counts, as nothing can have been accepted yet. A message that could not be read is
// told from that.
func (x *exchange) writeFailed(stage Stage, err error) {
	var ours *contentError
	if errors.As(err, &ours) {
		x.broke(StageBody, nil, ours.error)
		return
	}
	if x.chunked && isTimeout(err) && !x.unanswered() {
		stage = StageBody // the envelope was answered while the message got stuck
	}
	if !isTimeout(err) && x.c.interrupted() == nil {
		if code, rerr := x.c.read(min(salvage, x.c.cfg.Timeouts.Command)); rerr == nil && code >= 400 {
			r := x.c.rr.reply()
			x.broke(stage, &r, err)
			return
		}
	}
	x.broke(stage, nil, err)
}

// appendMail appends the MAIL command with the parameters that the server knows.
func (x *exchange) appendMail(b []byte) []byte {
	t, ext := x.t, x.c.ext
	b = append(b, "MAIL FROM:<"...)
	b = append(b, x.from...)
	b = append(b, '>')
	if t.Size > 0 && ext.Has("SIZE") {
		b = append(b, " SIZE="...)
		b = strconv.AppendInt(b, t.Size, 10)
	}
	if ext.Has("8BITMIME") && !strings.EqualFold(t.Body, "7BIT") {
		b = append(b, " BODY=8BITMIME"...)
	}
	if x.res.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if t.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if x.dsn && t.Return != "" {
		b = append(b, " RET="...)
		b = append(b, strings.ToUpper(t.Return)...)
	}
	if x.dsn && t.EnvelopeID != "" {
		b = append(b, " ENVID="...)
		b = appendXtext(b, t.EnvelopeID)
	}
	return append(b, '\r', '\n')
}

// appendRcpt appends the RCPT command of the recipient x.rcpts[i].
func (x *exchange) appendRcpt(b []byte, i int) []byte {
	r := &x.t.Recipients[x.rcpts[i].index]
	b = append(b, "RCPT TO:<"...)
	b = append(b, x.rcpts[i].addr...)
	b = append(b, '>')
	if x.dsn && len(r.Notify) > 0 {
		b = append(b, " NOTIFY="...)
		b = append(b, strings.ToUpper(strings.Join(r.Notify, ","))...)
	}
	if x.dsn && r.OriginalRecipient != "" {
		b = appendOriginal(b, r.OriginalRecipient)
	}
	return append(b, '\r', '\n')
}
