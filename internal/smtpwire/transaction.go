package smtpwire

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Recipient is one RCPT command.
type Recipient struct {
	Address string
	// Notify is NEVER, or any of SUCCESS, FAILURE, DELAY; used where DSN is offered.
	Notify []string
	// OriginalRecipient is "type;address" as in "rfc822;a@example.org", not yet
	// encoded, or empty; used where DSN is offered.
	OriginalRecipient string
}

// Transaction is one message to be sent to one server.
type Transaction struct {
	From       string // empty is the null sender
	Recipients []Recipient
	Size       int64  // estimate of header and body in octets; 0 is unknown
	UTF8       bool   // the message wants SMTPUTF8 (RFC 6531)
	Body       string // "", "7BIT" or "8BITMIME", as the submitter declared
	RequireTLS bool   // send REQUIRETLS (RFC 8689); the caller checked that it is offered
	Return     string // RET: "", "FULL" or "HDRS"; used where DSN is offered
	EnvelopeID string // ENVID, not yet encoded; used where DSN is offered
	// Deadline bounds the transaction in all, besides the deadlines of its
	// phases; zero is none.
	Deadline time.Time
	// EnvelopeFirst keeps the message back until the envelope is answered, where
	// it could go out in the same flight.
	EnvelopeFirst bool

	Header []byte // with the empty line that ends it
	// Content opens what follows the header, the same each time it is called. It
	// is not called if the server wants no message. Nil is an empty body.
	Content func() (io.ReadCloser, error)
}

// RecipientResult is the fate of one recipient.
type RecipientResult struct {
	// Err is nil only if the final 2xx for the message was read after the
	// recipient had been accepted; else it is an *Error.
	Err error
}

// Result is the fate of a transaction.
type Result struct {
	// Recipients are in the order of the transaction, and all of them, always.
	Recipients []RecipientResult
	// Final is the reply that accepted the message, if one did.
	Final Reply
	// Err is not nil, and an *Error, if the session broke and was closed.
	Err error
	// Replied is false if the session broke before one byte of a reply to this
	// transaction came: the connection was probably stale. A 421 in place of the
	// reply to MAIL on a session that was used before is its good-bye to an idle
	// client, not a reply to this transaction. Not meaningful while Err is nil.
	Replied bool
	// Written tells that the last of the message was on its way, so that the
	// server may have taken it although no final reply came.
	Written bool
	// ContentSent tells that octets of the message were handed to the connection:
	// whoever reads along may have them, whatever became of the transaction.
	ContentSent bool
	// Surplus tells that the server gave more replies than there were commands. In one
	// flight with the envelope none of its replies can be trusted to be the final one.
	Surplus bool
	// Clean tells that another Send may follow without Reset. After a refused
	// chunk the session is closed and Reset fails.
	Clean bool
	// UTF8 tells that SMTPUTF8 was asked for.
	UTF8 bool
}

// wireRcpt is a recipient that goes into a command.
type wireRcpt struct {
	index int // in Transaction.Recipients
	addr  string
}

// exchange is one transaction under way.
type exchange struct {
	c   *Conn
	t   *Transaction
	res Result
	buf *buffers
	src source

	from        string
	rcpts       []wireRcpt
	one         [1]wireRcpt // room for most messages
	dsn         bool
	reused      bool  // the session served something before this transaction
	stale       bool  // its first reply was a 421 to an idle client
	sent        bool  // something was written
	refused     bool  // some command of ours was answered 4xx or 5xx
	mailRefused bool  // and that was MAIL
	accepted    int   // recipients that got 2xx
	closing     bool  // DATA or BDAT LAST is out, its reply still to be read
	awaited     int   // replies to the flight under way
	left        int64 // octets of a large chunk that are still to be sent
	chunked     bool  // BDAT was written
	streamed    bool  // something was written after 354
	written     bool  // and its last octet, or the final dot
	surplus     bool  // there were more replies than commands
	delivered   bool  // the final 2xx was read
}

// Send sends one message. It does not panic, and Result.Recipients has an entry for
// each recipient, whatever happens. A recipient whose address may not be put into a
// command, and a message larger than the announced SIZE, fail without a word to
// the server. The caller calls Reset first if the session is not clean.
func (c *Conn) Send(ctx context.Context, t *Transaction) Result {
	x := &c.exchange
	*x = exchange{c: c, t: t, reused: c.used}
	c.last = t.Deadline
	defer func() {
		c.last = time.Time{}
		*x = exchange{} // an idle session keeps no message
	}()
	x.res.Recipients = make([]RecipientResult, len(t.Recipients))
	c.rr.got = false
	x.guarded(ctx)
	if !x.delivered {
		// Nobody is left without a status, whatever was forgotten above.
		x.settle(&Error{Stage: StageFinal, Err: ErrClosed})
	}
	if x.chunked && !x.delivered || x.surplus {
		c.broken = true // see smuggle.go, surplusPositive
		_ = c.Close()
	}
	if x.sent {
		c.used = true
		c.clean = x.delivered && !x.refused && c.br.Buffered() == 0
	}
	if cap(c.out) > headRoom {
		c.out = nil
	}
	x.res.Clean = c.clean && !c.broken && x.res.Err == nil
	x.res.Replied = c.rr.got && !x.stale
	x.res.Written, x.res.Surplus = x.written, x.surplus
	x.res.ContentSent = x.chunked || x.streamed
	return x.res
}

