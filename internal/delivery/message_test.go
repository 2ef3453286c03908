package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// byDomain is a policy with settings of its own for some destinations.
type byDomain map[string]policy.Settings

func (byDomain) Row(context.Context, string) (*policy.Block, error) { return nil, nil }

func (p byDomain) Decide(q policy.Question) policy.Settings {
	s, ok := p[q.Destination]
	if !ok {
		panic(fmt.Sprintf("no settings for %s", q.Destination))
	}
	return static(s).Decide(q)
}

// TestRecipients: one message to several domains, each with its own fate.
func TestRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *delivery.Config) {
		c.Policies = byDomain{
			"example.net": {RequireTLS: true, SkipVerification: true},
			"strict.test": {RequireTLS: true},
			"лицо.test":   {},
			"bücher.test": {},
			"gone.test":   {},
		}
	}, withCert(mailtest.SelfSigned, func(b *mailtest.Behaviour) {
		b.RejectRcpt = map[string]string{
			"no@example.net":   "550 5.1.1 no such user",
			"full@example.net": "452 4.2.2 mailbox full",
			"big@example.net":  "552 5.2.2 quota",
			"huge@example.net": "552 5.3.4 too big for this mailbox",
			"old@example.net":  "552 too many recipients",
		}
	}))
	for _, d := range []string{"strict.test", "xn--bcher-kva.test"} {
		w.dns.MX(d, 1, "mx1.test")
	}
	m := message("a@example.net", "a@EXAMPLE.net", "a@example.net", "A@example.net", "no@example.net", "full@example.net",
		"big@example.net", "huge@example.net", "old@example.net", "b@strict.test", "c@bücher.test", "c@xn--bcher-kva.test",
		"d@gone.test", "e@undefined.test")
	statuses := w.send(context.Background(), m)
	want := map[string]string{
		"a@example.net":        "delivered",
		"a@EXAMPLE.net":        "delivered",
		"A@example.net":        "delivered",
		"no@example.net":       "550 5.1.1 rcpt-rejected",
		"full@example.net":     "452 4.2.2 rcpt-rejected",
		"big@example.net":      "452 4.2.2 rcpt-rejected",
		"huge@example.net":     "552 5.3.4 message-too-large",
		"old@example.net":      "452 4.5.3 rcpt-rejected",
		"b@strict.test":        "451 4.7.5 certificate-untrusted",
		"c@bücher.test":        "delivered",
		"c@xn--bcher-kva.test": "delivered",
		"d@gone.test":          "550 5.1.2 mx-lookup",
		"e@undefined.test":     "451 4.3.0 internal",
	}
	if len(statuses) != len(want) {
		t.Errorf("%d statuses, want %d", len(statuses), len(want))
	}
	for rcpt, status := range want {
		if got := code(failure(t, statuses[rcpt])); got != status {
			t.Errorf("%s: %s, want %s", rcpt, got, status)
		}
	}
	var arrived []string
	for _, msg := range w.mx[0].Messages() {
		arrived = append(arrived, msg.Recipients...)
	}
	if len(arrived) != 3 {
		t.Errorf("arrived for %q, want one each for a, A and c", arrived)
	}
	if n := len(w.rec.attempts); n != 11 {
		t.Errorf("%d attempts recorded, want one for each mailbox: 11", n)
	}
}

// TestManyRecipients are sent in transactions of a hundred.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	for _, ext := range [][]string{nil, {"PIPELINING", "LIMITS RCPTMAX=30"}, {"CHUNKING"}} {
		w := newWorld(t, nil, good(func(b *mailtest.Behaviour) {
			b.ExtensionsTLS, b.MaxRecipients = ext, 100
			if ext != nil {
				b.MaxRecipients = 30
			}
			if len(ext) == 1 {
				b.MaxRecipients = 100
			}
		}))
		var to []string
		for i := range 250 {
			to = append(to, fmt.Sprintf("r%d@example.net", i))
		}
		for rcpt, err := range w.send(context.Background(), message(to...)) {
			if err != nil {
				t.Fatalf("%v: %s: %v", ext, rcpt, err)
			}
		}
		seen := make(map[string]int)
		for _, m := range w.mx[0].Messages() {
			for _, r := range m.Recipients {
				seen[r]++
			}
		}
		if len(seen) != 250 {
			t.Errorf("%v: %d recipients got it", ext, len(seen))
		}
		if n := w.mx[0].Connections(); n != 1 {
			t.Errorf("%v: %d connections", ext, n)
		}
	}
}

