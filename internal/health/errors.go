package health

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// OpenError says that an address is not dialled now.
type OpenError struct {
	Since time.Time // when the first dial began that was not answered
	Until time.Time // when it may be dialled again; zero: as soon as the dial under way has ended
	Cause string    // of the last failure, may be empty
}

func (e *OpenError) Error() string {
	layout := time.TimeOnly
	if !e.sameDay() {
		layout = time.DateTime
	}
	when := "while another attempt is under way"
	if !e.Until.IsZero() {
		when = "again until " + e.Until.Format(layout)
	}
	text := "not dialled " + when + ": no answer since " + e.Since.Format(layout)
	if e.Cause != "" {
		text += " (" + e.Cause + ")"
	}
	return text
}

// sameDay says whether Since and Until can be told apart without their dates.
// The time of a dial under way is not known, so that its error has the date.
func (e *OpenError) sameDay() bool {
	y1, m1, d1 := e.Since.Date()
	y2, m2, d2 := e.Until.Date()
	return y1 == y2 && m1 == m2 && d1 == d2
}

// BusyError says that a host has no place free and that no more is waited for
// one.
type BusyError struct {
	Host    string
	Limit   int           // places of the host at that time
	Waiting int           // others waiting for a place of the host
	Waited  time.Duration // zero if the queue was full
}

func (e *BusyError) Error() string {
	if e.Waited == 0 {
		return fmt.Sprintf("all %d sessions allowed with %s are busy, and %d deliveries wait for one",
			e.Limit, e.Host, e.Waiting)
	}
	return fmt.Sprintf("none of the %d sessions allowed with %s became free within %v",
		e.Limit, e.Host, e.Waited)
}

// maxCause bounds the text kept of a failure. Texts of dialling are shorter.
const maxCause = 200

// timedOut says whether a failure was that nobody answered in time.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// causeOf is the text of a failure without what whoever reads it knows: that
// it was a dial, and of what address.
func causeOf(err error) string {
	var (
		op  *net.OpError
		sys *os.SyscallError
	)
	switch {
	case err == nil:
		return ""
	case timedOut(err):
		return "timed out"
	case errors.As(err, &sys):
		err = sys.Err
	case errors.As(err, &op) && op.Err != nil:
		err = op.Err
	}
	text := err.Error()
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "..."
	}
	return strings.Clone(text)
}
