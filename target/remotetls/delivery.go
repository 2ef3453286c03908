package remotetls

import (
	"context"
	"strings"
	"sync"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/address"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// messageDelivery collects one message. Nothing is sent before Body: all
// recipients are known before the first byte goes out.
type messageDelivery struct {
	target *Target
	msg    delivery.Message
	// badSender: MAIL FROM is no address. Recipients are refused, one by one, so
	// that each has its line in the log.
	badSender bool
	// quarantine is asked late, because the pipeline decides late.
	quarantine func() bool
}

var (
	_ module.Delivery        = (*messageDelivery)(nil)
	_ module.PartialDelivery = (*messageDelivery)(nil)
)

// AddRcpt implements module.Delivery. It refuses what can never be delivered
// and remembers the rest.
func (d *messageDelivery) AddRcpt(_ context.Context, to string, opts smtp.RcptOptions) error {
	r := delivery.Recipient{Address: to, Options: opts}
	if d.quarantine() {
		return d.refuse(r, 550, [3]int{5, 7, 0}, tlsplan.Policy, "Refusing to deliver a quarantined message")
	}
	if no := d.take(r); no != nil {
		return d.refuse(r, no.code, no.enhanced, no.reason, no.text)
	}
	return nil
}

// refusal is why a recipient can never be delivered to.
type refusal struct {
	code     int
	enhanced [3]int
	reason   tlsplan.Reason
	text     string
}

// take takes an address apart and adds it to the message.
func (d *messageDelivery) take(r delivery.Recipient) *refusal {
	local, domain, err := address.Split(r.Address)
	switch {
	case err != nil:
		return &refusal{501, [3]int{5, 1, 3}, tlsplan.RcptRejected, "Malformed recipient address"}
	case d.badSender:
		return &refusal{501, [3]int{5, 1, 8}, tlsplan.MailRejected, "Malformed sender address"}
	case domain == "":
		return &refusal{550, [3]int{5, 1, 1}, tlsplan.RcptRejected, "The address <postmaster> without a domain is not supported"}
	case strings.HasPrefix(domain, "["):
		return &refusal{550, [3]int{5, 1, 1}, tlsplan.RcptRejected, "IP address literals are not supported"}
	}
	// What cannot be normalised is compared as it is; looking it up will say
	// what is wrong with it.
	r.Domain = policy.Normalize(domain)
	r.Local = local
	d.msg.Recipients = append(d.msg.Recipients, r)
	return nil
}

// refuse lets the log have its line and returns the error for the caller.
func (d *messageDelivery) refuse(r delivery.Recipient, code int, enhanced [3]int, reason tlsplan.Reason, text string) error {
	return toMaddy(d.target.engine.Refuse(&d.msg, r, code, enhanced, reason, text))
}

// Body implements module.Delivery for callers that know one result for all
// recipients.
func (d *messageDelivery) Body(ctx context.Context, header textproto.Header, body buffer.Buffer) error {
	var (
		mu   sync.Mutex
		errs = make(map[string]error)
	)
	d.deliver(ctx, header, body, func(rcpt string, err error) {
		mu.Lock()
		defer mu.Unlock()
		errs[rcpt] = err
	})
	return together(errs)
}

// BodyNonAtomic implements module.PartialDelivery.
func (d *messageDelivery) BodyNonAtomic(ctx context.Context, c module.StatusCollector, header textproto.Header, body buffer.Buffer) {
	d.deliver(ctx, header, body, func(rcpt string, err error) {
		if err == nil {
			c.SetStatus(rcpt, nil)
			return
		}
		c.SetStatus(rcpt, forQueue(err))
	})
}

func (d *messageDelivery) deliver(ctx context.Context, header textproto.Header, body buffer.Buffer, report delivery.Report) {
	d.msg.Header, d.msg.Body = header, body
	if d.quarantine() {
		for _, r := range d.msg.Recipients {
			report(r.Address, d.target.engine.Refuse(&d.msg, r, 550, [3]int{5, 7, 0}, tlsplan.Policy, "Refusing to deliver a quarantined message"))
		}
		return
	}
	d.target.engine.Deliver(ctx, &d.msg, report)
}

// Abort implements module.Delivery. Nothing is held between the calls.
func (d *messageDelivery) Abort(context.Context) error { return nil }

// Commit implements module.Delivery. What Body delivered is delivered.
func (d *messageDelivery) Commit(context.Context) error { return nil }
