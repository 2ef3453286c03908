package remotetls

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/exterrors"

	"tlscontrol/internal/delivery"
)

// toMaddy turns a result into maddy's error type. The cause is passed on as
// text only: maddy's SMTP endpoint takes any error that wraps a
// context.DeadlineExceeded for its own and would answer something else.
func toMaddy(err error) error {
	if err == nil {
		return nil
	}
	var f *delivery.Failure
	if !errors.As(err, &f) {
		return &exterrors.SMTPError{
			Code: 451, EnhancedCode: exterrors.EnhancedCode{4, 3, 0},
			Message: "Internal error, try again later", TargetName: name, Err: errors.New(err.Error()),
		}
	}
	return &exterrors.SMTPError{
		Code:         f.Code,
		EnhancedCode: exterrors.EnhancedCode(f.Enhanced),
		Message:      f.Message,
		TargetName:   name,
		Err:          errors.New(f.Error()),
		Misc:         map[string]interface{}{"tls_reason": string(f.Reason)},
	}
}

// queueError is an SMTPError whose enhanced code maddy's queue can read: the
// queue looks for go-smtp's type where the endpoints look for maddy's own, and
// without it every bounce says 5.0.0.
type queueError struct {
	error
	enhanced smtp.EnhancedCode
}

// Unwrap returns the exterrors.SMTPError.
func (e queueError) Unwrap() error { return e.error }

// Fields overrides those of the wrapped error.
func (e queueError) Fields() map[string]interface{} {
	return map[string]interface{}{"smtp_enchcode": e.enhanced}
}

// forQueue is toMaddy for status collectors.
func forQueue(err error) error {
	converted := toMaddy(err)
	var se *exterrors.SMTPError
	if !errors.As(converted, &se) {
		return converted
	}
	return queueError{error: converted, enhanced: smtp.EnhancedCode(se.EnhancedCode)}
}

// together makes one result out of many for a caller that can pass on only one.
// A temporary failure wins, because a message that is sent twice is better than
// one that is lost; the text says so. Codes are those of the failure that wins.
func together(errs map[string]error) error {
	var (
		worst  *delivery.Failure
		failed []string
	)
	for _, rcpt := range slices.Sorted(maps.Keys(errs)) {
		err := errs[rcpt]
		if err == nil {
			continue
		}
		var f *delivery.Failure
		if !errors.As(err, &f) {
			return toMaddy(err)
		}
		failed = append(failed, rcpt)
		if worst == nil || f.Temporary() && !worst.Temporary() {
			worst = f
		}
	}
	if worst == nil {
		return nil
	}
	if len(errs) == 1 {
		return toMaddy(worst)
	}
	combined := &exterrors.SMTPError{
		Code: worst.Code, EnhancedCode: exterrors.EnhancedCode(worst.Enhanced),
		Message:    fmt.Sprintf("Not delivered to %d of %d recipients: %s", len(failed), len(errs), worst.Message),
		TargetName: name,
		Err:        errors.New(worst.Error()),
		Misc:       map[string]interface{}{"failed_rcpts": strings.Join(failed, " "), "tls_reason": string(worst.Reason)},
	}
	if worst.Temporary() && len(failed) < len(errs) {
		combined.Message += "; another attempt may result in duplicates for the others"
	}
	return combined
}
