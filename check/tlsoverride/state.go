package tlsoverride

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/emersion/go-message/textproto"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/exterrors"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
)

// checkName is how the check calls itself in rejections.
const checkName = "tls_override"

// state is the check of one message.
type state struct {
	c       *Check
	msgMeta *module.MsgMetadata
}

// CheckStateForMsg begins the check of a message.
func (c *Check) CheckStateForMsg(_ context.Context, msgMeta *module.MsgMetadata) (module.CheckState, error) {
	return &state{c: c, msgMeta: msgMeta}, nil
}

// CheckConnection has nothing to say: overrides are in the header.
func (*state) CheckConnection(context.Context) module.CheckResult { return module.CheckResult{} }

// CheckSender has nothing to say.
func (*state) CheckSender(context.Context, string) module.CheckResult { return module.CheckResult{} }

// CheckRcpt has nothing to say.
func (*state) CheckRcpt(context.Context, string) module.CheckResult { return module.CheckResult{} }

// Close has nothing to release.
func (*state) Close() error { return nil }

// CheckBody reads the override fields of an admitted client's message. The
// result is empty, a rejection, or the stamp.
func (s *state) CheckBody(_ context.Context, header textproto.Header, _ buffer.Buffer) (result module.CheckResult) {
	// maddy takes a check that panics for passed, and the override would be lost.
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("panic: %v", p)
			s.c.log.Error("check failed", err, "msg_id", s.msgMeta.ID, "stack", string(debug.Stack()))
			result = unavailable(err)
		}
	}()
	if !s.admitted() {
		return module.CheckResult{}
	}
	override, err := s.c.policy.Fields().Read(header.Values)
	if err != nil {
		return refused(err)
	}
	if override.IsZero() {
		return module.CheckResult{}
	}
	key, err := s.c.policy.OverrideKey()
	if err != nil {
		return unavailable(err)
	}
	result.Header.Add(policy.StampField, key.Stamp(s.msgMeta.ID, override))
	return result
}

// admitted reports whether the overrides of this message's client count.
func (s *state) admitted() bool {
	switch s.c.allow {
	case everybody:
		return true
	case authenticated:
		return s.msgMeta.Conn != nil && s.msgMeta.Conn.AuthUser != ""
	}
	return false
}

// refused rejects a message whose override cannot be followed. The client's own
// words are in the reply, escaped and cut.
func refused(err error) module.CheckResult {
	rejection := &exterrors.SMTPError{
		Code:         554,
		EnhancedCode: exterrors.EnhancedCode{5, 6, 0},
		Message:      "Message refused: " + err.Error(),
		CheckName:    checkName,
		Err:          err,
	}
	var field *policy.FieldError
	if errors.As(err, &field) {
		rejection.Misc = map[string]interface{}{"field": field.Field, "value": field.Value}
	}
	return module.CheckResult{Reject: true, Reason: rejection}
}

// unavailable rejects a message for now. The reply tells nothing about our
// files; the log does.
func unavailable(err error) module.CheckResult {
	return module.CheckResult{Reject: true, Reason: &exterrors.SMTPError{
		Code:         451,
		EnhancedCode: exterrors.EnhancedCode{4, 3, 0},
		Message:      "Cannot accept the TLS override of this message now, try again later",
		CheckName:    checkName,
		Err:          err,
	}}
}
