package remotetls

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/exterrors"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/tlsplan"
)

// status is what somebody reads out of an error.
type status struct {
	code     int
	enhanced string
	message  string
}

// asEndpoint reads an error as maddy's SMTP endpoint does, which answers 554
// without a text to errors that say nothing, and its own 451 4.4.5 to deadlines.
func asEndpoint(err error) status {
	if err == nil {
		return status{code: 250}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status{451, "4.4.5", "High load, try again later"}
	}
	fields := exterrors.Fields(err)
	code, _ := fields["smtp_code"].(int)
	enhanced, _ := fields["smtp_enchcode"].(exterrors.EnhancedCode)
	message, _ := fields["smtp_msg"].(string)
	return status{code, enhanced.FormatLog(), message}
}

// asQueue reads an error as maddy's queue does: the enhanced code is of another
// type, and what it does next depends on Temporary.
func asQueue(err error) (s status, temporary bool) {
	if err == nil {
		return status{code: 250}, false
	}
	fields := exterrors.Fields(err)
	s.code, _ = fields["smtp_code"].(int)
	enhanced, _ := fields["smtp_enchcode"].(smtp.EnhancedCode)
	s.enhanced = exterrors.EnhancedCode(enhanced).FormatLog()
	s.message, _ = fields["smtp_msg"].(string)
	return s, exterrors.IsTemporaryOrUnspec(err)
}

func failure(code int, enhanced [3]int, reason tlsplan.Reason, message string, cause error) *delivery.Failure {
	return &delivery.Failure{Code: code, Enhanced: enhanced, Reason: reason, Message: message, Err: cause}
}

// errDeadline is a cause that maddy's endpoint must not see.
var errDeadline = fmt.Errorf("dial tcp: %w", context.DeadlineExceeded)

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want status
		// reason is what the log says, field "reason", and tls its "tls_reason".
		reason, tls string
	}{
		{"temporary", failure(451, [3]int{4, 7, 4}, tlsplan.TLSNotOffered, "TLS is required", nil),
			status{451, "4.7.4", "TLS is required"}, "TLS is required", "tls-not-offered"},
		{"permanent", failure(550, [3]int{5, 7, 5}, tlsplan.CertificateExpired, "verified TLS is required", errors.New("x509: expired")),
			status{550, "5.7.5", "verified TLS is required"}, "verified TLS is required: x509: expired", "certificate-expired"},
		{"with codes of its own", failure(556, [3]int{5, 1, 10}, tlsplan.NullMX, "null MX", nil),
			status{556, "5.1.10", "null MX"}, "null MX", "null-mx"},
		{"out of time", failure(451, [3]int{4, 4, 2}, tlsplan.Timeout, "mx1.test did not answer in time (DATA)", errDeadline),
			status{451, "4.4.2", "mx1.test did not answer in time (DATA)"},
			"mx1.test did not answer in time (DATA): dial tcp: context deadline exceeded", "timeout"},
		{"wrapped", fmt.Errorf("recipient 3: %w", failure(450, [3]int{4, 2, 0}, tlsplan.RcptRejected, "greylisted", nil)),
			status{450, "4.2.0", "greylisted"}, "greylisted", "rcpt-rejected"},
		{"a stranger", errors.New("unexpected"),
			status{451, "4.3.0", "Internal error, try again later"}, "unexpected", ""},
		{"a stranger out of time", errDeadline,
			status{451, "4.3.0", "Internal error, try again later"}, "dial tcp: context deadline exceeded", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := toMaddy(test.err)
			if got := asEndpoint(err); got != test.want {
				t.Errorf("an endpoint reads %+v, want %+v", got, test.want)
			}
			queued := forQueue(test.err)
			got, temporary := asQueue(queued)
			if got != test.want || temporary != (test.want.code/100 == 4) {
				t.Errorf("the queue reads %+v, temporary %v, want %+v", got, temporary, test.want)
			}
			if exterrors.IsTemporary(err) != temporary {
				t.Error("endpoint and queue do not agree on whether it is temporary")
			}
			for _, err := range []error{err, queued} {
				fields := exterrors.Fields(err)
				tls, _ := fields["tls_reason"].(string)
				if fields["reason"] != test.reason || fields["target"] != "remote_tls" || tls != test.tls {
					t.Errorf("logged %v", fields)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("the deadline shows through")
				}
			}
		})
	}
	if toMaddy(nil) != nil {
		t.Error("an error out of nothing")
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	soft := failure(451, [3]int{4, 4, 1}, tlsplan.Connect, "no connection", errDeadline)
	hard := failure(550, [3]int{5, 1, 1}, tlsplan.RcptRejected, "no such user", nil)
	tests := []struct {
		name string
		errs map[string]error
		want status
		log  map[string]any
	}{
		{"nobody", nil, status{code: 250}, nil},
		{"all delivered", map[string]error{"a@x": nil, "b@x": nil}, status{code: 250}, nil},
		{"the only one", map[string]error{"a@x": hard}, status{550, "5.1.1", "no such user"}, map[string]any{"tls_reason": "rcpt-rejected"}},
		{"the only one, for now", map[string]error{"a@x": soft}, status{451, "4.4.1", "no connection"}, map[string]any{"tls_reason": "connect"}},
		{"one of two", map[string]error{"a@x": nil, "b@x": hard}, status{550, "5.1.1", "Not delivered to 1 of 2 recipients: no such user"},
			map[string]any{"failed_rcpts": "b@x", "tls_reason": "rcpt-rejected"}},
		{"one of two, for now", map[string]error{"a@x": soft, "b@x": nil},
			status{451, "4.4.1", "Not delivered to 1 of 2 recipients: no connection; another attempt may result in duplicates for the others"},
			map[string]any{"failed_rcpts": "a@x", "tls_reason": "connect"}},
		{"temporary wins", map[string]error{"a@x": hard, "b@x": soft, "c@x": nil},
			status{451, "4.4.1", "Not delivered to 2 of 3 recipients: no connection; another attempt may result in duplicates for the others"},
			map[string]any{"failed_rcpts": "a@x b@x", "reason": "no connection: dial tcp: context deadline exceeded"}},
		{"nothing to duplicate", map[string]error{"a@x": soft, "b@x": soft}, status{451, "4.4.1", "Not delivered to 2 of 2 recipients: no connection"},
			map[string]any{"failed_rcpts": "a@x b@x"}},
		{"a stranger", map[string]error{"a@x": errors.New("unexpected"), "b@x": nil}, status{451, "4.3.0", "Internal error, try again later"},
			map[string]any{"reason": "unexpected"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := together(test.errs)
			if got := asEndpoint(err); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if (err == nil) != (test.want.code == 250) {
				t.Errorf("error %v", err)
			}
			fields := exterrors.Fields(err)
			for k, v := range test.log {
				if fields[k] != v {
					t.Errorf("%s: got %v, want %v", k, fields[k], v)
				}
			}
		})
	}
}
