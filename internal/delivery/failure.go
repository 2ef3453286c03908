package delivery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// Failure is why a recipient did not get the message in this attempt. It is
// what Deliver reports as the recipient's error.
type Failure struct {
	// Code and Enhanced are the status for whoever handed the message in; the
	// class of both is the same. 4xx means that a later attempt may succeed.
	Code     int
	Enhanced [3]int
	// Message is one printable line for the sender of the message.
	Message string
	Reason  tlsplan.Reason
	// Reply is what the remote side said, if it was the one who refused.
	Reply *smtpwire.Reply
	// Err is the cause, for the log.
	Err error
}

// Error is the text for logs.
func (f *Failure) Error() string {
	if f.Err != nil {
		return f.Message + ": " + printable(fmt.Sprint(f.Err), maxStatusText)
	}
	return f.Message
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Temporary reports whether the message may be tried again.
func (f *Failure) Temporary() bool { return f.Code/100 == 4 }

// maxStatusText bounds what a status passes on of a remote text: an SMTP reply
// line has 512 octets (RFC 5321, section 4.5.3.1.5), and some are ours.
const maxStatusText = 400

// failf makes a failure with a text of our own.
func failf(code int, enhanced [3]int, reason tlsplan.Reason, err error, format string, args ...any) *Failure {
	return &Failure{
		Code: code, Enhanced: enhanced, Reason: reason, Err: err,
		Message: printable(fmt.Sprintf(format, args...), maxStatusText),
	}
}

// internalFailure is for what must not happen; it is always temporary, so that
// nothing is lost over a bug.
func internalFailure(err error) *Failure {
	return failf(451, [3]int{4, 3, 0}, tlsplan.Internal, err, "Internal error, try again later")
}

// cancelled is the failure of a delivery that was told to stop.
func cancelled(err error) *Failure {
	if errors.Is(err, context.DeadlineExceeded) {
		return failf(451, [3]int{4, 4, 2}, tlsplan.Timeout, err, "The delivery took too long")
	}
	return failf(451, [3]int{4, 3, 2}, tlsplan.Internal, err, "The delivery was stopped, try again later")
}

// tlsFailure is what a plan does when TLS is not as it demands: the codes of
// RFC 3463 for security, 5.7.30 for REQUIRETLS (RFC 8689, section 5), temporary
// unless the operator wants otherwise.
func tlsFailure(plan tlsplan.Plan, host string, p *tlsplan.Problem) *Failure {
	demand := plan.Demand
	var enhanced [3]int
	switch {
	case p.Reason == tlsplan.RequireTLSUnsupported, p.Reason == tlsplan.MXUnauthenticated && plan.NeedAuthenticMX,
		p.Reason == tlsplan.TLSNotOffered && plan.HasFloor(tlsplan.FloorREQUIRETLS):
		return failf(550, [3]int{5, 7, 30}, p.Reason, nil, "REQUIRETLS cannot be met by %s: %s", host, p.Text)
	case p.Reason == tlsplan.TLSNotOffered || p.Reason == tlsplan.TLSRejected:
		enhanced = [3]int{4, 7, 4}
	case p.Reason == tlsplan.MXUnauthenticated, p.Reason == tlsplan.MTASTSMismatch:
		enhanced = [3]int{4, 7, 0}
	default:
		enhanced = [3]int{4, 7, 5}
	}
	code := 451
	if plan.OnFailure == policy.Reject {
		code, enhanced[0] = 550, 5
	}
	if enhanced[2] == 0 {
		return failf(code, enhanced, p.Reason, nil, "%s may not be used: %s", host, p.Text)
	}
	what := "TLS"
	if demand == tlsplan.DemandVerified || demand == tlsplan.DemandDANE {
		what = "verified TLS"
	}
	return failf(code, enhanced, p.Reason, nil, "%s is required but %s cannot give it: %s", what, host, p)
}

// routeFailure maps what the DNS said of a domain or a host.
func routeFailure(err error) *Failure {
	var re *route.Error
	if !errors.As(err, &re) {
		return failf(451, [3]int{4, 4, 3}, tlsplan.MXLookup, err, "The domain could not be looked up")
	}
	switch re.Kind {
	case route.NullMX:
		return failf(556, [3]int{5, 1, 10}, tlsplan.NullMX, err, "The domain does not accept mail (null MX)")
	case route.NotFound:
		return failf(550, [3]int{5, 1, 2}, tlsplan.MXLookup, err, "The domain does not exist or has no mail host")
	case route.NoUsable:
		return failf(451, [3]int{4, 4, 4}, tlsplan.MXLookup, err, "The domain has no usable MX record")
	}
	return failf(451, [3]int{4, 4, 3}, tlsplan.MXLookup, err, "The domain could not be looked up, try again later")
}

// wireFailure maps what happened on the SMTP connection with host.
func wireFailure(host string, err error) *Failure {
	var we *smtpwire.Error
	if !errors.As(err, &we) {
		return internalFailure(err)
	}
	if we.Reply != nil {
		return replyFailure(host, we)
	}
	switch {
	case errors.Is(err, smtpwire.ErrTooLarge):
		return failf(552, [3]int{5, 3, 4}, tlsplan.MessageTooLarge, err, "The message is larger than %s accepts", host)
	case errors.Is(err, smtpwire.ErrUTF8):
		// RFC 6531, section 3.5.
		reason := tlsplan.RcptRejected
		if we.Stage == smtpwire.StageMail {
			reason = tlsplan.MailRejected
		}
		return failf(550, [3]int{5, 6, 7}, reason, err, "%s does not take internationalized mail (SMTPUTF8)", host)
	case errors.Is(err, smtpwire.ErrBadAddress):
		if we.Stage == smtpwire.StageMail {
			return failf(553, [3]int{5, 1, 7}, tlsplan.MailRejected, err, "The sender address cannot be used in SMTP")
		}
		return failf(553, [3]int{5, 1, 3}, tlsplan.RcptRejected, err, "The recipient address cannot be used in SMTP")
	case errors.Is(err, errContent), errors.Is(err, smtpwire.ErrPanic):
		return internalFailure(err)
	case errors.Is(err, context.Canceled):
		return cancelled(err)
	case we.Timeout():
		return failf(451, [3]int{4, 4, 2}, tlsplan.Timeout, err, "%s did not answer in time (%s)", host, we.Stage)
	}
	return failf(451, [3]int{4, 4, 2}, tlsplan.ConnectionLost, err, "The connection to %s was lost (%s)", host, we.Stage)
}

// replyFailure passes on a refusal by the remote side.
func replyFailure(host string, we *smtpwire.Error) *Failure {
	if we.Reply.Code < 400 {
		// A 2xx or 3xx where none belongs: the peer lost its way, we do not.
		return failf(451, [3]int{4, 5, 0}, tlsplan.ConnectionLost, we, "%s does not keep to the protocol (%s)", host, we.Stage)
	}
	f := &Failure{
		Code:     we.Reply.Code,
		Enhanced: we.Reply.Enhanced,
		Reason:   stageReason(we.Stage),
		Reply:    we.Reply,
		Err:      we,
		Message:  printable(fmt.Sprintf("%s said: %s", host, we.Reply), maxStatusText),
	}
	if f.Code == 552 && f.Enhanced == [3]int{5, 3, 4} {
		f.Reason = tlsplan.MessageTooLarge
	} else if f.Code == 552 && we.Stage == smtpwire.StageRcpt {
		// "too many recipients" in the words of old servers, RFC 5321,
		// section 4.5.3.1.10.
		f.Code = 452
		if f.Enhanced == [3]int{} {
			f.Enhanced = [3]int{4, 5, 3}
		}
	}
	if class := f.Code / 100; f.Enhanced[0] != class {
		f.Enhanced[0] = class
	}
	return f
}

// stageReason names a refusal by the command that was refused.
func stageReason(s smtpwire.Stage) tlsplan.Reason {
	switch s {
	case smtpwire.StageMail:
		return tlsplan.MailRejected
	case smtpwire.StageRcpt:
		return tlsplan.RcptRejected
	case smtpwire.StageData, smtpwire.StageBody, smtpwire.StageFinal:
		return tlsplan.DataRejected
	}
	return tlsplan.Connect
}

// worse picks the failure that speaks for a domain after all its hosts failed:
// a temporary one before a permanent one, the earlier one among equals, because
// hosts are tried in order of preference.
func worse(first, next *Failure) *Failure {
	switch {
	case first == nil:
		return next
	case next == nil || first.Temporary() || !next.Temporary():
		return first
	}
	return next
}

// printable makes one line of at most limit bytes out of any text: control
// characters and line breaks become spaces, so that it cannot break or forge a
// line wherever it is written.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		cut := limit
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		s = s[:cut]
	}
	return s
}
