package delivery_test

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// TestWarmDomainAsksNothing: policies cost a known domain no question, and no
// connection.
func TestWarmDomainAsksNothing(t *testing.T) {
	t.Parallel()
	var s shows
	w := newWorld(t, withDANE(withSTS(sts(mtasts.Enforce, "*.test"))), s.host(mailtest.SelfSigned))
	w.dns.SetAuthenticated(true)
	w.publish(hostName(0), 3, 1, 1, s.cert.Leaf)
	for i := range 4 {
		if f := w.sendOne(); f != nil {
			t.Fatal(code(f))
		}
		if i == 0 {
			w.eventually("the connection is idle", w.isIdle)
		}
		o := w.last().Connection
		if o.Reused != (i > 0) || o.Outcome.Verification != tlsplan.VerifiedDANEEE {
			t.Errorf("message %d: %+v", i, o)
		}
		w.eventually("the connection is idle", w.isIdle)
	}
	if n := w.mx[0].Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// Told of once, since a connection in use again is not another one.
	if n := len(w.rec.secured); n != 1 {
		t.Errorf("%d were told of", n)
	}
	queries := w.dns.Asked()
	if want := []string{"A mx1.test.", "AAAA mx1.test.", "MX example.net.", "TLSA " + w.tlsaName(hostName(0)) + "."}; !slices.Equal(queries, want) {
		t.Errorf("asked %q, want %q", queries, want)
	}
}

// isIdle reports whether a connection waits for the next message.
func (w *world) isIdle() bool {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	return w.rec.idle == 1 && w.rec.busy == 0
}

// TestRecordsChange: a session that other records proved, or none, is not used
// where records demand a proof of their own, and its certificate is not believed
// any longer because of a ticket.
func TestRecordsChange(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		for name, before := range map[string]func(*world, *shows){
			"other records": func(w *world, s *shows) { w.publish(hostName(0), 3, 1, 1, s.cert.Leaf) },
			"no records":    func(*world, *shows) {},
		} {
			for _, pooled := range []bool{true, false} {
				t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
					t.Parallel()
					var s shows
					change := withDANE(settings(policy.Settings{Fallback: policy.Unverified}))
					if !pooled {
						change = withDANE(settings(policy.Settings{Fallback: policy.Unverified}), noReuse)
					}
					start := s.host(mailtest.Good)
					w := newWorld(t, change, func(w *world, host string) mailtest.Behaviour {
						b := start(w, host)
						b.MaxTLS = version
						return b
					})
					w.dns.SetAuthenticated(true)
					w.dns.SetTTL(0)
					before(w, &s)
					for range 2 {
						if f := w.sendOne(); f != nil {
							t.Fatal(code(f))
						}
						want := tlsplan.VerifiedPKIX
						if name == "other records" {
							want = tlsplan.VerifiedDANEEE
						}
						if o := w.last().Connection.Outcome; o.Verification != want || !o.PKIX || o.Certificate == nil {
							t.Errorf("outcome %+v, want %s", o, want)
						}
						if pooled {
							w.eventually("the connection is idle", w.isIdle)
						}
					}
					if !pooled && w.handshakes(2) != 1 {
						t.Error("the session was not resumed while nothing changed")
					}
					if pooled && w.mx[0].Connections() != 1 {
						t.Error("the session was not used again while nothing changed")
					}
					connections := w.mx[0].Connections()

					// The host changes its certificate and its records, as it should.
					b := s.host(mailtest.SelfSigned)(w, hostName(0))
					b.MaxTLS = version
					w.mx[0].Set(b)
					w.dns.Remove(w.tlsaName(hostName(0)))
					w.publish(hostName(0), 3, 1, 1, s.cert.Leaf)
					if got := code(w.sendOne()); got != "delivered" {
						t.Error(got)
					}
					c := w.last().Connection
					if c.Reused || c.Outcome.Verification != tlsplan.VerifiedDANEEE || w.mx[0].Connections() != connections+1 {
						t.Errorf("%+v, %d connections", c, w.mx[0].Connections())
					}

					// Now the records change and the certificate does not.
					w.dns.Remove(w.tlsaName(hostName(0)))
					w.publish(hostName(0), 3, 1, 1, w.ca.Root())
					if got := code(w.sendOne()); got != "451 4.7.5 dane-mismatch" {
						t.Error(got)
					}
				})
			}
		}
	}
}

// TestNamesOfAnotherDomain: a session whose certificate was for the domain that
// it was made for is no proof for another domain at the same host.
func TestNamesOfAnotherDomain(t *testing.T) {
	t.Parallel()
	var s shows
	w := newWorld(t, withDANE(), s.host(mailtest.Good, "example.net"))
	w.dns.SetAuthenticated(true)
	w.dns.MX("example.org", 10, hostName(0))
	w.dns.MX("alias.example", 10, hostName(0))
	w.publish(hostName(0), 2, 0, 1, w.ca.Root())
	if f := w.sendOne(); f != nil {
		t.Fatal(code(f))
	}
	w.eventually("the connection is idle", w.isIdle)
	if got := code(failure(t, w.send(t.Context(), message("b@example.org"))["b@example.org"])); got != "451 4.7.5 dane-mismatch" {
		t.Error(got)
	}
	if f := w.sendOne(); f != nil || !w.last().Connection.Reused {
		t.Errorf("%s on %+v", code(f), w.last().Connection)
	}
}

// TestLiftedAndNot: messages that lift what is published, and those that do not,
// share sessions as far as they may.
func TestLiftedAndNot(t *testing.T) {
	t.Parallel()
	var s shows
	w := newWorld(t, withDANE(lifting), s.host(mailtest.SelfSigned))
	published(3, true)(w, &s)
	lifted := func() { // on a session of its own, or one of others
		m := headerWith(message("b@example.net"), "TLS-Required", "No")
		if f := failure(t, w.send(t.Context(), m)["b@example.net"]); f != nil {
			t.Error(code(f))
		}
		w.eventually("the connection is idle", w.isIdle)
	}
	lifted()
	if f := w.sendOne(); f != nil {
		t.Error(code(f))
	}
	w.eventually("the connection is idle", w.isIdle)
	lifted()
	if n := w.mx[0].Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
	w.neverInClear()
}

// TestPolicyOfAnotherDomain: domains with different policies at one host do not
// weaken each other.
func TestPolicyOfAnotherDomain(t *testing.T) {
	t.Parallel()
	enforced := sts(mtasts.Enforce, "*.test")
	w := newWorld(t, withSTS(policyOf{"example.net": enforced.result}, settings(policy.Settings{Fallback: policy.Unverified})), withCert(mailtest.SelfSigned))
	w.dns.MX("example.org", 10, hostName(0))
	for range 2 {
		statuses := w.send(t.Context(), message("b@example.org", "b@example.net"))
		if got := code(failure(t, statuses["b@example.org"])); got != "delivered" {
			t.Errorf("without a policy: %s", got)
		}
		if got := code(failure(t, statuses["b@example.net"])); got != "451 4.7.5 certificate-untrusted" {
			t.Errorf("with a policy: %s", got)
		}
	}
	for _, m := range w.mx[0].Messages() {
		if strings.Contains(strings.Join(m.Recipients, " "), "example.net") {
			t.Errorf("%q got the message", m.Recipients)
		}
	}
}

// policyOf is policies that do not change.
type policyOf map[string]mtasts.Result

func (p policyOf) Lookup(_ context.Context, domain string) mtasts.Result { return p[domain] }
func (policyOf) Close()                                                  {}
