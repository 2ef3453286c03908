package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// policyOf publishes the MTA-STS policy of a domain.
func (s *server) policyOf(sts *mailtest.STS, domain, mode string, mx ...string) {
	s.dns.TXT("_mta-sts."+domain, "v=STSv1; id=1;")
	s.dns.A("mta-sts."+domain, sts.IP())
	body := "version: STSv1\r\nmode: " + mode + "\r\nmax_age: 86400\r\n"
	for _, name := range mx {
		body += "mx: " + name + "\r\n"
	}
	sts.Serve(domain, mailtest.STSPage{Body: body})
}

// newSTS starts a policy host, and returns the block that finds it.
func newSTS(t *testing.T, ca *mailtest.CA) (sts *mailtest.STS, block string) {
	t.Helper()
	sts, err := mailtest.NewSTS(ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sts.Close() })
	return sts, fmt.Sprintf("mtasts {\nfs_dir policies\nroot_ca {dir}/ca.pem\nport %d\nallow_private\n}", sts.Port())
}

// TestMTASTS: what domains publish is demanded of their hosts, told in the
// document, lifted by TLS-Required, and remembered across a restart.
func TestMTASTS(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	sts, block := newSTS(t, ca)
	s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, host(0)), certificate(t, ca, mailtest.SelfSigned, host(1)), mailtest.Behaviour{})
	domain := func(name string, hosts ...int) string {
		for i, h := range hosts {
			s.dns.MX(name, uint16(i), host(h))
		}
		return name
	}
	s.policyOf(sts, domain("good.example", 0), "enforce", "*.test")
	s.policyOf(sts, domain("unlisted.example", 0), "enforce", "mx9.test")
	s.policyOf(sts, domain("selfsigned.example", 1), "enforce", host(1))
	s.policyOf(sts, domain("clear.example", 2), "enforce", host(2))
	s.policyOf(sts, domain("testing.example", 2), "testing", "mx9.test")
	s.policyOf(sts, domain("none.example", 2), "none")
	s.policyOf(sts, domain("second.example", 1, 0), "enforce", "*.test")
	domain("nothing.example", 2)
	s.dns.TXT("_mta-sts."+domain("down.example", 2), "v=STSv1; id=1;")
	s.config(blocks{target: "mx_auth {\n" + block + "\n}"})
	s.start()

	floor := map[string]any{"tls-policy.demanded": "verified", "tls-policy.floors": "[mta-sts]"}
	without := map[string]any{"tls-policy.demanded": "opportunistic", "tls-policy.floors": nil}
	failed := func(reason, code string) map[string]any {
		return map[string]any{"reason": reason, "severity": "temporary", "delivery-status.enhanced-code": code}
	}
	n := 0
	send := func(domain, header, event string, all ...map[string]any) {
		t.Helper()
		s.mustSubmit(mail{to: []string{"b@" + domain}, header: header})
		d := s.next(n)
		n++
		if d["event"] != event {
			t.Errorf("%s: %v, want %s\n%v", domain, d["event"], event, d)
		}
		for _, expected := range all {
			d.expect(t, expected)
		}
	}
	send("good.example", "", "delivered", floor, map[string]any{"delivery-status.verification": "pkix"})
	send("unlisted.example", "", "failed", floor, failed("mta-sts-mx-mismatch", "4.7.0"))
	send("selfsigned.example", "", "failed", floor, failed("certificate-untrusted", "4.7.5"))
	send("clear.example", "", "failed", floor, failed("tls-not-offered", "4.7.4"))
	send("second.example", "", "delivered", floor, map[string]any{"delivery-status.mx-host": host(0)})
	for _, name := range []string{"testing.example", "none.example", "nothing.example", "down.example"} {
		send(name, "", "delivered", without, map[string]any{"delivery-status.tls": false, "tls-policy.tls-required": nil})
		told, _ := s.lastDocument(n).get("tls-policy.mta-sts-error").(string)
		if strings.HasPrefix(told, "sts-policy-fetch-error: ") != (name == "down.example") {
			t.Errorf("%s: mta-sts-error %q", name, told)
		}
	}
	send("clear.example", "TLS-Required: No\r\n", "delivered", without, map[string]any{
		"delivery-status.tls": false, "delivery-status.content-sent": "clear", "tls-policy.tls-required": "no", "tls-policy.mta-sts-error": nil,
	})
	send("unlisted.example", "TLS-Required: No\r\n", "delivered", without, map[string]any{"delivery-status.verification": "pkix"})
	send("clear.example", "TLS-Required: Maybe\r\n", "failed", floor, map[string]any{"tls-policy.tls-required": nil, "delivery-status.content-sent": nil})

	asked := len(sts.Requests())
	send("good.example", "", "delivered", floor)
	if n := len(sts.Requests()); n != asked {
		t.Errorf("the policy was fetched %d times more", n-asked)
	}

	// A restart, while the domain and its policy host say nothing any more.
	s.stop()
	s.dns.Remove("_mta-sts.clear.example")
	sts.Close()
	s.start()
	send("clear.example", "", "failed", floor, failed("tls-not-offered", "4.7.4"))
	for _, m := range s.mx[2].Messages() {
		if text := string(m.Data); strings.Contains(text, "@clear.example") && !strings.Contains(text, "TLS-Required: No") {
			t.Errorf("in clear:\n%s", text)
		}
	}
}

// TestREQUIRETLSByMTASTS: a policy that is enforced proves an MX record that is
// not signed, from the client's MAIL to that of the next hop.
func TestREQUIRETLSByMTASTS(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	sts, block := newSTS(t, ca)
	b := certificate(t, ca, mailtest.Good, host(0))
	b.ExtensionsTLS = withKeyword(true)
	s := newServerCA(t, ca, b)
	for domain, mode := range map[string]string{"enforce.example": "enforce", "testing.example": "testing"} {
		s.dns.MX(domain, 10, host(0))
		s.policyOf(sts, domain, mode, "*.test")
	}
	s.relayCertificate()
	s.config(blocks{target: "relaxed_requiretls no\nmx_auth {\n" + block + "\n}", endpoints: `submission tcp://{ip}:{submission} {
hostname relay.example.com
tls file {dir}/relay.pem {dir}/relay.key
auth pass_table static {
entry ` + user + ` "bcrypt:` + passwordHash() + `"
}
deliver_to &outbound
}`})
	s.start()
	for i, tt := range []struct{ domain, want string }{{"enforce.example", "accepted"}, {"testing.example", "550 5.7.30"}} {
		err := s.submit(mail{startTLS: true, to: []string{"b@" + tt.domain}, header: "TLS-Required: No\r\n", options: &smtp.MailOptions{RequireTLS: true}})
		if reply(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.domain, err, tt.want)
		}
		s.next(i)
	}
	messages := s.mx[0].Messages()
	if len(messages) != 1 || !strings.Contains(messages[0].MailParams, "REQUIRETLS") || !messages[0].TLS {
		t.Errorf("arrived: %+v", messages)
	}
	s.neverInClear()
}