// TestOverrides: only a stamp of ours can weaken, anybody's field can tighten,
// and none of them leaves the house.
func TestOverrides(t *testing.T) {
	t.Parallel()
	key := policy.Key{1}
	weak := policy.Override{RequireTLS: policy.No, SkipVerification: policy.Yes}
	for _, tt := range []struct {
		name          string
		base          policy.Settings
		fields        []string
		require, skip bool
		require1      policy.Source
	}{
		{name: "no fields"},
		{name: "tightening field", fields: []string{"X-Require-TLS", "yes"}, require: true, require1: policy.FromMessage},
		{name: "the other name", fields: []string{"x-mailgun-require-tls", "TRUE"}, require: true, require1: policy.FromMessage},
		{name: "weakening field", base: policy.Settings{RequireTLS: true}, fields: []string{"X-Require-TLS", "no", "X-Skip-Verification", "yes"}, require: true},
		{name: "stamp", base: policy.Settings{RequireTLS: true}, fields: []string{policy.StampField, key.Stamp("7f3a9c1e", weak)}, skip: true, require1: policy.FromMessage},
		{name: "stamp of another message", base: policy.Settings{RequireTLS: true}, fields: []string{policy.StampField, key.Stamp("00000000", weak)}, require: true},
		{name: "stamp under another key", base: policy.Settings{RequireTLS: true}, fields: []string{policy.StampField, policy.Key{2}.Stamp("7f3a9c1e", weak)}, require: true},
		{name: "garbage stamp beside a good one", base: policy.Settings{RequireTLS: true},
			fields: []string{policy.StampField, key.Stamp("7f3a9c1e", weak), policy.StampField, "v=1; require-tls=yes"}, skip: true, require1: policy.FromMessage},
		{name: "a stamp silences the fields", fields: []string{policy.StampField, key.Stamp("7f3a9c1e", weak), "X-Require-TLS", "yes"}, skip: true, require1: policy.FromMessage},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, settings(tt.base), good())
			if f := failure(t, w.send(context.Background(), headerWith(message("b@example.net"), tt.fields...))["b@example.net"]); f != nil {
				t.Fatal(f)
			}
			got := w.last().Settings
			if got.RequireTLS != tt.require || got.SkipVerification != tt.skip || got.RequireTLSSource != tt.require1 {
				t.Errorf("settings %+v", got)
			}
			sent := strings.ToLower(string(w.mx[0].Messages()[0].Data))
			for _, name := range append(policy.DefaultFields().Names(), policy.StampField) {
				if strings.Contains(sent, strings.ToLower(name)) {
					t.Errorf("%s left the house", name)
				}
			}
			if !strings.Contains(sent, "subject: a secret") || !strings.HasSuffix(sent, "\r\n\r\nhello!\r\n") {
				t.Errorf("sent %q", sent)
			}
		})
	}
	t.Run("unreadable key", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *delivery.Config) {
			c.Key = func() (policy.Key, error) { return policy.Key{}, errors.New("disk on fire") }
			c.Policies = static(policy.Settings{RequireTLS: true})
		}, inClear())
		m := headerWith(message("b@example.net"), policy.StampField, key.Stamp("7f3a9c1e", weak))
		if f := failure(t, w.send(context.Background(), m)["b@example.net"]); f == nil {
			t.Error("a stamp that nobody could check was honoured")
		}
		w.neverInClear()
	})
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	t.Run("DSN", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good())
		m := message("b@example.net")
		m.Options.Return, m.Options.EnvelopeID = smtp.DSNReturnHeaders, "id+1"
		m.Recipients[0].Options = smtp.RcptOptions{
			Notify:                []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure},
			OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "orig@example.com",
		}
		if f := failure(t, w.send(context.Background(), m)["b@example.net"]); f != nil {
			t.Fatal(f)
		}
		got := w.mx[0].Messages()[0]
		if !strings.Contains(got.MailParams, "RET=HDRS ENVID=id+2B1") {
			t.Errorf("MAIL parameters %q", got.MailParams)
		}
		if !strings.Contains(got.RcptParams[0], "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;orig@example.com") {
			t.Errorf("RCPT parameters %q", got.RcptParams[0])
		}
	})
	t.Run("SIZE", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good(func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"SIZE 10"} }))
		if got := code(w.sendOne()); got != "552 5.3.4 message-too-large" {
			t.Error(got)
		}
		for _, c := range w.mx[0].Sessions()[0].Commands {
			if strings.Contains(c, "MAIL") {
				t.Errorf("%q was sent all the same", c)
			}
		}
	})
	t.Run("SMTPUTF8 missing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good(func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"PIPELINING"} }))
		w.dns.MX("xn--bcher-kva.test", 1, "mx1.test")
		m := message("plain@bücher.test", "öl@bücher.test")
		m.Options.UTF8 = true
		statuses := w.send(context.Background(), m)
		if got := code(failure(t, statuses["plain@bücher.test"])); got != "delivered" {
			t.Error(got)
		}
		if got := code(failure(t, statuses["öl@bücher.test"])); got != "550 5.6.7 rcpt-rejected" {
			t.Error(got)
		}
		if rcpts := w.mx[0].Messages()[0].Recipients; len(rcpts) != 1 || rcpts[0] != "plain@xn--bcher-kva.test" {
			t.Errorf("recipients %q", rcpts)
		}
	})
	t.Run("SMTPUTF8", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good())
		m := message("öl@example.net")
		m.Options.UTF8 = true
		if f := failure(t, w.send(context.Background(), m)["öl@example.net"]); f != nil {
			t.Fatal(f)
		}
		if !w.last().UTF8 || !strings.Contains(w.mx[0].Messages()[0].MailParams, "SMTPUTF8") {
			t.Errorf("utf8 %v, parameters %q", w.last().UTF8, w.mx[0].Messages()[0].MailParams)
		}
	})
}

