package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/address"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/exterrors"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/api"
	"tlscontrol/internal/policy"
)

// maxSubmission bounds what checks, signing and the queue may take together.
const maxSubmission = 5 * time.Minute

// maxCommit bounds what comes after that: a queue has the message on disk by then.
const maxCommit = time.Minute

// source is what is needed of a tls_policy block.
type source interface {
	Fields() policy.Fields
	OverrideKey() (policy.Key, error)
	Row(ctx context.Context, sendingDomain string) (*policy.Block, error)
	Decide(policy.Question) policy.Settings
}

// mail hands messages to a target of maddy, usually a msgpipeline.
type mail struct {
	target   module.DeliveryTarget
	policy   source
	hostname string
	log      *log.Logger
	ending   context.Context // done when nothing may be taken any more
}

var _ api.Mail = (*mail)(nil)

// OverrideFields are those of the policy.
func (m *mail) OverrideFields() policy.Fields { return m.policy.Fields() }

// Submit does what an SMTP endpoint does between MAIL and the reply to the data. A
// client that leaves meanwhile changes nothing: a message is taken or not. At the
// end of the process it is not, unless it was already.
func (m *mail) Submit(ctx context.Context, message *api.Message) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxSubmission)
	defer cancel()
	defer context.AfterFunc(m.ending, cancel)()
	meta, err := m.metadata(message)
	if err != nil {
		return "", err
	}
	header := message.Header.Copy()
	if !message.Override.IsZero() {
		if err := m.admitted(ctx, message); err != nil {
			return "", err
		}
		key, err := m.policy.OverrideKey()
		if err != nil {
			m.log.Error("override cannot be stamped", err, "msg_id", meta.ID)
			return "", &api.Refusal{Temporary: true, Text: "Cannot accept the TLS override of this message now, try again later"}
		}
		header.Add(policy.StampField, key.Stamp(meta.ID, message.Override))
	}
	header.Add("Received", m.received(meta))
	sender, err := address.CleanDomain(message.Sender)
	if err != nil {
		return "", &api.Refusal{Text: "from parameter: the domain cannot be converted"}
	}
	delivery, err := m.target.Start(ctx, meta, sender)
	if err != nil {
		return "", m.refusal(meta, "", err)
	}
	return meta.ID, m.deliver(ctx, delivery, meta, func() (string, error) {
		for _, to := range message.Recipients {
			clean, err := address.CleanDomain(to)
			if err != nil {
				return to, err
			}
			if err := delivery.AddRcpt(ctx, clean, smtp.RcptOptions{}); err != nil {
				return to, err
			}
		}
		return "", delivery.Body(ctx, header, buffer.MemoryBuffer{Slice: message.Body})
	})
}

// admitted refuses an override that the policy will not follow for one of the
// recipients (message_override): whoever asks for something and does not get it is
// told.
func (m *mail) admitted(ctx context.Context, message *api.Message) error {
	from := domainOf(message.Sender)
	row, err := m.policy.Row(ctx, from)
	if err != nil {
		return &api.Refusal{Temporary: true, Text: "The TLS policy of " + from + " cannot be read now, try again later"}
	}
	for _, to := range message.Recipients {
		s := m.policy.Decide(policy.Question{
			SendingDomain: from, Destination: domainOf(to), Override: message.Override, Row: row,
		})
		option := ""
		switch asked := message.Override; {
		case asked.RequireTLS != policy.Unset && s.RequireTLS != (asked.RequireTLS == policy.Yes):
			option = "o:require-tls"
		case asked.SkipVerification != policy.Unset && s.SkipVerification != (asked.SkipVerification == policy.Yes):
			option = "o:skip-verification"
		default:
			continue
		}
		return &api.Refusal{Text: fmt.Sprintf("%s parameter: not admitted for %s, message_override is %s", option, to, s.MessageOverride)}
	}
	return nil
}

// domainOf is the domain of an address, as policies know it.
func domainOf(addr string) string {
	return policy.Normalize(addr[strings.LastIndexByte(addr, '@')+1:])
}

