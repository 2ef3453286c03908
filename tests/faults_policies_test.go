package tests

import (
	"bytes"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// TestRecipientsWithDifferentPolicies: recipients of one message at one host,
// of whom one may not be served in clear: the others are, and of that one not
// even the address crosses the socket.
func TestRecipientsWithDifferentPolicies(t *testing.T) {
	t.Parallel()
	for _, door := range []string{atTarget, atQueue} {
		t.Run(door, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, mailtest.Behaviour{})
			s.dns.MX("strict.example", 10, host(0))
			s.dns.MX("rejecting.example", 10, host(0))
			s.config(blocks{endpoints: twoDoors, policy: `
destination strict.example {
    require_tls yes
}
destination rejecting.example {
    require_tls yes
    on_failure reject
}`})
			s.start()
			err := s.submit(mail{to: []string{"guarded@strict.example", "b@example.net", "kept@rejecting.example"}, anonymous: true, port: door})
			if code := smtpCode(t, err); (door == atTarget) != (code == 451) || (door == atQueue) != (code == 250) {
				t.Errorf("the client heard %v", err)
			}
			want := map[string]string{
				"guarded@strict.example": "failed temporary 451 tls-not-offered",
				"kept@rejecting.example": "failed permanent 550 tls-not-offered",
				"b@example.net":          "delivered 250",
			}
			docs := s.documents(3)
			for _, d := range docs {
				if d.status() != want[d["recipient"].(string)] {
					t.Errorf("document %v", d)
				}
				delete(want, d["recipient"].(string))
			}
			if len(docs) != 3 || len(want) != 0 {
				t.Errorf("%d documents, none for %v", len(docs), want)
			}
			if m := s.mx[0].Messages(); len(m) != 1 || !slices.Equal(m[0].Recipients, []string{"b@example.net"}) {
				t.Errorf("arrived %+v", m)
			}
			for _, session := range s.mx[0].Sessions() {
				if bytes.Contains(session.ClearBytes, []byte("guarded")) || bytes.Contains(session.ClearBytes, []byte("kept")) {
					t.Errorf("in clear: %q", session.ClearBytes)
				}
			}
		})
	}
}

// TestPolicyChangesUnderIdleConnections: when a domain begins to require TLS, an
// idle connection in clear is of no use to it, however good it was before.
func TestPolicyChangesUnderIdleConnections(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b := certificate(t, ca, mailtest.Good, host(0))
	b.HideSTARTTLS = true
	s := newServerCA(t, ca, b)
	// A table is read again when its file has been left alone for a while.
	table := func(row string) {
		old := time.Now().Add(-time.Minute)
		if err := os.WriteFile(s.path("domains"), []byte(row+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(s.path("domains"), old, old); err != nil {
			t.Fatal(err)
		}
	}
	table("example.com: require_tls=no")
	s.config(blocks{endpoints: twoDoors, policy: "domains file {dir}/domains"})
	s.start()
	m := mail{from: "a@example.com", anonymous: true, port: atTarget}
	s.mustSubmit(m)
	if d := s.lastDocument(1); d.get("delivery-status.tls") != false {
		t.Fatalf("document %v", d)
	}
	s.idle(1)

	b.HideSTARTTLS = false
	s.mx[0].Set(b)
	table("example.com: require_tls=yes")
	n := 1
	s.eventually("the new row is read", func() bool {
		s.signal(syscall.SIGUSR2)
		n++
		s.mustSubmit(m)
		d := s.lastDocument(n)
		required := d.get("tls-policy.require-tls") == true
		if d.get("delivery-status.tls") != required || d.get("delivery-status.connection-reused") == required {
			t.Errorf("document %v", d)
		}
		if !required {
			s.idle(1)
		}
		return required
	})
	messages := s.mx[0].Messages()
	if last := messages[len(messages)-1]; len(messages) != n || !last.TLS || last.Connection != 2 {
		t.Errorf("%d messages, the last %+v", len(messages), last)
	}
}
