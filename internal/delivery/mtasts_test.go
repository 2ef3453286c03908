package delivery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// policies stands for the cache of MTA-STS policies.
type policies struct {
	mu     sync.Mutex
	result mtasts.Result
	asked  []string
	panics bool
	stalls bool // until the context ends
	hold   chan struct{}
	closed int
}

func (p *policies) Lookup(ctx context.Context, domain string) mtasts.Result {
	p.mu.Lock()
	p.asked = append(p.asked, domain)
	result, panics, stalls := p.result, p.panics, p.stalls
	p.mu.Unlock()
	if panics {
		panic("policy source")
	}
	if p.hold != nil {
		<-p.hold
	}
	if stalls {
		<-ctx.Done()
		return mtasts.Result{Err: ctx.Err()}
	}
	return result
}

func (p *policies) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
}

func sts(mode mtasts.Mode, mx ...string) *policies {
	return &policies{result: mtasts.Result{Policy: &mtasts.Policy{
		ID: "1", Mode: mode, MX: mx, MaxAge: time.Hour, Fetched: time.Now(), Expires: time.Now().Add(time.Hour),
	}}}
}

func withSTS(p delivery.STS, more ...func(*delivery.Config)) func(*delivery.Config) {
	return func(c *delivery.Config) {
		c.STS = p
		for _, change := range more {
			change(c)
		}
	}
}

// TestMTASTS: what each mode makes of good and bad hosts, and what is told of it.
func TestMTASTS(t *testing.T) {
	t.Parallel()
	host := hostName(0)
	for _, tt := range []struct {
		name    string
		policy  *policies
		host    hostFunc
		want    string
		tls     bool
		floor   bool
		problem tlsplan.Reason // in what is told
	}{
		{"enforce, good", sts(mtasts.Enforce, host), good(), "delivered", true, true, ""},
		{"enforce, wildcard", sts(mtasts.Enforce, "elsewhere.test", "*.test"), good(), "delivered", true, true, ""},
		{"enforce, not listed", sts(mtasts.Enforce, "elsewhere.test"), good(), "451 4.7.0 mta-sts-mx-mismatch", false, true, tlsplan.MTASTSMismatch},
		{"enforce, wildcard of two labels", sts(mtasts.Enforce, "*.example.net"), good(), "451 4.7.0 mta-sts-mx-mismatch", false, true, tlsplan.MTASTSMismatch},
		{"enforce, nothing listed", sts(mtasts.Enforce), good(), "451 4.7.0 mta-sts-mx-mismatch", false, true, tlsplan.MTASTSMismatch},
		{"enforce, expired", sts(mtasts.Enforce, host), withCert(mailtest.Expired), "451 4.7.5 certificate-expired", false, true, tlsplan.CertificateExpired},
		{"enforce, self-signed", sts(mtasts.Enforce, host), withCert(mailtest.SelfSigned), "451 4.7.5 certificate-untrusted", false, true, tlsplan.CertificateUntrusted},
		{"enforce, wrong name", sts(mtasts.Enforce, host), withCert(mailtest.WrongName), "451 4.7.5 certificate-name-mismatch", false, true, tlsplan.CertificateNameMismatch},
		{"enforce, no TLS", sts(mtasts.Enforce, host), inClear(), "451 4.7.4 tls-not-offered", false, true, tlsplan.TLSNotOffered},
		{"testing, good", sts(mtasts.Testing, host), good(), "delivered", true, false, ""},
		{"testing, not listed", sts(mtasts.Testing, "elsewhere.test"), good(), "delivered", true, false, tlsplan.MTASTSMismatch},
		{"testing, expired", sts(mtasts.Testing, host), withCert(mailtest.Expired), "delivered", false, false, tlsplan.CertificateExpired},
		{"testing, no TLS", sts(mtasts.Testing, host), inClear(), "delivered", false, false, tlsplan.TLSNotOffered},
		{"none", sts(mtasts.None), good(), "delivered", true, false, ""},
		{"no policy, good", &policies{}, good(), "delivered", true, false, ""},
		{"no policy, no TLS", &policies{}, inClear(), "delivered", false, false, tlsplan.TLSNotOffered},
		{"not found out", &policies{result: mtasts.Result{Err: errors.New("timeout")}}, good(), "delivered", true, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withSTS(tt.policy), tt.host)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			a := w.last()
			if a.Plan.HasFloor(tlsplan.FloorMTASTS) != tt.floor || (a.Plan.Demand == tlsplan.DemandVerified) != tt.floor {
				t.Errorf("plan %+v", a.Plan)
			}
			if tt.floor {
				w.neverInClear()
			}
			if messages := w.mx[0].Messages(); len(messages) > 0 && messages[0].TLS != tt.tls {
				t.Errorf("message in TLS: %v", messages[0].TLS)
			}
			if len(w.rec.secured) != 1 {
				t.Fatalf("%d were told of", len(w.rec.secured))
			}
			s := w.rec.secured[0]
			var got tlsplan.Reason
			if s.Problem != nil {
				got = s.Problem.Reason
			}
			if got != tt.problem || s.STS != tt.policy.result.Policy || s.STSErr != tt.policy.result.Err || s.Domain != "example.net" || s.MXHost != host {
				t.Errorf("told %+v with problem %v, want %q", s, s.Problem, tt.problem)
			}
			if dialled := w.mx[0].Connections() > 0; dialled != s.MXIP.IsValid() || dialled == (tt.floor && got == tlsplan.MTASTSMismatch) {
				t.Errorf("dialled %v, told %v", dialled, s.MXIP)
			}
			if !slices.Equal(tt.policy.asked, []string{"example.net"}) {
				t.Errorf("asked for %q", tt.policy.asked)
			}
			w.Close()
			if tt.policy.closed != 1 {
				t.Errorf("closed %d times", tt.policy.closed)
			}
		})
	}
}

