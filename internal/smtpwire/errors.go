package smtpwire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// Stage says in which step of a session something went wrong.
type Stage string

// The steps in the order of the walk. StageBody is the writing of the
// message, StageFinal the wait for the reply that decides about it.
const (
	StageGreeting  Stage = "greeting"
	StageEHLO      Stage = "ehlo"
	StageSTARTTLS  Stage = "starttls"
	StageHandshake Stage = "handshake"
	StageMail      Stage = "mail"
	StageRcpt      Stage = "rcpt"
	StageData      Stage = "data"
	StageBody      Stage = "body"
	StageFinal     Stage = "final"
	StageReset     Stage = "rset"
	StageQuit      Stage = "quit"
)

// Causes that are neither a reply nor an error of the network; found in
// Error.Err with errors.Is.
var (
	// ErrInjected: bytes arrived in clear before the TLS handshake, where a
	// conforming server is silent (RFC 3207, section 4.2; CVE-2011-0411).
	ErrInjected = errors.New("bytes in clear before the TLS handshake")
	// ErrProtocol: what the server sent is not an SMTP reply, or not one that
	// may follow at this point.
	ErrProtocol = errors.New("protocol error")
	// ErrReplyTooLong: a line or a reply without end. It is an ErrProtocol too.
	ErrReplyTooLong = fmt.Errorf("%w: reply too long", ErrProtocol)
	// ErrTooLarge: the message exceeds the announced SIZE (RFC 1870, section 6.1).
	ErrTooLarge = errors.New("message exceeds the size announced by the server")
	// ErrUTF8: the address needs SMTPUTF8, which is not in use (RFC 6531).
	ErrUTF8 = errors.New("address cannot be written without SMTPUTF8")
	// ErrBadAddress: an address or DSN parameter that may not be put into a command.
	ErrBadAddress = errors.New("address not usable in a command")
	// ErrBadHostname: Config.Hostname may not be put into EHLO.
	ErrBadHostname = errors.New("host name not usable in EHLO")
	// ErrClosed: the session ended before this call.
	ErrClosed = errors.New("session is closed")
	// ErrPanic: code handed in by the caller (Transaction.Content) panicked.
	ErrPanic = errors.New("panic while sending")
)

// Error is what every method of Conn returns: the stage, and either the
// server's reply or the reason why there is none.
type Error struct {
	Stage Stage
	// Reply is the server's reply where one was the reason: 4xx, 5xx, or one
	// that may not come at this stage.
	Reply *Reply
	// Err is the network, TLS or protocol error. Beside a Reply it says why that
	// reply is unexpected, or how the connection broke right after it.
	Err error
}

// Error describes the failure in one line of printable text, whatever bytes
// the server sent.
func (e *Error) Error() string {
	s := "smtp: " + string(e.Stage)
	if e.Reply != nil {
		s += ": " + e.Reply.String()
	}
	if e.Err != nil {
		s += ": " + escape(e.Err.Error())
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether a deadline, of the phase or of the context, passed.
func (e *Error) Timeout() bool { return isTimeout(e.Err) }

// Temporary reports whether a later attempt may succeed: false for a 5xx reply
// and for a message or address that this server cannot be offered.
func (e *Error) Temporary() bool {
	if e.Reply != nil && e.Reply.Permanent() {
		return false
	}
	return !errors.Is(e.Err, ErrTooLarge) && !errors.Is(e.Err, ErrUTF8) && !errors.Is(e.Err, ErrBadAddress)
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// escape makes text from outside fit for one line of a log: what is not
// printable becomes a Go escape sequence.
func escape(s string) string {
	unsafe := func(r rune) bool { return !unicode.IsPrint(r) }
	if strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
