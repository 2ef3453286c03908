package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// asked are the messages whose fate is explained: the settings, and what else a
// sender can say.
var asked = map[string]struct {
	settings policy.Settings
	ask      func(*delivery.Message)
}{
	"opportunistic":                   {policy.Settings{}, nil},
	"opportunistic, keeps TLS":        {policy.Settings{Fallback: policy.Unverified}, nil},
	"opportunistic, skips":            {policy.Settings{SkipVerification: true}, nil},
	"required":                        {policy.Settings{RequireTLS: true}, nil},
	"required, skips, rejects":        {policy.Settings{RequireTLS: true, SkipVerification: true, OnFailure: policy.Reject}, nil},
	"REQUIRETLS":                      {policy.Settings{}, func(m *delivery.Message) { m.Options.RequireTLS = true }},
	"TLS-Required: No":                {policy.Settings{}, func(m *delivery.Message) { headerWith(m, "TLS-Required", "No") }},
	"a stranger asks for more":        {policy.Settings{}, func(m *delivery.Message) { headerWith(m, "X-Require-TLS", "yes") }},
	"a stranger cannot ask for less":  {policy.Settings{RequireTLS: true}, func(m *delivery.Message) { headerWith(m, "X-Skip-Verification", "yes") }},
	"rejects what cannot be verified": {policy.Settings{RequireTLS: true, OnFailure: policy.Reject}, nil},
}

// publications are what the domain publishes, of a host with the certificate s.
var publications = map[string]struct {
	sts  func() delivery.STS
	zone func(w *world, s *shows)
}{
	"nothing":                 {nil, nil},
	"DNSSEC alone":            {nil, func(w *world, s *shows) { w.dns.SetAuthenticated(true) }},
	"DANE-EE":                 {nil, func(w *world, s *shows) { w.signed(3, s) }},
	"DANE of another":         {nil, func(w *world, s *shows) { w.dns.SetAuthenticated(true); w.publish(hostName(0), 3, 1, 1, w.ca.Root()) }},
	"DANE of no use":          {nil, func(w *world, s *shows) { w.signed(1, s) }},
	"DANE not found out":      {nil, func(w *world, s *shows) { w.signed(3, s); w.dns.Fail(w.tlsaName(hostName(0)), dns.RcodeServerFailure) }},
	"DANE not signed":         {nil, func(w *world, s *shows) { w.publish(hostName(0), 3, 1, 1, w.ca.Root()) }},
	"MTA-STS, enforce":        {func() delivery.STS { return sts(mtasts.Enforce, "*.test") }, nil},
	"MTA-STS of another":      {func() delivery.STS { return sts(mtasts.Enforce, "elsewhere.test") }, nil},
	"MTA-STS, testing":        {func() delivery.STS { return sts(mtasts.Testing, "elsewhere.test") }, nil},
	"DANE and MTA-STS":        {func() delivery.STS { return sts(mtasts.Enforce, "*.test") }, func(w *world, s *shows) { w.signed(3, s) }},
	"host without an address": {nil, func(w *world, s *shows) { w.dns.Remove(hostName(0)) }},
	"MX not found out":        {nil, func(w *world, s *shows) { w.dns.Fail("example.net", dns.RcodeServerFailure) }},
	"no such domain":          {nil, func(w *world, s *shows) { w.dns.Fail("example.net", dns.RcodeNameError) }},
}

// signed publishes a record of what s shows, signed as everything.
func (w *world) signed(usage uint8, s *shows) {
	w.dns.SetAuthenticated(true)
	of := w.ca.Root()
	if s.cert.Leaf != nil {
		of = s.cert.Leaf
	}
	w.publish(hostName(0), usage, 1, 1, of)
}

// doing is what the host does.
func doing(s *shows) map[string]hostFunc {
	change := func(f func(*mailtest.Behaviour)) hostFunc {
		return func(w *world, host string) mailtest.Behaviour {
			b := s.host(mailtest.Good)(w, host)
			f(&b)
			return b
		}
	}
	return map[string]hostFunc{
		"good":             s.host(mailtest.Good),
		"REQUIRETLS":       change(func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"REQUIRETLS"} }),
		"self-signed":      s.host(mailtest.SelfSigned),
		"no STARTTLS":      inClear(),
		"refused":          change(func(b *mailtest.Behaviour) { b.STARTTLSReply = "454 4.7.0 not now" }),
		"broken":           change(func(b *mailtest.Behaviour) { b.Handshake = "garbage" }),
		"broken behind it": change(func(b *mailtest.Behaviour) { b.Handshake = "eof-after" }),
		"421 to STARTTLS":  change(func(b *mailtest.Behaviour) { b.STARTTLSReply = "421 4.3.2 bye" }),
		"554 greeting":     change(reply("greeting", "554 5.3.2 no")),
	}
}

