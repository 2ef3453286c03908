package tests

import (
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// The endpoints of the strangers' server.
const (
	noCheck      = "2525" // nobody thought of the check
	checked      = "2526" // with the check as it comes: allow authenticated
	allowAll     = "2527"
	allowNone    = "2528"
	authSubmit   = "2587" // clients log in, allow authenticated
	refusedField = "554 5.6.0"
)

// strangersServer has one endpoint for each way to use the check, and three
// senders' domains: plain has no settings, strict requires verified TLS, lax
// skips verification.
func strangersServer(t *testing.T, host mailtest.Behaviour) *server {
	t.Helper()
	s := newServer(t, host)
	check := func(allow string) string {
		return "check {\ntls_override { policy &outbound_policy\n" + allow + "\n}\n}"
	}
	s.config(blocks{
		policy: `
domain strict.example { require_tls yes
skip_verification no
}
domain lax.example { skip_verification yes
}`,
		endpoints: anyoneDirect("smtp", "") + anyoneDirect("smtp2", check("")) +
			anyoneDirect("smtp3", check("allow all")) + anyoneDirect("smtp4", check("allow none")) +
			`submission tcp://{ip}:{submission} {
hostname relay.example.com
tls off
insecure_auth yes
auth pass_table static {
entry ` + user + ` "bcrypt:` + passwordHash() + `"
}
` + check("allow authenticated") + `
deliver_to &outbound
}`})
	s.start()
	return s
}

// TestStrangersHeader: what a header may do to a message depends on who hands it
// in. From a stranger it makes delivery stricter, never weaker, whatever check
// the operator forgot.
func TestStrangersHeader(t *testing.T) {
	t.Parallel()
	s := strangersServer(t, mailtest.Behaviour{})
	const (
		skip      = "X-Skip-Verification: yes\r\n"
		lift      = "X-Require-TLS: no\r\n"
		require   = "X-Require-TLS: yes\r\n"
		verify    = "X-Skip-Verification: no\r\n"
		nonsense  = "X-Require-TLS: perhaps\r\n"
		forgery   = "TLS-Override: v=1; require-tls=no; skip-verification=yes; id=x; mac=0000000000000000000000000000000000000000000000000000000000000000\r\n"
		noStamp   = "TLS-Override: please\r\n"
		other     = "X-Mailgun-Require-TLS: yes\r\nX-Mailgun-Skip-Verification: no\r\n"
		otherLift = "X-Mailgun-Require-TLS: off\r\nX-Mailgun-Skip-Verification: 1\r\n"
	)
	strangers := []string{noCheck, checked, allowNone}
	friends := []string{allowAll, authSubmit}
	everybody := append(append([]string{}, strangers...), friends...)
	n := 0
	for _, tt := range []struct {
		name   string
		ports  []string
		from   string
		header string
		want   string // settings of the document, or the refusal
	}{
		{"no field", everybody, "plain", "", "no default, no default"},
		{"skip", strangers, "plain", skip, "no default, no default"},
		{"skip", friends, "plain", skip, "no default, yes message"},
		{"lift", strangers, "strict", lift, "yes domain, no domain"},
		{"lift", friends, "strict", lift, "no message, no domain"},
		{"lift and skip", strangers, "strict", lift + skip, "yes domain, no domain"},
		{"lift and skip", friends, "strict", lift + skip, "no message, yes message"},
		{"lift and skip in the other names", strangers, "strict", otherLift, "yes domain, no domain"},
		{"lift and skip in the other names", friends, "strict", otherLift, "no message, yes message"},
		{"require", everybody, "plain", require, "yes message, no default"},
		{"verify", everybody, "lax", verify, "no default, no message"},
		{"both in the other names", everybody, "lax", other, "yes message, no message"},
		{"require and skip", strangers, "plain", require + skip, "yes message, no default"},
		{"require and skip", friends, "plain", require + skip, "yes message, yes message"},
		{"odd case", everybody, "lax", "x-rEQUIRE-tls: YES\r\nX-SKIP-verification: False\r\n", "yes message, no message"},
		{"odd case", strangers, "strict", "x-sKIP-verification: TRUE\r\n", "yes domain, no domain"},
		{"folded", everybody, "lax", "X-Require-TLS:\r\n\ttrue\r\nX-Skip-Verification:  \r\n  \r\n off \r\n", "yes message, no message"},
		{"folded", strangers, "strict", "X-Require-TLS:\r\n no\r\n", "yes domain, no domain"},
		{"the same twice", everybody, "plain", require + "X-Require-TLS: 1\r\nX-Mailgun-Require-TLS: on\r\n", "yes message, no default"},
		{"nonsense", strangers, "plain", nonsense, "no default, no default"},
		{"nonsense", strangers, "strict", nonsense, "yes domain, no domain"},
		{"nonsense", friends, "plain", nonsense, refusedField + " X-Require-TLS"},
		{"empty", strangers, "plain", "X-Skip-Verification:\r\n", "no default, no default"},
		{"empty", friends, "plain", "X-Skip-Verification:\r\n", refusedField + " X-Skip-Verification"},
		{"nonsense beside sense", friends, "plain", require + "X-Mailgun-Skip-Verification: yes, please\r\n", refusedField + " X-Mailgun-Skip-Verification"},
		{"nonsense beside sense", strangers, "plain", require + nonsense, "yes message, no default"},
		{"contradiction", friends, "plain", require + lift, refusedField + " X-Require-TLS"},
		{"contradiction in two names", friends, "plain", skip + "X-Mailgun-Skip-Verification: no\r\n", refusedField + " Skip-Verification"},
		{"contradiction", strangers, "lax", require + lift + skip + verify, "yes message, no message"},
		{"a stamp of the client's own", everybody, "strict", forgery, "yes domain, no domain"},
		{"a stamp of the client's own", everybody, "plain", forgery + noStamp, "no default, no default"},
		{"a stamp besides a tightening field", everybody, "plain", forgery + require, "yes message, no default"},
		{"a stamp besides a loosening field", strangers, "plain", forgery + skip, "no default, no default"},
		{"a stamp besides a loosening field", friends, "plain", forgery + skip + noStamp, "no default, yes message"},
	} {
		for _, port := range tt.ports {
			t.Run(tt.name+" from "+tt.from+" on "+port, func(t *testing.T) {
				s := s.in(t)
				err := s.submit(mail{port: port, anonymous: port != authSubmit, from: "a@" + tt.from + ".example", header: tt.header})
				if strings.HasPrefix(tt.want, refusedField) {
					checkRefusal(t, err, strings.TrimPrefix(tt.want, refusedField+" "))
					if docs := s.readLog(); len(docs) != n {
						t.Errorf("a message refused at the door was tried: %v", docs[n:])
					}
					return
				}
				n++
				if got := s.next(n - 1).settings(); got != tt.want {
					t.Errorf("%s, want %s (%v)", got, tt.want, err)
				}
				if want := map[bool]string{true: "451 4.7.4", false: "accepted"}[strings.HasPrefix(tt.want, "yes")]; reply(err) != want {
					t.Errorf("status %v, want %s", err, want)
				}
			})
		}
	}
	for _, m := range s.mx[0].Messages() {
		stripped(t, m)
	}
	if s.mx[0].Delivered() == 0 {
		t.Error("nothing arrived")
	}
}

// checkRefusal: 554 5.6.0 with the name of the field, in one line.
func checkRefusal(t *testing.T, err error, field string) {
	t.Helper()
	var se *smtp.SMTPError
	if !errors.As(err, &se) || reply(err) != refusedField || !strings.Contains(se.Message, field) || strings.Contains(se.Message, "\n") {
		t.Errorf("%v, want %s naming %s", err, refusedField, field)
	}
}

// TestForgedStampIsLogged: a stamp that does not check out counts as absent, and
// the log says so without letting it write lines of its own.
func TestForgedStampIsLogged(t *testing.T) {
	t.Parallel()
	s := strangersServer(t, mailtest.Behaviour{})
	if err := s.submit(mail{port: noCheck, anonymous: true, header: "TLS-Override: v=1; skip-verification=yes; id=\x1b[31mred; mac=zz\r\n"}); err != nil {
		t.Fatal(err)
	}
	s.documents(1)
	s.eventually("a line about the stamp", func() bool { return strings.Contains(s.stderr.String(), "stamp does not check out") })
	if log := s.stderr.String(); strings.Contains(log, "\x1b") {
		t.Errorf("control characters in the log: %q", log)
	}
}

// TestFieldsNeverLeave: override fields and stamps stop at the relay, in clear and
// under TLS, whoever wrote them in whatever form; TLS-Required goes on, and so
// does a field that only looks similar.
func TestFieldsNeverLeave(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]mailtest.Behaviour{
		"in clear": {}, "under TLS": certificate(t, ca, mailtest.SelfSigned, host(0)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := strangersServer(t, b)
			for i, port := range []string{noCheck, checked, allowAll, allowNone, authSubmit} {
				if err := s.submit(mail{port: port, anonymous: port != authSubmit, from: "a@lax.example",
					header: "x-skip-verification: Yes\r\nX-MAILGUN-SKIP-VERIFICATION:\r\n yes\r\n" +
						"X-Skip-Verification: yes\r\ntls-OVERRIDE: v=1; mac=00\r\nTLS-Override: x\r\nTLS-Required: No\r\n" +
						"X-Skip-Verification-Note: stays\r\nX-Mailgun-Tag: stays\r\n"}); err != nil {
					t.Fatalf("port %s: %v", port, err)
				}
				s.next(i)
				m := s.mx[0].Messages()[i]
				if m.TLS != (name == "under TLS") {
					t.Errorf("port %s: TLS %v", port, m.TLS)
				}
				stripped(t, m)
				h := headerOf(t, m)
				for _, want := range []string{"TLS-Required: No", "X-Skip-Verification-Note: stays", "X-Mailgun-Tag: stays"} {
					name, value, _ := strings.Cut(want, ": ")
					if got := h.Values(name); len(got) != 1 || got[0] != value {
						t.Errorf("port %s: %s %q", port, name, got)
					}
				}
				if strings.Contains(strings.ToLower(string(m.Data)), "override") {
					t.Errorf("port %s: a stamp in\n%s", port, m.Data)
				}
			}
		})
	}
}

