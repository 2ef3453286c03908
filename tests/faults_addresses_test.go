package tests

import (
	"slices"
	"testing"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// TestInternationalAddresses: domains and hosts in any script are found and
// verified; a host without SMTPUTF8 gets what can be written without it.
func TestInternationalAddresses(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	const idnHost = "mx.xn--bcher-kva.example"
	ascii := []string{"PIPELINING", "8BITMIME", "CHUNKING"}
	knows := certificate(t, ca, mailtest.Good, "mx.bücher.example", host(0))
	lacks := certificate(t, ca, mailtest.Good, host(1))
	lacks.ExtensionsClear, lacks.ExtensionsTLS = ascii, ascii
	s := newServerCA(t, ca, knows, lacks)
	s.dns.A(idnHost, s.mx[0].IP())
	s.dns.MX("xn--bcher-kva.example", 10, idnHost)
	s.dns.MX("idnhost.example", 10, idnHost)
	s.dns.MX("knows.example", 10, host(0))
	s.dns.MX("lacks.example", 10, host(1))
	s.dns.MX("xn--strae-oqa.example", 10, host(1))
	s.config(blocks{endpoints: twoDoors, policy: "require_tls yes"})
	s.start()
	delivered, known := 0, 0
	for _, tt := range []struct {
		name, from, to string
		want, code     string // status of the document, enhanced code
		host           int
		arrived        string
		utf8           bool
	}{
		{"domain", "a@example.com", "b@bücher.example", "delivered 250", "2.0.0", 0, "b@bücher.example", true},
		{"domain in A-labels", "a@example.com", "b@xn--bcher-kva.example", "delivered 250", "2.0.0", 0, "b@bücher.example", true},
		{"domain, no SMTPUTF8", "a@example.com", "b@straße.example", "delivered 250", "2.0.0", 1, "b@xn--strae-oqa.example", false},
		{"name of the host", "a@example.com", "b@idnhost.example", "delivered 250", "2.0.0", 0, "b@idnhost.example", true},
		{"local part", "a@example.com", "бюро@knows.example", "delivered 250", "2.0.0", 0, "бюро@knows.example", true},
		{"local part, no SMTPUTF8", "a@example.com", "бюро@lacks.example", "failed permanent 550 rcpt-rejected", "5.6.7", 1, "", false},
		{"sender", "ä@example.com", "b@knows.example", "delivered 250", "2.0.0", 0, "b@knows.example", true},
		{"sender, no SMTPUTF8", "ä@example.com", "b@lacks.example", "failed permanent 550 mail-rejected", "5.6.7", 1, "", false},
	} {
		err := s.submit(mail{from: tt.from, to: []string{tt.to}, options: &smtp.MailOptions{UTF8: true}, anonymous: true, port: atTarget})
		if (err == nil) != (tt.arrived != "") {
			t.Errorf("%s: %v", tt.name, err)
		}
		known++
		d := s.lastDocument(known)
		if d.status() != tt.want || d.get("delivery-status.enhanced-code") != tt.code || d.get("delivery-status.utf8") != tt.utf8 {
			t.Errorf("%s: document %v, want %q", tt.name, d, tt.want)
		}
		if tt.arrived == "" {
			continue
		}
		delivered++
		m := s.mx[tt.host].Messages()
		if len(m) == 0 || !slices.Equal(m[len(m)-1].Recipients, []string{tt.arrived}) {
			t.Errorf("%s: arrived %+v, want %s", tt.name, m, tt.arrived)
		}
	}
	if n := len(s.mx[0].Messages()) + len(s.mx[1].Messages()); n != delivered {
		t.Errorf("%d messages arrived, want %d", n, delivered)
	}
	s.neverInClear()
}

// TestOneRecipientManySpellings: a recipient named several times gets one copy,
// however the domain was spelt, and one document; the local part is the
// business of the host.
func TestOneRecipientManySpellings(t *testing.T) {
	t.Parallel()
	for _, door := range []string{atTarget, atQueue} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, mailtest.Behaviour{})
			s.dns.MX("xn--bcher-kva.example", 10, host(0))
			s.config(blocks{endpoints: twoDoors})
			s.start()
			s.mustSubmit(mail{to: []string{
				"b@example.net", "b@example.net", "b@EXAMPLE.net", "B@Example.Net",
				"c@bücher.example", "c@xn--bcher-kva.example", "c@XN--BCHER-KVA.example", "c@BÜCHER.example",
			}, options: &smtp.MailOptions{UTF8: true}, anonymous: true, port: door})
			docs := s.documents(3)
			var told, got []string
			for _, d := range docs {
				told = append(told, d["recipient"].(string))
				if d.status() != "delivered 250" {
					t.Errorf("document %v", d)
				}
			}
			for _, m := range s.mx[0].Messages() {
				got = append(got, m.Recipients...)
			}
			want := []string{"B@example.net", "b@example.net", "c@bücher.example"}
			slices.Sort(told)
			slices.Sort(got)
			if !slices.Equal(told, want) || !slices.Equal(got, want) {
				t.Errorf("documents for %q, arrived %q, want %q", told, got, want)
			}
		})
	}
}
