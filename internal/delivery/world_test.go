package delivery_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/pool"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
)

// world is an engine with everything it talks to: a resolver, a CA and MX
// hosts mx1.test, mx2.test, ... that serve example.net in that order.
type world struct {
	*testing.T
	ca  *mailtest.CA
	dns *mailtest.DNS
	mx  []*mailtest.MX
	rec *recorder
	*delivery.Engine
}

// hang ends a test that would hang; nothing asserts how long things take.
const hang = 60 * time.Second

// hostName is the name of the host with index i.
func hostName(i int) string { return fmt.Sprintf("mx%d.test", i+1) }

// newWorld starts one MX host for each behaviour. change may alter the
// configuration of the engine.
func newWorld(t *testing.T, change func(*delivery.Config), behaviours ...func(w *world, host string) mailtest.Behaviour) *world {
	t.Helper()
	w := &world{T: t, rec: &recorder{}}
	var err error
	if w.ca, err = mailtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	if w.dns, err = mailtest.NewDNS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.dns.Close() })
	port := 1
	if len(behaviours) > 0 {
		var bs []mailtest.Behaviour
		for i, b := range behaviours {
			bs = append(bs, b(w, hostName(i)))
		}
		if w.mx, port, err = mailtest.NewMXs(len(bs), bs...); err != nil {
			t.Fatal(err)
		}
		for i, m := range w.mx {
			t.Cleanup(func() { m.Close() })
			w.dns.A(hostName(i), m.IP())
			w.dns.MX("example.net", uint16(10*(i+1)), hostName(i))
		}
	}
	timeouts := smtpwire.Timeouts{Greeting: hang, Command: hang, Body: hang, Final: hang}
	cfg := delivery.Config{
		Module:         "outbound",
		Hostname:       "relay.example.com",
		Port:           port,
		Policies:       static(policy.Settings{}),
		Fields:         policy.DefaultFields(),
		Key:            func() (policy.Key, error) { return policy.Key{1}, nil },
		Routes:         route.NewResolver([]string{w.dns.Addr()}),
		Dial:           (&net.Dialer{}).DialContext,
		TLS:            &tls.Config{RootCAs: w.ca.Pool()},
		Wire:           smtpwire.Config{Hostname: "relay.example.com", Timeouts: timeouts},
		ConnectTimeout: hang,
		ProbePatience:  hang,
		ReuseLimit:     10,
		Pool:           pool.Config{PerHost: 5, Total: 50, IdleTime: time.Hour},
		Observers:      []delivery.Observer{w.rec},
	}
	if change != nil {
		change(&cfg)
	}
	w.Engine = delivery.New(cfg)
	t.Cleanup(w.Engine.Close)
	return w
}

// withCert is a host that shows a certificate of kind.
func withCert(kind mailtest.Kind, more ...func(*mailtest.Behaviour)) func(*world, string) mailtest.Behaviour {
	return func(w *world, host string) mailtest.Behaviour {
		cert, err := w.ca.Issue(kind, host)
		if err != nil {
			w.Fatal(err)
		}
		b := mailtest.Behaviour{Certificate: &cert}
		for _, m := range more {
			m(&b)
		}
		return b
	}
}

func good(more ...func(*mailtest.Behaviour)) func(*world, string) mailtest.Behaviour {
	return withCert(mailtest.Good, more...)
}

func inClear(more ...func(*mailtest.Behaviour)) func(*world, string) mailtest.Behaviour {
	return func(*world, string) mailtest.Behaviour {
		var b mailtest.Behaviour
		for _, m := range more {
			m(&b)
		}
		return b
	}
}

func reply(step, text string) func(*mailtest.Behaviour) {
	return func(b *mailtest.Behaviour) {
		if b.Replies == nil {
			b.Replies = make(map[string]string)
		}
		b.Replies[step] = text
	}
}

// static is a policy that says the same to everybody.
type static policy.Settings

func (static) Row(context.Context, string) (*policy.Block, error) { return nil, nil }

func (s static) Decide(q policy.Question) policy.Settings {
	settings, o := policy.Settings(s), q.Override
	for _, set := range []struct {
		by     policy.Switch
		value  *bool
		source *policy.Source
	}{
		{o.RequireTLS, &settings.RequireTLS, &settings.RequireTLSSource},
		{o.SkipVerification, &settings.SkipVerification, &settings.SkipVerificationSource},
	} {
		if set.by != policy.Unset {
			*set.value, *set.source = set.by == policy.Yes, policy.FromMessage
		}
	}
	return settings
}

func settings(s policy.Settings) func(*delivery.Config) {
	return func(c *delivery.Config) { c.Policies = static(s) }
}

// body is a message body that can fail.
type body struct {
	io.Reader
	text string
	err  error
}