// TestExplanationIsDelivery: whoever asks, whatever is published and whatever the
// host does, what is explained is what then happens. Nobody hears of the question,
// no message is begun, and what it says of require_tls is true too.
func TestExplanationIsDelivery(t *testing.T) {
	t.Parallel()
	for ask, a := range asked {
		for publish, p := range publications {
			for does := range doing(nil) {
				t.Run(ask+"/"+publish+"/"+does, func(t *testing.T) {
					t.Parallel()
					var s shows
					var what switching
					what.set(a.settings)
					w := newWorld(t, withDANE(lifting, func(c *delivery.Config) {
						c.Policies, c.RelaxedREQUIRETLS, c.ReuseLimit = &what, publish != "DANE-EE", 0
						if p.sts != nil {
							c.STS = p.sts()
						}
					}), doing(&s)[does])
					if p.zone != nil {
						p.zone(w, &s)
					}
					m := func() *delivery.Message {
						m := message("b@example.net")
						if a.ask != nil {
							a.ask(m)
						}
						return m
					}
					x := w.explain(delivery.Question{Message: m(), Probe: true})
					w.sentNothing()
					w.compare(x, failure(t, w.send(t.Context(), m())["b@example.net"]))

					if x.Strict == nil || len(x.Hosts) != 1 {
						return
					}
					strict := a.settings
					strict.RequireTLS = true
					what.set(strict)
					got := code(failure(t, w.send(t.Context(), m())["b@example.net"]))
					if want := strictly(&x.Hosts[0]); !strings.HasSuffix(got, want) {
						t.Errorf("with require_tls: %s, was told %s", got, want)
					}
				})
			}
		}
	}
}

// explain asks, and fails the test if observers heard of it.
func (w *world) explain(q delivery.Question) *delivery.Explanation {
	w.Helper()
	x, err := w.Explain(w.Context(), q)
	if err != nil {
		w.Fatal(err)
	}
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	if len(w.rec.attempts)+len(w.rec.troubles)+len(w.rec.connected)+len(w.rec.secured) > 0 || w.rec.idle != 0 || w.rec.busy != 0 {
		w.Errorf("observers heard of a question")
	}
	return x
}

// sentNothing: hosts saw no transaction.
func (w *world) sentNothing() {
	w.Helper()
	for i, m := range w.mx {
		for _, s := range m.Sessions() {
			for _, c := range s.Commands {
				if strings.Contains(c, "MAIL FROM") || strings.Contains(c, "RCPT TO") {
					w.Errorf("%s was told %q", hostName(i), c)
				}
			}
		}
	}
}

// compare holds what was told against what happened.
func (w *world) compare(x *delivery.Explanation, f *delivery.Failure) {
	w.Helper()
	if (x.Failure == nil) != (x.Via >= 0) {
		w.Fatalf("via %d, failure %v", x.Via, x.Failure)
	}
	if told, did := code(x.Failure), code(f); told != did {
		w.Fatalf("told %s, was %s", told, did)
	}
	a := w.last()
	if f != nil {
		if f.Message != x.Failure.Message {
			w.Errorf("told %q, was %q", x.Failure.Message, f.Message)
		}
		return
	}
	h := x.Hosts[x.Via]
	at := h.Probed[len(h.Probed)-1]
	told := fmt.Sprint(h.Name, at.IP, at.Outcome.TLS, at.Outcome.Verification, h.Plan.Floors, h.Plan.Demand, shortfall(h.Plan, at.Outcome))
	was := fmt.Sprint(a.Connection.Host, a.Connection.IP, a.Connection.Outcome.TLS, a.Connection.Outcome.Verification,
		a.Plan.Floors, a.Plan.Demand, a.Fallback)
	if told != was {
		w.Errorf("told %s, was %s", told, was)
	}
}

func shortfall(p tlsplan.Plan, o tlsplan.Outcome) tlsplan.Reason {
	if lack := p.Shortfall(o); lack != nil {
		return lack.Reason
	}
	return ""
}

// strictly is what is told of require_tls: "delivered", or a reason.
func strictly(h *delivery.ExplainedHost) string {
	switch {
	case h.StrictRefused != nil:
		return string(h.StrictRefused.Reason)
	case len(h.Probed) == 0 && h.Failure != nil:
		return string(h.Failure.Reason)
	}
	if problem := h.Probed[len(h.Probed)-1].Under(*h.Strict); problem != nil {
		return string(problem.Reason)
	}
	return "delivered"
}