// TestMTASTSOverSettings: a policy that is enforced is a floor, whatever the
// sender said; the operator decides whether failing bounces.
func TestMTASTSOverSettings(t *testing.T) {
	t.Parallel()
	for _, s := range []policy.Settings{
		{SkipVerification: true, OnFailure: policy.Reject}, {Fallback: policy.Unverified, OnFailure: policy.Reject},
		{RequireTLS: true, SkipVerification: true, OnFailure: policy.Reject},
	} {
		w := newWorld(t, withSTS(sts(mtasts.Enforce, "*.test"), settings(s)), withCert(mailtest.SelfSigned))
		if got := code(w.sendOne()); got != "550 5.7.5 certificate-untrusted" {
			t.Errorf("%+v: %s", s, got)
		}
		w.neverInClear()
		w = newWorld(t, withSTS(sts(mtasts.Enforce, "x.test"), settings(s)), good())
		if got := code(w.sendOne()); got != "550 5.7.0 mta-sts-mx-mismatch" {
			t.Errorf("%+v: %s", s, got)
		}
	}
}

// TestMTASTSAmongHosts: a host that the policy does not list is passed over, and
// costs the others nothing.
func TestMTASTSAmongHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withSTS(sts(mtasts.Enforce, hostName(1))), good(), good())
	if got := code(w.sendOne()); got != "delivered" || w.mx[0].Connections() != 0 {
		t.Errorf("%s, %d connections to the first", got, w.mx[0].Connections())
	}
	a := w.last()
	if len(a.Hosts) != 1 || a.Hosts[0].Reason != tlsplan.MTASTSMismatch || a.Hosts[0].Text != "mx1.test may not be used: the MTA-STS policy of example.net does not list the host" {
		t.Errorf("hosts %+v", a.Hosts)
	}
}

// TestMTASTSNames: internationalised domains and hosts, and the pair of names
// that is known to make a library panic.
func TestMTASTSNames(t *testing.T) {
	t.Parallel()
	p := sts(mtasts.Enforce, "*.", "*.xn--bcher-kva.example", "")
	w := newWorld(t, withSTS(p), good())
	w.dns.MX("xn--bcher-kva.example", 10, "xn--mx-nja.xn--bcher-kva.example")
	w.dns.A("xn--mx-nja.xn--bcher-kva.example", w.mx[0].IP())
	cert, err := w.ca.Issue(mailtest.Good, "xn--mx-nja.xn--bcher-kva.example")
	if err != nil {
		t.Fatal(err)
	}
	w.mx[0].Set(mailtest.Behaviour{Certificate: &cert})
	if f := failure(t, w.send(t.Context(), message("b@Bücher.example"))["b@Bücher.example"]); f != nil {
		t.Error(code(f))
	}
	if !slices.Equal(p.asked, []string{"xn--bcher-kva.example"}) {
		t.Errorf("asked for %q", p.asked)
	}
	w.dns.MX("single.example", 10, "xn--mx-nja")
	w.dns.A("xn--mx-nja", w.mx[0].IP())
	if got := code(failure(t, w.send(t.Context(), message("b@single.example"))["b@single.example"])); got != "451 4.7.0 mta-sts-mx-mismatch" {
		t.Error(got)
	}
}