// deliver fills a delivery and commits it, or aborts it, also after a panic.
func (m *mail) deliver(ctx context.Context, delivery module.Delivery, meta *module.MsgMetadata, fill func() (string, error)) error {
	filled := false
	defer func() {
		if filled {
			return
		}
		if err := delivery.Abort(context.WithoutCancel(ctx)); err != nil {
			m.log.Error("delivery abort failed", err, "msg_id", meta.ID)
		}
	}()
	if recipient, err := fill(); err != nil {
		return m.refusal(meta, recipient, err)
	}
	// The queue has the message on disk now, and would send it after a restart.
	// Nobody will hear of it: out it goes again.
	if err := ctx.Err(); err != nil {
		return m.refusal(meta, "", err)
	}
	filled = true // an error of Commit is not followed by Abort
	// Nor is what has begun to be taken refused halfway.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), maxCommit)
	defer cancel()
	if err := delivery.Commit(ctx); err != nil {
		return m.refusal(meta, "", err)
	}
	return nil
}

// passes reports whether a message may be taken later. What the system says is not
// for ever: to Go, a disk that is full is no temporary error.
func passes(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) || exterrors.IsTemporaryOrUnspec(err)
}

// metadata describes a message to checks. The ID of the key takes the place of a
// user who logged in.
func (m *mail) metadata(message *api.Message) (*module.MsgMetadata, error) {
	id, err := module.GenerateMsgID()
	if err != nil {
		return nil, err
	}
	conn := &module.ConnState{
		Proto:      "HTTP",
		Hostname:   m.hostname,
		LocalAddr:  message.Client.Local,
		RemoteAddr: message.Client.Remote,
		AuthUser:   message.Client.KeyID,
	}
	if message.Client.TLS != nil {
		conn.Proto, conn.TLS = "HTTPS", *message.Client.TLS
	}
	return &module.MsgMetadata{
		ID:                 id,
		OriginalFrom:       message.Sender,
		DontTraceSender:    true, // as for submission: who sends from where is nobody's business
		SMTPOpts:           smtp.MailOptions{UTF8: message.UTF8},
		Conn:               conn,
		TLSRequireOverride: strings.EqualFold(strings.TrimSpace(message.Header.Get("TLS-Required")), "No"),
	}, nil
}

// received is the trace of the message's first station (RFC 5321, section 4.4).
func (m *mail) received(meta *module.MsgMetadata) string {
	by := ""
	if m.hostname != "" {
		by = "by " + m.hostname + " "
	}
	return by + "with " + meta.Conn.Proto + " id " + meta.ID + "; " + time.Now().UTC().Format(time.RFC1123Z)
}

// refusal says in words fit for the client why a message was not taken; the rest
// goes to the log.
func (m *mail) refusal(meta *module.MsgMetadata, recipient string, err error) error {
	m.log.Error("message refused", err, "msg_id", meta.ID, "rcpt", api.Plain(recipient), "key", meta.Conn.AuthUser)
	if errors.Is(err, context.DeadlineExceeded) {
		return &api.Refusal{Temporary: true, Text: "High load, try again later"}
	}
	if errors.Is(err, context.Canceled) {
		return &api.Refusal{Temporary: true, Text: "The server is shutting down, try again later"}
	}
	fields := exterrors.Fields(err)
	text, ok := fields["smtp_msg"].(string)
	if !ok {
		// What has no words for clients may name files and hosts.
		text = "Internal server error"
	}
	no := &api.Refusal{Temporary: passes(err), Text: text}
	if code, ok := fields["smtp_code"].(int); ok {
		no.Temporary = code < 500
		if enhanced, ok := fields["smtp_enchcode"].(exterrors.EnhancedCode); ok && enhanced[0] > 0 {
			no.Text = fmt.Sprintf("%d %d.%d.%d %s", code, enhanced[0], enhanced[1], enhanced[2], text)
		} else {
			no.Text = fmt.Sprintf("%d %s", code, text)
		}
	}
	if recipient != "" {
		no.Text = recipient + ": " + no.Text
	}
	no.Text += " (msg ID = " + meta.ID + ")"
	return no
}