// TestExplainHosts: all hosts are told of, and the first that would take the
// message is the one that does.
func TestExplainHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings(policy.Settings{RequireTLS: true}), inClear(), withCert(mailtest.Expired), good(), good())
	w.dns.MX("example.net", 35, "unknown.test")
	w.dns.MX("example.net", 50, "relay.example.com")
	x := w.explain(delivery.Question{Message: message("b@example.net"), Probe: true})
	if x.Via != 2 || x.Failure != nil || len(x.Hosts) != 6 {
		t.Fatalf("via %d of %d, %v", x.Via, len(x.Hosts), x.Failure)
	}
	var reasons []tlsplan.Reason
	for _, h := range x.Hosts {
		reason := tlsplan.Reason("")
		if h.Failure != nil {
			reason = h.Failure.Reason
		}
		reasons = append(reasons, reason)
	}
	want := []tlsplan.Reason{tlsplan.TLSNotOffered, tlsplan.CertificateExpired, "", tlsplan.MXLookup, "", ""}
	if !slices.Equal(reasons, want) || !x.Hosts[5].Ours || x.Hosts[4].Ours {
		t.Errorf("%q", reasons)
	}
	if o := x.Hosts[1].Probed[0].Seen; !o.TLS || o.PKIX || o.Certificate == nil || o.VersionName() != "TLSv1.3" {
		t.Errorf("of the certificate that was refused: %+v", o)
	}
	if f := w.sendOne(); f != nil || w.last().Connection.Host != hostName(2) {
		t.Errorf("%s", code(f))
	}
}

// TestExplainWithoutProbe dials nobody.
func TestExplainWithoutProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withSTS(sts(mtasts.Enforce, hostName(1))), good(), good())
	x := w.explain(delivery.Question{Message: message("b@example.net")})
	if x.Via != 1 || x.Hosts[0].Failure == nil || x.Hosts[0].Failure.Reason != tlsplan.MTASTSMismatch || x.Hosts[1].Failure != nil {
		t.Errorf("%+v", x)
	}
	for i, m := range w.mx {
		if m.Connections() != 0 {
			t.Errorf("%s was dialled", hostName(i))
		}
	}
}

// TestExplainOverrides: fields of an admitted client count whole, and are refused
// as at submission if they cannot be followed.
func TestExplainOverrides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings(policy.Settings{RequireTLS: true}), withCert(mailtest.Expired))
	ask := func(value string, admitted bool) (*delivery.Explanation, error) {
		return w.Explain(t.Context(), delivery.Question{
			Message: headerWith(message("b@example.net"), "X-Skip-Verification", value), Admitted: admitted, Probe: true,
		})
	}
	if x, err := ask("yes", true); err != nil || x.Failure != nil || x.Settings.SkipVerificationSource != policy.FromMessage {
		t.Errorf("admitted: %+v, %v", x, err)
	}
	if x, err := ask("yes", false); err != nil || x.Failure == nil {
		t.Errorf("a stranger: %+v, %v", x, err)
	}
	if x, err := ask("perhaps", true); err == nil {
		t.Errorf("nonsense: %+v", x)
	}
}

// TestExplainMemory: what hosts proved counts as it does for deliveries, and is
// not changed by asking.
func TestExplainMemory(t *testing.T) {
	t.Parallel()
	for _, action := range []downgrade.Action{downgrade.Log, downgrade.Defer} {
		t.Run(string(action), func(t *testing.T) {
			t.Parallel()
			var r remembering
			w := newWorld(t, r.with(action, downgrade.File(t.TempDir(), "outbound")), good())
			if f := w.sendOne(); f != nil {
				t.Fatal(f)
			}
			w.mx[0].Set(inClear()(w, hostName(0)))
			x, err := w.Explain(t.Context(), delivery.Question{Message: message("b@example.net"), Probe: true})
			if err != nil || x.Hosts[0].Expected.Level != downgrade.Verified || x.Memory != action {
				t.Fatalf("%+v, %v", x, err)
			}
			w.compare(x, w.sendOne())
		})
	}
}

// TestExplainEnds with its context, and with the engine.
func TestExplainEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good(reply("greeting", "stall")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	x, err := w.Explain(ctx, delivery.Question{Message: message("b@example.net"), Probe: true})
	if err != nil || x.Failure == nil || x.Failure.Reason != tlsplan.Timeout {
		t.Errorf("%+v, %v", x, err)
	}
	w.Close()
	if _, err := w.Explain(t.Context(), delivery.Question{Message: message("b@example.net")}); err == nil {
		t.Error("explained after Close")
	}
}