func TestREQUIRETLS(t *testing.T) {
	t.Parallel()
	offers := func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"REQUIRETLS"} }
	offersInClearOnly := func(b *mailtest.Behaviour) { b.ExtensionsClear = []string{"REQUIRETLS"} }
	for _, tt := range []struct {
		name    string
		host    hostFunc
		secure  bool
		relaxed bool
		want    string
		param   bool
	}{
		{"offered, proven MX", good(offers), true, false, "delivered", true},
		{"offered, relaxed", good(offers), true, true, "delivered", true},
		{"not offered", good(), true, false, "550 5.7.30 requiretls-unsupported", false},
		{"offered in clear only", good(offersInClearOnly), true, false, "550 5.7.30 requiretls-unsupported", false},
		{"not offered, relaxed", good(), true, true, "delivered", false},
		{"unproven MX", good(offers), false, false, "550 5.7.30 mx-unauthenticated", false},
		{"no TLS", inClear(), true, false, "550 5.7.30 tls-not-offered", false},
		{"bad certificate", withCert(mailtest.Expired, offers), true, false, "451 4.7.5 certificate-expired", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *delivery.Config) { c.RelaxedREQUIRETLS = tt.relaxed }, tt.host)
			w.dns.SetAuthenticated(tt.secure)
			m := message("b@example.net")
			m.Options.RequireTLS = true
			if got := code(failure(t, w.send(context.Background(), m)["b@example.net"])); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, msg := range w.mx[0].Messages() {
				if strings.Contains(msg.MailParams, "REQUIRETLS") != tt.param {
					t.Errorf("MAIL parameters %q", msg.MailParams)
				}
			}
			w.neverInClear()
		})
	}
}