// TestUnreadMTASTS: a policy that is known to be there and cannot be read makes mail
// wait, unless the message lifts policies anyway.
func TestUnreadMTASTS(t *testing.T) {
	t.Parallel()
	p := &policies{result: mtasts.Result{
		Err:    &mtasts.Error{Kind: mtasts.FetchError, Domain: "example.net", Err: errors.New("status 500")},
		Unread: errors.New("open example.net.json: permission denied"),
	}}
	w := newWorld(t, withSTS(p, func(c *delivery.Config) { c.TLSRequiredOverride = true }), inClear())
	f := w.sendOne()
	if got := code(f); got != "451 4.3.0 internal" || w.mx[0].Connections() != 0 {
		t.Errorf("%s, %d connections", got, w.mx[0].Connections())
	}
	if strings.Contains(f.Message, ".json") || !strings.Contains(f.Error(), "open example.net.json: permission denied") {
		t.Errorf("to the sender %q, to the log %q", f.Message, f.Error())
	}
	if err := w.last().STSErr; err != nil {
		t.Errorf("it says that mail went as if there were no policy: %v", err)
	}
	m := headerWith(message("b@example.net"), "TLS-Required", "No")
	if f := failure(t, w.send(t.Context(), m)["b@example.net"]); f != nil {
		t.Error(code(f))
	}
}

// TestPanickingPolicySource costs the recipients of the domain this attempt, and
// nobody anything else.
func TestPanickingPolicySource(t *testing.T) {
	t.Parallel()
	p := sts(mtasts.Enforce, "*.test")
	p.panics = true
	w := newWorld(t, withSTS(p), good())
	if got := code(w.sendOne()); got != "451 4.3.0 internal" || w.mx[0].Connections() != 0 {
		t.Errorf("%s", got)
	}
	p.mu.Lock()
	p.panics = false
	p.mu.Unlock()
	if f := w.sendOne(); f != nil {
		t.Errorf("the next message: %s", code(f))
	}
}

// TestStalledPolicySource: the context ends the wait, and Close has nothing left.
func TestStalledPolicySource(t *testing.T) {
	t.Parallel()
	p := sts(mtasts.Enforce, "*.test")
	p.stalls = true
	w := newWorld(t, withSTS(p), good())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			p.mu.Lock()
			asked := len(p.asked)
			p.mu.Unlock()
			if asked > 0 {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if got := code(failure(t, w.send(ctx, message("b@example.net"))["b@example.net"])); got != "451 4.3.2 internal" {
		t.Error(got)
	}
}

// TestLookupsBeside: while a policy is fetched from afar, everything else that has
// to be known is looked up.
func TestLookupsBeside(t *testing.T) {
	t.Parallel()
	p := sts(mtasts.Enforce, "*.test")
	p.hold = make(chan struct{})
	var s shows
	w := newWorld(t, withDANE(withSTS(p)), s.host(mailtest.SelfSigned))
	published(3, true)(w, &s)
	done := make(chan *delivery.Failure)
	go func() { done <- failure(t, w.send(t.Context(), message("b@example.net"))["b@example.net"]) }()
	w.eventually("all is looked up", func() bool { return len(w.dns.Asked()) == 4 })
	if n := w.mx[0].Connections(); n != 0 {
		t.Error("the host was dialled before the policy was known")
	}
	close(p.hold)
	if f := <-done; f != nil {
		t.Error(code(f))
	}
	if queries := w.dns.Asked(); len(queries) != 4 {
		t.Errorf("asked %q", queries)
	}
}

// TestDANEBeforeMTASTS: where a host has records that can be used, they decide
// about its certificate; where it has none, the policy does. The policy's list of
// hosts is kept in any case.
func TestDANEBeforeMTASTS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		kind   mailtest.Kind
		usage  uint8
		right  bool
		listed bool
		want   string
		by     tlsplan.Verification
	}{
		{"proved by DANE, not by PKIX", mailtest.SelfSigned, 3, true, true, "delivered", tlsplan.VerifiedDANEEE},
		{"proved by PKIX, not by DANE", mailtest.Good, 3, false, true, "451 4.7.5 dane-mismatch", tlsplan.VerifiedNone},
		{"unusable records, proved by PKIX", mailtest.Good, 1, true, true, "delivered", tlsplan.VerifiedPKIX},
		{"unusable records, not proved", mailtest.SelfSigned, 1, true, true, "451 4.7.5 certificate-untrusted", tlsplan.VerifiedNone},
		{"proved by DANE, not listed", mailtest.Good, 3, true, false, "451 4.7.0 mta-sts-mx-mismatch", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			listed := hostName(0)
			if !tt.listed {
				listed = "elsewhere.test"
			}
			var s shows
			w := newWorld(t, withDANE(withSTS(sts(mtasts.Enforce, listed))), s.host(tt.kind))
			w.dns.SetAuthenticated(true)
			of := s.cert.Leaf
			if !tt.right {
				of = w.ca.Root()
			}
			w.publish(hostName(0), tt.usage, 1, 1, of)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			a := w.last()
			if tt.by != "" && a.Connection.Outcome.Verification != tt.by {
				t.Errorf("outcome %+v, want %s", a.Connection.Outcome, tt.by)
			}
			if !a.Plan.HasFloor(tlsplan.FloorMTASTS) || a.Plan.HasFloor(tlsplan.FloorDANE) != tt.listed {
				t.Errorf("floors %v", a.Plan.Floors)
			}
			w.neverInClear()
		})
	}
}
