package delivery_test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

func lifting(c *delivery.Config) { c.TLSRequiredOverride = true }

// TestTLSRequired: which fields lift what recipients publish (RFC 8689,
// section 5). Only one that says No does.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fields []string
		lifts  bool
	}{
		{[]string{"TLS-Required", "No"}, true},
		{[]string{"tls-required", "no"}, true},
		{[]string{"TLS-REQUIRED", " NO\t"}, true},
		{nil, false},
		{[]string{"TLS-Required", "Yes"}, false},
		{[]string{"TLS-Required", ""}, false},
		{[]string{"TLS-Required", "No (really)"}, false},
		{[]string{"TLS-Required", "(no) No"}, false},
		{[]string{"TLS-Required", "No, No"}, false},
		{[]string{"TLS-Required", "No;"}, false},
		{[]string{"TLS-Required", "Nо"}, false}, // Cyrillic
		{[]string{"TLS-Required", "No", "TLS-Required", "No"}, false},
		{[]string{"TLS-Required", "No", "TLS-Required", "Yes"}, false},
		{[]string{"X-TLS-Required", "No"}, false},
	} {
		w := newWorld(t, withSTS(sts(mtasts.Enforce, "*.test"), lifting), inClear())
		got := code(failure(t, w.send(t.Context(), headerWith(message("b@example.net"), tt.fields...))["b@example.net"]))
		if (got == "delivered") != tt.lifts || !tt.lifts && got != "451 4.7.4 tls-not-offered" {
			t.Errorf("%q: %s", tt.fields, got)
		}
		if w.last().Plan.HasFloor(tlsplan.FloorMTASTS) == tt.lifts {
			t.Errorf("%q: floors %v", tt.fields, w.last().Plan.Floors)
		}
		for _, m := range w.mx[0].Messages() {
			if !strings.Contains(strings.ToLower(string(m.Data)), "tls-required:") {
				t.Errorf("%q: the field did not travel", tt.fields)
			}
		}
	}
}

// TestTLSRequiredLifts what recipients publish, and nothing that the sender or
// the operator demands.
func TestTLSRequiredLifts(t *testing.T) {
	t.Parallel()
	strict := policy.Settings{RequireTLS: true}
	for _, tt := range []struct {
		name   string
		change func(*delivery.Config)
		kind   mailtest.Kind // "" for no TLS
		zone   func(*world, *shows)
		ask    bool // REQUIRETLS
		want   string
	}{
		{name: "MTA-STS, not listed", change: withSTS(sts(mtasts.Enforce, "x.test")), kind: mailtest.Good, want: "delivered"},
		{name: "MTA-STS, bad certificate", change: withSTS(sts(mtasts.Enforce, "*.test")), kind: mailtest.Expired, want: "delivered"},
		{name: "the operator does not let it", change: withSTS(sts(mtasts.Enforce, "*.test"), func(c *delivery.Config) { c.TLSRequiredOverride = false }),
			kind: mailtest.Expired, want: "451 4.7.5 certificate-expired"},
		{name: "settings", change: withSTS(sts(mtasts.Enforce, "*.test"), settings(strict)), kind: mailtest.Expired, want: "451 4.7.5 certificate-expired"},
		{name: "min_tls_level", change: withSTS(sts(mtasts.Enforce, "*.test"), func(c *delivery.Config) { c.MinTLS = tlsplan.LevelEncrypted }),
			want: "451 4.7.4 tls-not-offered"},
		{name: "min_mx_level", change: withSTS(sts(mtasts.Enforce, "x.test"), func(c *delivery.Config) { c.MinMX = tlsplan.MXByMTASTS }),
			kind: mailtest.Good, want: "451 4.7.0 mx-unauthenticated"},
		{name: "min_mx_level that is met", change: withSTS(sts(mtasts.Enforce, "*.test"), func(c *delivery.Config) { c.MinMX = tlsplan.MXByMTASTS }),
			kind: mailtest.Expired, want: "delivered"},
		{name: "REQUIRETLS wins", change: withSTS(sts(mtasts.Enforce, "*.test"), func(c *delivery.Config) { c.RelaxedREQUIRETLS = true }),
			kind: mailtest.Expired, ask: true, want: "451 4.7.5 certificate-expired"},
		{name: "DANE, mismatch", change: withDANE(), kind: mailtest.Expired, zone: published(3, false), want: "delivered"},
		{name: "DANE, no TLS", change: withDANE(), zone: published(3, false), want: "delivered"},
		{name: "DANE, lookup fails", change: withDANE(), kind: mailtest.Good, zone: func(w *world, _ *shows) {
			w.dns.SetAuthenticated(true)
			w.dns.Fail(w.tlsaName(hostName(0)), dns.RcodeServerFailure)
		}, want: "delivered"},
		{name: "DANE, mismatch, settings are met by PKIX", change: withDANE(settings(strict)), kind: mailtest.Good, zone: published(3, false), want: "delivered"},
		{name: "DANE, settings are met by it", change: withDANE(settings(strict)), kind: mailtest.SelfSigned, zone: published(3, true), want: "delivered"},
		{name: "DANE, settings are not met", change: withDANE(settings(strict)), kind: mailtest.SelfSigned, zone: published(3, false), want: "451 4.7.5 dane-mismatch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s shows
			host := inClear()
			if tt.kind != "" {
				host = s.host(tt.kind)
			}
			w := newWorld(t, func(c *delivery.Config) { lifting(c); tt.change(c) }, host)
			if tt.zone != nil {
				tt.zone(w, &s)
			}
			m := headerWith(message("b@example.net"), "TLS-Required", "No")
			m.Options.RequireTLS = tt.ask
			if got := code(failure(t, w.send(t.Context(), m)["b@example.net"])); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if a := w.last(); !tt.ask && a.Plan.HasFloor(tlsplan.FloorDANE) {
				t.Errorf("floors %v", a.Plan.Floors)
			}
			if tt.kind != "" && strings.HasPrefix(tt.name, "DANE") {
				w.neverInClear() // A host with records has TLS.
			}
		})
	}
}

