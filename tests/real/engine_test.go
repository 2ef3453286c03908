package real

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/pool"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// verified wants verified TLS for everything.
type verified struct{}

func (verified) Row(context.Context, string) (*policy.Block, error) { return nil, nil }
func (verified) Decide(policy.Question) policy.Settings             { return policy.Settings{RequireTLS: true} }

// newEngine delivers to a receiver, for what maddy's endpoints do not take from a
// client, or not in clear. change may alter the configuration.
func newEngine(t *testing.T, to *receiver, change func(*delivery.Config)) *delivery.Engine {
	t.Helper()
	cfg := delivery.Config{
		Module:         "outbound",
		Hostname:       "relay.example.com",
		Port:           to.port,
		Policies:       verified{},
		Fields:         policy.DefaultFields(),
		Key:            func() (policy.Key, error) { return policy.Key{1}, nil },
		Routes:         route.NewResolver([]string{to.dns.Addr()}),
		Dial:           (&net.Dialer{}).DialContext,
		TLS:            &tls.Config{RootCAs: to.ca.Pool()},
		Wire:           smtpwire.Config{Hostname: "relay.example.com", Timeouts: smtpwire.Timeouts{Greeting: hang, Command: hang, Body: hang, Final: hang}},
		ConnectTimeout: hang,
		ReuseLimit:     10,
		Pool:           pool.Config{PerHost: 5, Total: 50, IdleTime: time.Hour},
	}
	if change != nil {
		change(&cfg)
	}
	e := delivery.New(cfg)
	t.Cleanup(e.Close)
	return e
}

// deliver delivers a message with an engine of its own and returns the status of
// each recipient.
func deliver(t *testing.T, to *receiver, m *delivery.Message, change func(*delivery.Config)) map[string]error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	var mu sync.Mutex
	statuses := make(map[string]error)
	newEngine(t, to, change).Deliver(ctx, m, func(recipient string, err error) {
		mu.Lock()
		defer mu.Unlock()
		statuses[recipient] = err
	})
	if len(statuses) != len(m.Recipients) {
		t.Errorf("%d statuses for %d recipients", len(statuses), len(m.Recipients))
	}
	return statuses
}

// testREQUIRETLS: neither Postfix nor Exim knows REQUIRETLS, which is final unless
// relaxed_requiretls says that authentic MX records and a good certificate do.
func testREQUIRETLS(t *testing.T, r *receiver, _ *relay) {
	r.dns.Authentic("again.example")
	for _, relaxed := range []bool{false, true} {
		known := r.mailbox("b")
		m := &delivery.Message{
			ID: "7f3a9c1e", From: "a@good.example", FromDomain: "good.example", ClientIP: net.IPv4(127, 0, 0, 1),
			Options:    smtp.MailOptions{RequireTLS: true},
			Body:       buffer.MemoryBuffer{Slice: []byte("a body\r\n")},
			Recipients: []delivery.Recipient{{Address: "b@again.example", Local: "b", Domain: "again.example"}},
		}
		m.Header.Add("Subject", "only over TLS")
		err := deliver(t, r, m, func(c *delivery.Config) { c.RelaxedREQUIRETLS = relaxed })["b@again.example"]
		var f *delivery.Failure
		switch {
		case relaxed && err == nil:
			r.newMail("b", known)
		case relaxed || !errors.As(err, &f):
			t.Errorf("relaxed %v: %v", relaxed, err)
		case f.Code != 550 || f.Enhanced != [3]int{5, 7, 30} || f.Reason != tlsplan.RequireTLSUnsupported:
			t.Errorf("refused with %d %v %s", f.Code, f.Enhanced, f.Reason)
		}
	}
}
