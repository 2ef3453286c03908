package tests

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// requireTLSHost is what an MX host does, and whether its domain is signed.
type requireTLSHost struct {
	name   string
	kind   mailtest.Kind // "" for no STARTTLS
	offers bool          // REQUIRETLS under TLS
	clear  bool          // REQUIRETLS announced in clear only
	signed bool          // the MX record comes with the AD bit
	want   [2]string     // status with relaxed_requiretls no, yes
}

const (
	unmet       = "550 5.7.30 requiretls-unsupported"
	unproven    = "550 5.7.30 mx-unauthenticated"
	noTLS       = "550 5.7.30 tls-not-offered"
	untrusted   = "451 4.7.5 certificate-untrusted"
	mailPlain   = "delivered"
	mailRequire = "delivered with REQUIRETLS"
)

var requireTLSHosts = []requireTLSHost{
	{name: "good", kind: mailtest.Good, offers: true, signed: true, want: [2]string{mailRequire, mailRequire}},
	{name: "not offered", kind: mailtest.Good, signed: true, want: [2]string{unmet, mailPlain}},
	{name: "offered in clear only", kind: mailtest.Good, clear: true, signed: true, want: [2]string{unmet, mailPlain}},
	{name: "bad certificate", kind: mailtest.SelfSigned, offers: true, signed: true, want: [2]string{untrusted, untrusted}},
	{name: "no STARTTLS", signed: true, clear: true, want: [2]string{noTLS, noTLS}},
	{name: "MX not authenticated", kind: mailtest.Good, offers: true, want: [2]string{unproven, unproven}},
}

// withKeyword is the usual EHLO reply, with REQUIRETLS or without.
func withKeyword(yes bool) []string {
	if !yes {
		return mailtest.DefaultExtensions()
	}
	return append(mailtest.DefaultExtensions(), "REQUIRETLS")
}

// requireTLSServer has a submission endpoint under TLS, where clients may ask for
// REQUIRETLS, in front of the queue or of the target itself.
func requireTLSServer(t *testing.T, target, deliverTo string) *server {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []mailtest.Behaviour
	for i, h := range requireTLSHosts {
		var b mailtest.Behaviour
		if h.kind != "" {
			b = certificate(t, ca, h.kind, host(i))
		}
		b.ExtensionsClear, b.ExtensionsTLS = withKeyword(h.clear), withKeyword(h.offers)
		hosts = append(hosts, b)
	}
	s := newServerCA(t, ca, hosts...)
	for i, h := range requireTLSHosts {
		s.dns.MX(matrixDomain(i), 10, host(i))
		if h.signed {
			s.dns.Authentic(matrixDomain(i))
		}
	}
	s.relayCertificate()
	s.config(blocks{
		target: target,
		// Nothing of this may lift what the sender of a message demands.
		policy: "require_tls no\nskip_verification yes\ndomain strict.example { require_tls yes\nskip_verification no\n}",
		endpoints: `submission tcp://{ip}:{submission} {
hostname relay.example.com
tls file {dir}/relay.pem {dir}/relay.key
auth pass_table static {
entry ` + user + ` "bcrypt:` + passwordHash() + `"
}
check {
tls_override { policy &outbound_policy
}
}
deliver_to &` + deliverTo + `
}`})
	s.start()
	return s
}