// published signs everything and publishes a record of what the host shows, or
// of something else.
func published(usage uint8, right bool) func(*world, *shows) {
	return func(w *world, s *shows) {
		w.dns.SetAuthenticated(true)
		of := w.ca.Intermediate()
		if right {
			of = s.cert.Leaf
		}
		w.publish(hostName(0), usage, 1, 1, of)
	}
}

// TestREQUIRETLSByPolicy: what proves the MX record, and the certificate, to a
// message that demands both (RFC 8689, section 4.2.1).
func TestREQUIRETLSByPolicy(t *testing.T) {
	t.Parallel()
	offers := func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"REQUIRETLS"} }
	minDNSSEC := func(c *delivery.Config) { c.MinMX = tlsplan.MXByDNSSEC }
	offering := func(s *shows, kind mailtest.Kind) hostFunc {
		return func(w *world, host string) mailtest.Behaviour {
			b := s.host(kind)(w, host)
			offers(&b)
			return b
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*delivery.Config)
		kind   mailtest.Kind
		zone   func(*world, *shows)
		want   string
	}{
		{"MTA-STS, enforced", withSTS(sts(mtasts.Enforce, "*.test")), mailtest.Good, nil, "delivered"},
		{"MTA-STS, testing", withSTS(sts(mtasts.Testing, "*.test")), mailtest.Good, nil, "550 5.7.30 mx-unauthenticated"},
		{"MTA-STS, not listed", withSTS(sts(mtasts.Enforce, "x.test")), mailtest.Good, nil, "451 4.7.0 mta-sts-mx-mismatch"},
		{"MTA-STS, bad certificate", withSTS(sts(mtasts.Enforce, "*.test")), mailtest.SelfSigned, nil, "451 4.7.5 certificate-untrusted"},
		{"DNSSEC and DANE", withDANE(), mailtest.SelfSigned, published(3, true), "delivered"},
		{"DNSSEC and DANE, mismatch", withDANE(), mailtest.Good, published(3, false), "451 4.7.5 dane-mismatch"},
		{"DANE behind an MX record that is not signed", withDANE(), mailtest.SelfSigned, func(w *world, s *shows) {
			w.publish(hostName(0), 3, 1, 1, s.cert.Leaf)
			w.dns.Authentic(hostName(0))
			w.dns.Authentic(w.tlsaName(hostName(0)))
		}, "550 5.7.30 mx-unauthenticated"},
		{"DANE behind MTA-STS", withDANE(withSTS(sts(mtasts.Enforce, "*.test"))), mailtest.SelfSigned, func(w *world, s *shows) {
			w.publish(hostName(0), 3, 1, 1, s.cert.Leaf)
			w.dns.Authentic(hostName(0))
			w.dns.Authentic(w.tlsaName(hostName(0)))
		}, "delivered"},
		// REQUIRETLS has what it demands; what is missing is the operator's affair.
		{"MTA-STS, local_policy wants DNSSEC", withSTS(sts(mtasts.Enforce, "*.test"), minDNSSEC), mailtest.Good, nil, "451 4.7.0 mx-unauthenticated"},
		{"neither, local_policy wants DNSSEC", minDNSSEC, mailtest.Good, nil, "550 5.7.30 mx-unauthenticated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s shows
			w := newWorld(t, tt.change, offering(&s, tt.kind))
			if tt.zone != nil {
				tt.zone(w, &s)
			}
			m := message("b@example.net")
			m.Options.RequireTLS = true
			if got := code(failure(t, w.send(t.Context(), m)["b@example.net"])); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			w.neverInClear()
		})
	}
}