// TestFieldsStayFields: a CR in a field of a header is no line end: it makes
// no fields of its own, which nobody looked at, and does not end the header.
func TestFieldsStayFields(t *testing.T) {
	t.Parallel()
	s := strangersServer(t, mailtest.Behaviour{})
	for i, port := range []string{noCheck, checked, authSubmit} {
		if err := s.submit(mail{port: port, anonymous: port != authSubmit, from: "a@plain.example",
			header: "X-A: 1\rX-Require-TLS: yes\r\nX-B: 1\rFrom: ceo@bank.example\r\nX-C: 1\r\rInjected\r\nX-D: 1\r\r\n\t2\r\n"}); err != nil {
			t.Fatalf("port %s: %v", port, err)
		}
		s.next(i)
		m := s.mx[0].Messages()[i]
		stripped(t, m)
		h := headerOf(t, m)
		for name, want := range map[string]string{"X-A": "1 X-Require-TLS: yes", "X-B": "1 From: ceo@bank.example", "X-C": "1  Injected", "X-D": "1 2"} {
			if got := h.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("port %s: %s %q, want %q", port, name, got, want)
			}
		}
		if n := len(h.Values("From")); n != 1 {
			t.Errorf("port %s: %d From fields", port, n)
		}
	}
}

// TestRenamedFields: with names of the operator's own, the default ones are fields
// like any other.
func TestRenamedFields(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{policy: "require_tls_header X-Secure\nskip_verification_header X-Sloppy X-Lenient"})
	s.start()
	s.mustSubmit(mail{header: "X-Sloppy: yes\r\nX-Require-TLS: yes\r\nX-Skip-Verification: garbage\r\n"})
	if got := s.next(0).settings(); got != "no default, yes message" {
		t.Error(got)
	}
	h := headerOf(t, s.mx[0].Messages()[0])
	if h.Has("X-Sloppy") || h.Has("TLS-Override") || h.Get("X-Require-TLS") != "yes" || h.Get("X-Skip-Verification") != "garbage" {
		t.Errorf("arrived with\n%s", s.mx[0].Messages()[0].Data)
	}
	checkRefusal(t, s.submit(mail{header: "X-Lenient: maybe\r\n"}), "X-Lenient")
}