// relayCertificate writes the certificate of the relay's own endpoints.
func (s *server) relayCertificate() {
	s.Helper()
	cert, err := s.ca.Issue(mailtest.Good, "relay.example.com")
	if err != nil {
		s.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		s.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"relay.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		"relay.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(s.path(name), pem.EncodeToMemory(block), 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

// TestREQUIRETLS: what a client asks for with REQUIRETLS is demanded of the next
// hop, directly and through the queue, whatever the settings say and whatever the
// message itself would allow (RFC 8689).
func TestREQUIRETLS(t *testing.T) {
	t.Parallel()
	for i, relaxed := range []string{"no", "yes"} {
		for _, deliverTo := range []string{"outbound", "remote_queue"} {
			t.Run("relaxed "+relaxed+" to "+deliverTo, func(t *testing.T) {
				t.Parallel()
				s := requireTLSServer(t, "relaxed_requiretls "+relaxed, deliverTo)
				n := 0
				for j, h := range requireTLSHosts {
					// An idle connection to the host, if it can be had, is no way
					// around what is demanded.
					if h.kind == mailtest.Good {
						s.mustSubmit(mail{startTLS: true, to: []string{"b@" + matrixDomain(j)}})
						s.next(n)
						n++
					}
					for _, header := range []string{"", "X-Skip-Verification: yes\r\nX-Require-TLS: no\r\n", "TLS-Required: No\r\n"} {
						s.requireTLS(n, j, header, h.want[i], deliverTo == "outbound")
						n++
					}
					if inClear(s.mx[j]) {
						t.Errorf("%s: in clear on the wire", h.name)
					}
				}
			})
		}
	}
}

// requireTLS sends one message with REQUIRETLS to the domain of host j.
func (s *server) requireTLS(n, j int, header, want string, direct bool) {
	s.Helper()
	name := fmt.Sprintf("%s with %q", requireTLSHosts[j].name, header)
	before := s.mx[j].Delivered()
	err := s.submit(mail{startTLS: true, to: []string{"b@" + matrixDomain(j)}, header: header, options: &smtp.MailOptions{RequireTLS: true}})
	d := s.next(n)
	got := d.status()
	if d["event"] == "failed" {
		got = fmt.Sprint(d.get("delivery-status.code"), " ", d.get("delivery-status.enhanced-code"), " ", d["reason"])
	} else if messages := s.mx[j].Messages(); len(messages) != before+1 {
		s.Errorf("%s: %d messages arrived", name, len(messages)-before)
	} else {
		got = "delivered"
		if last := messages[before]; slices.Contains(strings.Fields(last.MailParams), "REQUIRETLS") {
			got += " with REQUIRETLS"
		}
	}
	if got != want {
		s.Errorf("%s: %s, want %s", name, got, want)
	}
	status := "accepted"
	if code, _, ok := strings.Cut(want, " "); direct && ok && code != "delivered" {
		status = want[:strings.LastIndex(want, " ")]
	}
	if reply(err) != status {
		s.Errorf("%s: %v, want %s", name, err, status)
	}
	d.expect(s.T, map[string]any{"tls-policy.demanded": "verified", "tls-policy.floors": "[requiretls]"})
	for _, m := range s.mx[j].Messages()[before:] {
		stripped(s.T, m)
		if h := headerOf(s.T, m); strings.HasPrefix(header, "TLS-Required") && h.Get("TLS-Required") != "No" {
			s.Errorf("%s: TLS-Required did not go on", name)
		}
	}
}

// TestTLSRequiredNoLiftsNoSettings: TLS-Required: No is about what recipients
// publish. What the sender's domain has set stays.
func TestTLSRequiredNoLiftsNoSettings(t *testing.T) {
	t.Parallel()
	for _, override := range []string{"yes", "no"} {
		t.Run("requiretls_override "+override, func(t *testing.T) {
			t.Parallel()
			s := requireTLSServer(t, "requiretls_override "+override, "outbound")
			for i, want := range []string{"accepted", "accepted", "accepted", "451 4.7.5", "451 4.7.4", "accepted"} {
				err := s.submit(mail{startTLS: true, from: "a@strict.example", to: []string{"b@" + matrixDomain(i)}, header: "TLS-Required: No\r\n"})
				if reply(err) != want {
					t.Errorf("%s: %v, want %s", requireTLSHosts[i].name, err, want)
				}
				d := s.next(i)
				d.expect(t, map[string]any{"tls-policy.demanded": "verified", "tls-policy.floors": nil})
				if got := d.settings(); got != "yes domain, no domain" {
					t.Errorf("%s: %s", requireTLSHosts[i].name, got)
				}
			}
			s.neverInClear()
			for _, m := range s.mx[0].Messages() {
				if h := headerOf(t, m); h.Get("TLS-Required") != "No" || strings.Contains(m.MailParams, "REQUIRETLS") {
					t.Errorf("arrived with MAIL %s\n%s", m.MailParams, m.Data)
				}
			}
		})
	}
}

// TestREQUIRETLSAmongHosts: a host that lacks REQUIRETLS is passed over for one
// that has it; only after the last one the message comes back.
func TestREQUIRETLSAmongHosts(t *testing.T) {
	t.Parallel()
	s := requireTLSServer(t, "relaxed_requiretls no", "outbound")
	for pref, j := range []int{1, 2, 0} { // not offered, offered in clear, good
		s.dns.MX("several.test", uint16(pref), host(j))
		if j != 0 {
			s.dns.MX("none.test", uint16(pref), host(j))
		}
	}
	s.dns.Authentic("several.test")
	s.dns.Authentic("none.test")
	for i, tt := range []struct {
		domain, want string
		hosts        int
	}{{"several.test", "accepted", 2}, {"none.test", "550 5.7.30", 2}} {
		err := s.submit(mail{startTLS: true, to: []string{"b@" + tt.domain}, options: &smtp.MailOptions{RequireTLS: true}})
		if reply(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.domain, err, tt.want)
		}
		if hosts, _ := s.next(i).get("delivery-status.hosts").([]any); len(hosts) != tt.hosts {
			t.Errorf("%s: hosts %v, want %d", tt.domain, hosts, tt.hosts)
		}
	}
	s.neverInClear()
}