// TestUnreadableBody: a message that cannot be read to its end is never
// completed at the other side.
func TestUnreadableBody(t *testing.T) {
	t.Parallel()
	for _, ext := range [][]string{{"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		w := newWorld(t, nil, good(func(b *mailtest.Behaviour) { b.ExtensionsTLS = ext }))
		m := message("b@example.net")
		m.Body = body{text: strings.Repeat("half of it\r\n", 20_000), err: errors.New("disk on fire")}
		if got := code(failure(t, w.send(context.Background(), m)["b@example.net"])); got != "451 4.3.0 internal" {
			t.Error(got)
		}
		if n := w.mx[0].Delivered(); n != 0 {
			t.Errorf("%v: half a message was delivered", ext)
		}
	}
}

// TestHostileReplies never reach a status unescaped (failure checks) and never
// hang or hurt.
func TestHostileReplies(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"control", "endless", "longline", "invalid"} {
		for _, step := range []string{"mail", "rcpt", "data", "body"} {
			t.Run(how+" to "+step, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, nil, good(reply(step, how), func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"PIPELINING"} }))
				f := w.sendOne()
				if how != "control" && (f == nil || !f.Temporary()) {
					t.Errorf("%s", code(f))
				}
			})
		}
	}
	w := newWorld(t, nil, good(reply("rcpt", "550 5.1.1 \x1b[31mred\x00 \u2028 text")))
	if f := w.sendOne(); f == nil || !strings.Contains(f.Message, "red") {
		t.Errorf("%+v", f)
	}
}

type panicking struct{}

func (panicking) Decide(policy.Question) policy.Settings { panic("decide") }
func (panicking) Row(context.Context, string) (*policy.Block, error) {
	panic("at the disco")
}
func (panicking) Connected(delivery.Connected)                  { panic("observer") }
func (panicking) Troubled(delivery.Trouble)                     { panic("observer") }
func (panicking) Secured(*delivery.Secured)                     { panic("observer") }
func (panicking) Concluded(*delivery.Attempt, float64)          { panic("observer") }
func (panicking) PoolChanged(int, int)                          { panic("observer") }
func (panicking) TakeMsg(context.Context, net.IP, string) error { panic("limits") }
func (panicking) TakeDest(context.Context, string) error        { panic("limits") }
func (panicking) ReleaseMsg(net.IP, string)                     { panic("limits") }
func (panicking) ReleaseDest(string)                            { panic("limits") }

// TestPanics: whatever panics, every recipient gets a temporary status.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*delivery.Config){
		"policy": func(c *delivery.Config) { c.Policies = panicking{} },
		"limits": func(c *delivery.Config) { c.Limits = panicking{} },
		"dial":   func(c *delivery.Config) { c.Dial = nil },
	} {
		w := newWorld(t, change, good())
		statuses := w.send(context.Background(), message("b@example.net", "c@example.org"))
		if got := code(failure(t, statuses["b@example.net"])); got != "451 4.3.0 internal" {
			t.Errorf("%s: %s", name, got)
		}
	}
	w := newWorld(t, func(c *delivery.Config) { c.Observers = append([]delivery.Observer{panicking{}}, c.Observers...) }, good())
	if f := w.sendOne(); f != nil {
		t.Errorf("a panicking observer: %v", f)
	}
	w.last()
}

// counting counts what is taken and given back.
type counting struct {
	mu        sync.Mutex
	msg, dest int
	taken     int
	refuse    string
}

func (l *counting) TakeMsg(context.Context, net.IP, string) error { return l.take("msg", &l.msg) }
func (l *counting) TakeDest(context.Context, string) error        { return l.take("dest", &l.dest) }
func (l *counting) ReleaseMsg(net.IP, string)                     { l.add(&l.msg, -1) }
func (l *counting) ReleaseDest(string)                            { l.add(&l.dest, -1) }

func (l *counting) take(what string, n *int) error {
	if l.refuse == what {
		return errors.New("too many")
	}
	l.add(n, 1)
	l.mu.Lock()
	l.taken++
	l.mu.Unlock()
	return nil
}

