package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/exterrors"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/api"
	"tlscontrol/internal/policy"
)

// pipeline is a target that writes down what is done with it, and fails where it
// is told to.
type pipeline struct {
	did    []string
	fail   map[string]error
	panics string
	hangs  chan bool // in the body, until it is over
	ends   func()    // called when the commit has begun
	inBody context.Context
	meta   *module.MsgMetadata
	header textproto.Header
}

func (p *pipeline) step(step string) error {
	p.did = append(p.did, step)
	if step == p.panics {
		panic(step)
	}
	return p.fail[step]
}

func (p *pipeline) Start(_ context.Context, meta *module.MsgMetadata, from string) (module.Delivery, error) {
	p.meta = meta
	return p, p.step("start " + from)
}

func (p *pipeline) AddRcpt(_ context.Context, to string, _ smtp.RcptOptions) error {
	return p.step("rcpt " + to)
}

func (p *pipeline) Body(ctx context.Context, h textproto.Header, _ buffer.Buffer) error {
	p.header, p.inBody = h, ctx
	if p.hangs != nil {
		p.hangs <- true
		<-ctx.Done()
	}
	return p.step("body")
}

func (p *pipeline) Abort(context.Context) error { return p.step("abort") }

func (p *pipeline) Commit(ctx context.Context) error {
	if p.ends != nil {
		p.ends()
		<-p.inBody.Done()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.step("commit")
}

// overrides is a policy with a key, or none.
type overrides struct {
	err    error
	rowErr error
	policy policy.Policy
}

func (o overrides) Row(context.Context, string) (*policy.Block, error) { return nil, o.rowErr }
func (o overrides) Decide(q policy.Question) policy.Settings           { return o.policy.Resolve(q) }

func (overrides) Fields() policy.Fields              { return policy.DefaultFields() }
func (o overrides) OverrideKey() (policy.Key, error) { return policy.Key{1}, o.err }

func newMail(p *pipeline) *mail {
	return &mail{target: p, policy: overrides{}, hostname: "relay.example.com", log: &log.Logger{Out: log.NopOutput{}}, ending: context.Background()}
}

func letter() *api.Message {
	m := &api.Message{Sender: "a@example.com", Recipients: []string{"b@example.net", "c@example.net"}, Body: []byte("x"),
		Client: api.Client{KeyID: "key1", Remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}}
	m.Header.Add("Subject", "x")
	return m
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	p := &pipeline{}
	m := letter()
	m.Override = policy.Override{RequireTLS: policy.Yes, SkipVerification: policy.No}
	m.Header.Add("TLS-Required", "no")
	m.Client.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the client has left: the message is taken all the same
	id, err := newMail(p).Submit(ctx, m)
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	if got := strings.Join(p.did, ", "); got != "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, commit" {
		t.Error(got)
	}
	if p.meta.ID != id || p.meta.Conn.AuthUser != "key1" || p.meta.Conn.Proto != "HTTPS" || !p.meta.TLSRequireOverride || !p.meta.DontTraceSender ||
		p.meta.Conn.TLS.Version != tls.VersionTLS13 || p.meta.OriginalFrom != "a@example.com" {
		t.Errorf("%+v %+v", p.meta, p.meta.Conn)
	}
	o, err := policy.Key{1}.Open(p.header.Get(policy.StampField), id+"-66f0a1b2")
	if err != nil || o != m.Override {
		t.Errorf("stamp %v, %v", o, err)
	}
	if !strings.HasPrefix(p.header.Get("Received"), "by relay.example.com with HTTPS id "+id+"; ") || m.Header.Has("Received") {
		t.Errorf("Received %q", p.header.Get("Received"))
	}

	m = letter()
	if _, err := newMail(p).Submit(context.Background(), m); err != nil || p.header.Has(policy.StampField) || p.meta.Conn.Proto != "HTTP" {
		t.Errorf("asks for nothing: %v, %v", err, p.header.Map())
	}
}

// What is foreign in a line of the log is escaped once, and quoted once.
func TestLogQuotesOnce(t *testing.T) {
	t.Parallel()
	var line strings.Builder
	p := &pipeline{fail: map[string]error{"rcpt b@example.net": errors.New("no")}}
	m := newMail(p)
	m.log = &log.Logger{Out: log.FuncOutput(func(_ time.Time, _ bool, text string) { line.WriteString(text) }, func() error { return nil })}
	if _, err := m.Submit(context.Background(), letter()); err == nil {
		t.Fatal("accepted")
	}
	if !strings.Contains(line.String(), `"rcpt":"b@example.net"`) {
		t.Errorf("%s", line.String())
	}
	line.Reset()
	m.log.Msg("x", "path", api.Plain("/\x1b[2J\u009b\n\"x"))
	if !strings.Contains(line.String(), `"path":"/\u001b[2J�\n\"x"`) {
		t.Errorf("%q", line.String())
	}
}

// An override that the policy would not follow is refused before anything is queued;
// one that asks for what holds anyway is not.
func TestSubmitAdmits(t *testing.T) {
	t.Parallel()
	const yes, no = policy.Yes, policy.No
	for _, tt := range []struct {
		top  policy.Block
		asks policy.Override
		want string
	}{
		{policy.Block{}, policy.Override{RequireTLS: no, SkipVerification: yes}, ""},
		{policy.Block{MessageOverride: policy.AdmitNone}, policy.Override{RequireTLS: yes},
			"o:require-tls parameter: not admitted for b@example.net, message_override is none"},
		{policy.Block{MessageOverride: policy.AdmitNone, RequireTLS: yes}, policy.Override{RequireTLS: yes, SkipVerification: no}, ""},
		{policy.Block{MessageOverride: policy.AdmitTighten}, policy.Override{RequireTLS: yes}, ""},
		{policy.Block{MessageOverride: policy.AdmitTighten}, policy.Override{SkipVerification: yes},
			"o:skip-verification parameter: not admitted for b@example.net, message_override is tighten"},
	} {
		p := &pipeline{}
		m := newMail(p)
		m.policy = overrides{policy: policy.Policy{Top: tt.top}}
		message := letter()
		message.Override = tt.asks
		_, err := m.Submit(context.Background(), message)
		got := ""
		var refusal *api.Refusal
		if errors.As(err, &refusal) {
			got = refusal.Text
		}
		if got != tt.want || tt.want != "" && len(p.did) != 0 {
			t.Errorf("%+v asks for %+v: %q %v, want %q", tt.top, tt.asks, got, p.did, tt.want)
		}
	}
	m := newMail(&pipeline{})
	m.policy = overrides{rowErr: errors.New("away")}
	message := letter()
	message.Override = policy.Override{RequireTLS: yes}
	var refusal *api.Refusal
	if _, err := m.Submit(context.Background(), message); !errors.As(err, &refusal) || !refusal.Temporary {
		t.Errorf("without the table: %v", err)
	}
}

// Whatever fails, nobody gets the message, and the client hears what it may.
func TestSubmitFails(t *testing.T) {
	t.Parallel()
	smtpErr := func(code int, ench exterrors.EnhancedCode) error {
		return fmt.Errorf("wrapped: %w", &exterrors.SMTPError{Code: code, EnhancedCode: ench, Message: "no", Err: errors.New("secret")})
	}
	for _, tt := range []struct {
		step  string
		err   error
		did   string
		want  string
		later bool
	}{
		{"start a@example.com", smtpErr(550, exterrors.EnhancedCode{5, 7, 1}), "start a@example.com", "550 5.7.1 no", false},
		{"rcpt c@example.net", smtpErr(550, exterrors.EnhancedCode{5, 1, 1}), "start a@example.com, rcpt b@example.net, rcpt c@example.net, abort",
			"c@example.net: 550 5.1.1 no", false},
		{"body", smtpErr(451, exterrors.EnhancedCode{4, 3, 0}), "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort", "451 4.3.0 no", true},
		{"body", smtpErr(554, exterrors.EnhancedCode{}), "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort", "554 no", false},
		{"body", errors.New("secret"), "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort", "Internal server error", true},
		{"body", &os.PathError{Op: "write", Path: "secret", Err: syscall.ENOSPC}, "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort",
			"Internal server error", true},
		{"body", exterrors.WithTemporary(errors.New("secret"), false), "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort",
			"Internal server error", false},
		{"commit", context.DeadlineExceeded, "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, commit", "High load, try again later", true},
	} {
		p := &pipeline{fail: map[string]error{tt.step: tt.err}}
		_, err := newMail(p).Submit(context.Background(), letter())
		var no *api.Refusal
		if !errors.As(err, &no) || !strings.HasPrefix(no.Text, tt.want) || no.Temporary != tt.later || strings.Contains(no.Text, "secret") {
			t.Errorf("%s: %+v, want %s", tt.step, err, tt.want)
		}
		if got := strings.Join(p.did, ", "); got != tt.did {
			t.Errorf("%s: %s", tt.step, got)
		}
	}

	p := &pipeline{panics: "body"}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_, _ = newMail(p).Submit(context.Background(), letter())
	}()
	if p.did[len(p.did)-1] != "abort" {
		t.Errorf("after a panic: %v", p.did)
	}

	p = &pipeline{}
	m := newMail(p)
	m.policy = overrides{err: errors.New("secret key file")}
	asks := letter()
	asks.Override.RequireTLS = policy.Yes
	_, err := m.Submit(context.Background(), asks)
	var no *api.Refusal
	if !errors.As(err, &no) || !no.Temporary || strings.Contains(no.Text, "secret") || len(p.did) != 0 {
		t.Errorf("no key: %+v, %v", err, p.did)
	}
}

// A message of which some may be in the queue already is not refused because the
// process ends.
func TestSubmitEndsWhatItCommits(t *testing.T) {
	t.Parallel()
	p := &pipeline{}
	m := newMail(p)
	m.ending, p.ends = context.WithCancel(context.Background())
	if _, err := m.Submit(context.Background(), letter()); err != nil || p.did[len(p.did)-1] != "commit" {
		t.Errorf("%v, did %v", err, p.did)
	}
}