// guarded runs the transaction and turns a panic, which only the caller's
// Content can cause, into a failure of the session.
func (x *exchange) guarded(ctx context.Context) {
	x.c.begin(ctx)
	defer x.c.end()
	x.buf = buffersPool.Get().(*buffers)
	defer func() {
		if p := recover(); p != nil {
			// The buffers are left to the collector: the panicking code may
			// still hold on to them.
			x.broke(StageBody, nil, fmt.Errorf("%w: %v", ErrPanic, p))
			return
		}
		buffersPool.Put(x.buf)
	}()
	x.src = x.source()
	defer func() { x.src.close() }()
	if x.prepare() {
		x.run()
	}
}

// source is the message from its beginning.
func (x *exchange) source() source {
	return source{pending: x.t.Header, raw: x.buf.raw[:], open: x.t.Content}
}

// prepare settles everything that needs no word from the server. It returns
// false if there is nothing to send.
func (x *exchange) prepare() bool {
	c, t := x.c, x.t
	if err := c.ready(); err != nil {
		x.broke(StageMail, nil, err)
		return false
	}
	if err := c.interrupted(); err != nil {
		return x.reject(fmt.Errorf("interrupted: %w", err))
	}
	if x.reused {
		if err := c.quiet(); err != nil {
			x.broke(StageMail, nil, err)
			return false
		}
	}
	if max := c.ext.Size(); max > 0 && t.Size > max {
		return x.reject(fmt.Errorf("%w: %d of %d octets", ErrTooLarge, t.Size, max))
	}
	x.dsn = c.ext.Has("DSN")
	x.res.UTF8 = c.ext.Has("SMTPUTF8") && (t.UTF8 || t.localUTF8())
	if t.UTF8 && !x.res.UTF8 && !isASCII(string(t.Header)) {
		// RFC 6531, section 3.2: an internationalised header goes nowhere else.
		return x.reject(ErrUTF8)
	}
	if err := x.sender(); err != nil {
		return x.reject(err)
	}
	x.rcpts = x.one[:0]
	if len(t.Recipients) > len(x.one) {
		x.rcpts = make([]wireRcpt, 0, len(t.Recipients))
	}
	for i := range t.Recipients {
		addr, err := x.recipient(&t.Recipients[i])
		if err != nil {
			x.res.Recipients[i].Err = &Error{Stage: StageRcpt, Err: err}
			continue
		}
		x.rcpts = append(x.rcpts, wireRcpt{i, addr})
	}
	return len(x.rcpts) > 0
}

// localUTF8 reports whether an address cannot be written in ASCII, whatever is
// done to its domain.
func (t *Transaction) localUTF8() bool {
	international := func(addr string) bool { return !isASCII(addr[:strings.LastIndexByte(addr, '@')+1]) }
	for i := range t.Recipients {
		if international(t.Recipients[i].Address) {
			return true
		}
	}
	return international(t.From)
}

// reject fails all recipients before a byte is sent; the session goes on.
func (x *exchange) reject(err error) bool {
	x.settle(&Error{Stage: StageMail, Err: err})
	return false
}

// sender checks what goes into the MAIL command.
func (x *exchange) sender() (err error) {
	if x.t.From != "" {
		if x.from, err = wireAddress(x.t.From, x.res.UTF8); err != nil {
			return err
		}
	}
	if !x.dsn {
		return nil
	}
	switch strings.ToUpper(x.t.Return) {
	case "", "FULL", "HDRS":
	default:
		return fmt.Errorf("%w: malformed RET", ErrBadAddress)
	}
	if len(x.t.EnvelopeID) > maxAddress {
		return fmt.Errorf("%w: ENVID longer than %d octets", ErrBadAddress, maxAddress)
	}
	return nil
}

// recipient checks what goes into a RCPT command and returns its address.
func (x *exchange) recipient(r *Recipient) (addr string, err error) {
	addr, err = wireAddress(r.Address, x.res.UTF8)
	if err == nil && x.dsn {
		err = checkNotify(r.Notify)
	}
	if err == nil && x.dsn {
		err = checkOriginal(r.OriginalRecipient)
	}
	return addr, err
}

// settle gives e to every recipient that has no error of its own.
func (x *exchange) settle(e *Error) {
	for i := range x.res.Recipients {
		if r := &x.res.Recipients[i]; r.Err == nil {
			r.Err = e
		}
	}
}

// refuse settles the transaction with the newest reply; the session goes on.
func (x *exchange) refuse(stage Stage) {
	r := x.c.rr.reply()
	x.refused = true
	x.settle(&Error{Stage: stage, Reply: &r})
}

// broke ends the session, and the transaction with it unless that is decided.
func (x *exchange) broke(stage Stage, reply *Reply, err error) {
	e := x.c.fail(stage, reply, err)
	x.res.Err = e
	if reply != nil && reply.Code == 421 && stage == StageMail {
		x.stale = x.reused
	}
	if !x.delivered {
		x.settle(e)
	}
}