func (l *counting) add(n *int, by int) {
	l.mu.Lock()
	*n += by
	l.mu.Unlock()
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		host   hostFunc
		change func(*delivery.Config)
		refuse string
		want   string
	}{
		"delivered":     {host: good(), want: "delivered"},
		"refused":       {host: inClear(reply("rcpt", "550 5.1.1 no")), want: "550 5.1.1 rcpt-rejected"},
		"panic":         {host: good(), change: func(c *delivery.Config) { c.Dial = nil }, want: "451 4.3.0 internal"},
		"too many":      {host: good(), refuse: "msg", want: "451 4.4.5 limits"},
		"too many dest": {host: good(), refuse: "dest", want: "451 4.4.5 limits"},
	} {
		l := &counting{refuse: tt.refuse}
		w := newWorld(t, func(c *delivery.Config) {
			c.Limits = l
			if tt.change != nil {
				tt.change(c)
			}
		}, tt.host)
		if got := code(failure(t, w.send(context.Background(), message("b@example.net"))["b@example.net"])); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		if l.msg != 0 || l.dest != 0 || l.taken == 0 && tt.refuse != "msg" {
			t.Errorf("%s: %d and %d not given back, %d taken", name, l.msg, l.dest, l.taken)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good())
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}
	w.Engine.Close()
	w.eventually("the idle connection is closed", func() bool { return w.mx[0].Sessions()[0].Closed })
	if got := code(w.sendOne()); got != "451 4.3.2 internal" {
		t.Errorf("after Close: %s", got)
	}
	if id := w.last().QueueID; id != "7f3a9c1e" {
		t.Errorf("queue ID %s", id)
	}
	w.Engine.Close()
}

// TestCloseWhileDelivering: Close stops a delivery that does not end, and the
// recipient has a temporary status.
func TestCloseWhileDelivering(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good(reply("rcpt", "stall")))
	done := make(chan *delivery.Failure, 1)
	go func() { done <- w.sendOne() }()
	w.eventually("the host is reached", func() bool { return w.mx[0].Connections() == 1 })
	w.Engine.Close()
	select {
	case f := <-done:
		if f == nil || !f.Temporary() {
			t.Error(code(f))
		}
	case <-time.After(hang):
		t.Fatal("the delivery outlived Close")
	}
}

// TestBeginClose: deliveries end also if Close itself is held up by somebody who
// waits for them.
func TestBeginClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good(reply("rcpt", "stall")))
	w.Engine.BeginClose()
	if got := code(w.sendOne()); got != "451 4.3.2 internal" {
		t.Error(got)
	}
	if n := w.mx[0].Connections(); n != 1 {
		t.Errorf("%d connections: the delivery was not given its time", n)
	}
	if got := code(w.sendOne()); got != "451 4.3.2 internal" || w.mx[0].Connections() != 1 {
		t.Errorf("afterwards: %s, %d connections", got, w.mx[0].Connections())
	}
}

func TestAttemptNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, inClear(reply("rcpt", "450 4.2.0 later")))
	for want := 1; want <= 3; want++ {
		m := message("b@example.net")
		m.ID = fmt.Sprintf("7f3a9c1e-692f000%x", want)
		w.send(context.Background(), m)
		if a := w.last(); a.Number != want || a.QueueID != "7f3a9c1e" {
			t.Errorf("attempt %d of %s, want %d", a.Number, a.QueueID, want)
		}
	}
	w.mx[0].Set(mailtest.Behaviour{})
	w.sendOne()
	if a := w.last(); a.Number != 4 || a.Result != delivery.Delivered {
		t.Errorf("attempt %d", a.Number)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	m := message("b@example.net")
	m.ID = "7f3a9c1e-692f0001"
	err := w.Refuse(m, m.Recipients[0], 550, [3]int{5, 7, 0}, tlsplan.Policy, "no")
	if w.last().QueueID != "7f3a9c1e" {
		t.Errorf("queue ID %s", w.last().QueueID)
	}
	if code(failure(t, err)) != "550 5.7.0 policy" || w.last().Result != delivery.Permanent || w.last().Connection != nil {
		t.Errorf("%v, %+v", err, w.last())
	}
}