func (b body) Len() int { return len(b.text) }
func (b body) Open() (io.ReadCloser, error) {
	if b.err != nil {
		return io.NopCloser(io.MultiReader(strings.NewReader(b.text), errReader{b.err})), nil
	}
	return io.NopCloser(strings.NewReader(b.text)), nil
}

type errReader struct{ error }

func (r errReader) Read([]byte) (int, error) { return 0, r.error }

// message is a plain message to the recipients.
func message(to ...string) *delivery.Message {
	m := &delivery.Message{
		ID: "7f3a9c1e-692f0009", From: "a@example.com", FromDomain: "example.com",
		Body: body{text: "Hello!\r\n"}, ClientIP: net.IPv4(127, 0, 0, 1),
	}
	m.Header.Add("Subject", "a secret")
	m.Header.Add("Message-Id", "<x@example.com>")
	for _, address := range to {
		at := strings.LastIndexByte(address, '@')
		m.Recipients = append(m.Recipients, delivery.Recipient{
			Address: address, Local: address[:at], Domain: policy.Normalize(address[at+1:]),
		})
	}
	return m
}

// send delivers m and returns the status of every recipient. It fails the test
// if one gets two statuses or none.
func (w *world) send(ctx context.Context, m *delivery.Message) map[string]error {
	w.Helper()
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	var mu sync.Mutex
	statuses, given := make(map[string]error), make(map[string]int)
	w.Deliver(ctx, m, func(rcpt string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if given[rcpt]++; given[rcpt] > 1 && statuses[rcpt] != err {
			w.Errorf("%s got two different statuses", rcpt)
		}
		statuses[rcpt] = err
	})
	for _, r := range m.Recipients {
		given[r.Address]--
	}
	for rcpt, n := range given {
		if n != 0 {
			w.Errorf("%s got %+d statuses", rcpt, n)
		}
	}
	for _, r := range m.Recipients {
		if _, ok := statuses[r.Address]; !ok {
			w.Errorf("%s got no status", r.Address)
		}
	}
	return statuses
}

// sendOne delivers a plain message to b@example.net.
func (w *world) sendOne() *delivery.Failure {
	w.Helper()
	return failure(w.T, w.send(context.Background(), message("b@example.net"))["b@example.net"])
}

func failure(t *testing.T, err error) *delivery.Failure {
	t.Helper()
	if err == nil {
		return nil
	}
	var f *delivery.Failure
	if !errors.As(err, &f) {
		t.Fatalf("status %v is no *Failure", err)
	}
	if f.Code/100 != f.Enhanced[0] {
		t.Errorf("code %d with enhanced code %v", f.Code, f.Enhanced)
	}
	if strings.ContainsFunc(f.Message, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("control characters in %q", f.Message)
	}
	return f
}

func code(f *delivery.Failure) string {
	if f == nil {
		return "delivered"
	}
	return fmt.Sprintf("%d %d.%d.%d %s", f.Code, f.Enhanced[0], f.Enhanced[1], f.Enhanced[2], f.Reason)
}

// neverInClear fails the test if any part of the message crossed a socket in
// clear.
func (w *world) neverInClear() {
	w.Helper()
	for i, m := range w.mx {
		for _, s := range m.Sessions() {
			for _, secret := range []string{"a secret", "MAIL FROM", "RCPT TO", "Hello!"} {
				if bytes.Contains(bytes.ToUpper(s.ClearBytes), []byte(strings.ToUpper(secret))) {
					w.Errorf("%q crossed a socket to %s in clear", secret, hostName(i))
				}
			}
		}
	}
}

// recorder is an observer that remembers.
type recorder struct {
	mu        sync.Mutex
	attempts  []*delivery.Attempt
	troubles  []delivery.Trouble
	connected []delivery.Connected
	secured   []*delivery.Secured
	idle      int
	busy      int
}

func (r *recorder) Connected(c delivery.Connected) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected = append(r.connected, c)
}

func (r *recorder) Troubled(t delivery.Trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles = append(r.troubles, t)
}

func (r *recorder) Secured(s *delivery.Secured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secured = append(r.secured, s)
}

func (r *recorder) Concluded(a *delivery.Attempt, _ float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, a)
}

func (r *recorder) PoolChanged(idle, busy int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle += idle
	r.busy += busy
}

// last returns the newest attempt.
func (w *world) last() *delivery.Attempt {
	w.Helper()
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	if len(w.rec.attempts) == 0 {
		w.Fatal("nothing was recorded")
	}
	return w.rec.attempts[len(w.rec.attempts)-1]
}

// eventually waits until a condition holds that comes true behind the status.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.Now().Add(hang)
	for !holds() {
		if time.Now().After(deadline) {
			w.Fatalf("never came true: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func headerWith(m *delivery.Message, fields ...string) *delivery.Message {
	h := m.Header.Copy()
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	m.Header = h
	return m
}