// TestREQUIRETLSAmongHosts: REQUIRETLS is given up only when every host has
// failed for good; one that may do better later keeps the message.
func TestREQUIRETLSAmongHosts(t *testing.T) {
	t.Parallel()
	offers := func(b *mailtest.Behaviour) { b.ExtensionsTLS = []string{"REQUIRETLS"} }
	for _, tt := range []struct {
		name  string
		hosts []hostFunc
		want  string
	}{
		{"the last one offers it", []hostFunc{good(), inClear(), good(offers)}, "delivered"},
		{"none offers it", []hostFunc{good(), good()}, "550 5.7.30 requiretls-unsupported"},
		{"one is out of order", []hostFunc{good(), good(offers, reply("greeting", "421 4.3.2 later"))}, "421 4.3.2 connect"},
		{"one is out of order, in the other order", []hostFunc{good(offers, reply("greeting", "421 4.3.2 later")), good()}, "421 4.3.2 connect"},
		{"one has a bad certificate", []hostFunc{good(), withCert(mailtest.Expired, offers)}, "451 4.7.5 certificate-expired"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, tt.hosts...)
			w.dns.SetAuthenticated(true)
			m := message("b@example.net")
			m.Options.RequireTLS = true
			if got := code(failure(t, w.send(t.Context(), m)["b@example.net"])); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			w.neverInClear()
		})
	}
}

// TestMinMX: the operator's own demand on MX records.
func TestMinMX(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		min    tlsplan.MXLevel
		policy *policies
		signed bool
		want   string
	}{
		{tlsplan.MXUnproven, sts(mtasts.Testing, "*.test"), false, "delivered"},
		{tlsplan.MXByMTASTS, sts(mtasts.Testing, "*.test"), false, "451 4.7.0 mx-unauthenticated"},
		{tlsplan.MXByMTASTS, &policies{}, false, "451 4.7.0 mx-unauthenticated"},
		{tlsplan.MXByMTASTS, sts(mtasts.Enforce, "*.test"), false, "delivered"},
		{tlsplan.MXByMTASTS, &policies{}, true, "delivered"},
		{tlsplan.MXByDNSSEC, sts(mtasts.Enforce, "*.test"), false, "451 4.7.0 mx-unauthenticated"},
		{tlsplan.MXByDNSSEC, &policies{}, true, "delivered"},
	} {
		w := newWorld(t, withSTS(tt.policy, func(c *delivery.Config) { c.MinMX = tt.min }), good())
		w.dns.SetAuthenticated(tt.signed)
		if got := code(w.sendOne()); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
		if w.mx[0].Connections() > 0 != (tt.want == "delivered") {
			t.Errorf("%+v: %d connections", tt, w.mx[0].Connections())
		}
	}
}
