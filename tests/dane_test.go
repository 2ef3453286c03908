package tests

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

// daneHost is an MX host, what it publishes, and what becomes of mail to it.
type daneHost struct {
	name    string
	kind    mailtest.Kind // "" for no STARTTLS
	records func(s *server, name string, leaf []byte)
	event   string
	expect  map[string]any
}

// record publishes one of the certificate, or of something else.
func record(usage, selector uint8, right bool) func(*server, string, []byte) {
	return func(s *server, name string, data []byte) {
		if !right {
			data = []byte("something else")
		}
		sum := sha256.Sum256(data)
		s.dns.TLSA(name, usage, selector, 1, sum[:])
	}
}

var daneHosts = []daneHost{
	{"proved, signed by itself", mailtest.SelfSigned, record(3, 1, true), "delivered", map[string]any{
		"delivery-status.verification": "dane-ee", "delivery-status.certificate-verified": true, "delivery-status.tls-fallback": nil,
		"tls-policy.demanded": "dane", "tls-policy.floors": "[dane]"}},
	{"proved, expired", mailtest.Expired, record(3, 1, true), "delivered", map[string]any{
		"delivery-status.verification": "dane-ee", "delivery-status.certificate-verified": true}},
	{"a good certificate, another record", mailtest.Good, record(3, 1, false), "failed", map[string]any{
		"reason": "dane-mismatch", "severity": "temporary", "delivery-status.code": 451, "delivery-status.enhanced-code": "4.7.5",
		"delivery-status.certificate-verified": false, "delivery-status.verification": "none", "tls-policy.demanded": "dane"}},
	{"records that mean nothing to SMTP", mailtest.SelfSigned, record(1, 1, true), "delivered", map[string]any{
		"delivery-status.verification": "none", "delivery-status.tls": true, "delivery-status.certificate-verified": false,
		"tls-policy.demanded": "tls", "tls-policy.floors": "[dane]", "delivery-status.tls-fallback": "certificate-untrusted"}},
	{"records, and no TLS", "", record(3, 1, false), "failed", map[string]any{
		"reason": "tls-not-offered", "delivery-status.enhanced-code": "4.7.4", "tls-policy.demanded": "dane"}},
	{"the lookup fails", mailtest.Good, func(s *server, name string, _ []byte) { s.dns.Fail(name, dns.RcodeServerFailure) }, "failed", map[string]any{
		"reason": "dane-lookup", "severity": "temporary", "delivery-status.enhanced-code": "4.4.3", "delivery-status.tls": nil}},
	{"nothing published", mailtest.SelfSigned, func(*server, string, []byte) {}, "delivered", map[string]any{
		"delivery-status.tls": false, "delivery-status.tls-fallback": "certificate-untrusted", "tls-policy.demanded": "opportunistic", "tls-policy.floors": nil}},
}

// TestDANE: what hosts publish is demanded of them, told in the document and
// counted, with the block in place and with one that maddy's own target.remote
// could share.
func TestDANE(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]blocks{
		"in place": {target: "mx_auth {\ndane\n}"},
		"shared":   {target: "mx_auth &published", more: "mx_auth published {\ndane { }\ndnssec { }\nsts_preload\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, err := mailtest.NewCA()
			if err != nil {
				t.Fatal(err)
			}
			var hosts []mailtest.Behaviour
			for i, h := range daneHosts {
				var b mailtest.Behaviour
				if h.kind != "" {
					b = certificate(t, ca, h.kind, host(i))
				}
				hosts = append(hosts, b)
			}
			s := newServerCA(t, ca, hosts...)
			s.dns.SetAuthenticated(true)
			for i, h := range daneHosts {
				s.dns.MX(matrixDomain(i), 10, host(i))
				var key []byte
				if h.kind != "" {
					key = hosts[i].Certificate.Leaf.RawSubjectPublicKeyInfo
				}
				h.records(s, fmt.Sprintf("_%d._tcp.%s", s.port, host(i)), key)
			}
			s.config(b)
			s.start()
			for i, h := range daneHosts {
				s.mustSubmit(mail{to: []string{"b@" + matrixDomain(i)}})
				d := s.next(i)
				if d["event"] != h.event {
					t.Errorf("%s: %v, want %s\n%v", h.name, d["event"], h.event, d)
				}
				d.expect(t, h.expect)
				if h.expect["tls-policy.demanded"] != "opportunistic" && inClear(s.mx[i]) {
					t.Errorf("%s: in clear on the wire", h.name)
				}
				if n := s.mx[i].Connections(); h.expect["tls-policy.demanded"] != "opportunistic" && n > 1 {
					t.Errorf("%s: %d connections", h.name, n)
				}
			}
			for series, want := range map[string]float64{
				`maddy_remote_tls_deliveries_total{module="outbound",result="delivered",tls="yes",verification="dane-ee"}`: 2,
				`maddy_remote_tls_failures_total{enforced="yes",module="outbound",reason="dane-mismatch"}`:                 1,
				`maddy_remote_tls_failures_total{enforced="yes",module="outbound",reason="dane-lookup"}`:                   1,
			} {
				s.becomes(series, want)
			}
			if said := strings.Contains(s.stderr.String(), "sts_preload has no effect"); said != (name == "shared") {
				t.Errorf("sts_preload was talked of: %v\n%s", said, s.stderr)
			}
		})
	}
}
