package delivery_test

import (
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// TestTable is the table of the contract on real sockets, looking at the wire,
// the status, the attempt and what observers hear.
func TestTable(t *testing.T) {
	t.Parallel()
	type cell struct {
		status      string
		tls         bool
		verified    bool
		connections int
		fallback    tlsplan.Reason
	}
	const (
		defer4, defer5 = "451 4.7.4 ", "451 4.7.5 "
		reject4        = "550 5.7.4 "
	)
	plain := func(connections int, why tlsplan.Reason) cell {
		return cell{status: "delivered", connections: connections, fallback: why}
	}
	fail := func(status string, why tlsplan.Reason) cell {
		return cell{status: status + string(why), connections: 1}
	}
	unverified := func(why tlsplan.Reason) cell {
		return cell{status: "delivered", tls: true, connections: 1, fallback: why}
	}
	verified := cell{status: "delivered", tls: true, verified: true, connections: 1}

	columns := []struct {
		name     string
		settings policy.Settings
	}{
		{"opportunistic verify", policy.Settings{}},
		{"opportunistic verify keep", policy.Settings{Fallback: policy.Unverified}},
		{"opportunistic skip", policy.Settings{SkipVerification: true}},
		{"required verify", policy.Settings{RequireTLS: true}},
		{"required skip", policy.Settings{RequireTLS: true, SkipVerification: true}},
		{"required skip reject", policy.Settings{RequireTLS: true, SkipVerification: true, OnFailure: policy.Reject}},
	}
	rows := []struct {
		name string
		host func(*world, string) mailtest.Behaviour
		want [6]cell
	}{
		{"no STARTTLS", inClear(), [6]cell{
			plain(1, tlsplan.TLSNotOffered), plain(1, tlsplan.TLSNotOffered), plain(1, tlsplan.TLSNotOffered),
			fail(defer4, tlsplan.TLSNotOffered), fail(defer4, tlsplan.TLSNotOffered), fail(reject4, tlsplan.TLSNotOffered),
		}},
		{"STARTTLS 454", good(func(b *mailtest.Behaviour) { b.STARTTLSReply = "454 4.7.0 not now" }), [6]cell{
			plain(1, tlsplan.TLSRejected), plain(1, tlsplan.TLSRejected), plain(1, tlsplan.TLSRejected),
			fail(defer4, tlsplan.TLSRejected), fail(defer4, tlsplan.TLSRejected), fail(reject4, tlsplan.TLSRejected),
		}},
		{"garbage in the handshake", good(func(b *mailtest.Behaviour) { b.Handshake = "garbage" }), [6]cell{
			plain(2, tlsplan.TLSHandshake), plain(2, tlsplan.TLSHandshake), plain(2, tlsplan.TLSHandshake),
			fail(defer5, tlsplan.TLSHandshake), fail(defer5, tlsplan.TLSHandshake), fail("550 5.7.5 ", tlsplan.TLSHandshake),
		}},
		{"expired certificate", withCert(mailtest.Expired), [6]cell{
			plain(2, tlsplan.CertificateExpired), unverified(tlsplan.CertificateExpired), unverified(""),
			fail(defer5, tlsplan.CertificateExpired), unverified(""), unverified(""),
		}},
		{"good certificate", good(), [6]cell{verified, verified, verified, verified, verified, verified}},
	}
	for _, row := range rows {
		for i, col := range columns {
			t.Run(row.name+"/"+col.name, func(t *testing.T) {
				t.Parallel()
				want := row.want[i]
				w := newWorld(t, settings(col.settings), row.host)
				if got := code(w.sendOne()); got != want.status {
					t.Errorf("status %q, want %q", got, want.status)
				}
				if n := w.mx[0].Connections(); n != want.connections {
					t.Errorf("%d connections, want %d", n, want.connections)
				}
				a := w.last()
				messages := w.mx[0].Messages()
				if delivered := want.status == "delivered"; delivered {
					if len(messages) != 1 || messages[0].TLS != want.tls {
						t.Fatalf("messages %+v, want one with TLS %v", messages, want.tls)
					}
					if a.Result != "delivered" || a.Code != 250 {
						t.Errorf("attempt %+v", a)
					}
				} else if len(messages) != 0 {
					t.Errorf("a refused message arrived: %+v", messages)
				}
				if a.Connection == nil || a.Connection.Outcome.TLS != want.tls || a.Connection.Outcome.Verified() != want.verified {
					t.Errorf("connection %+v, want TLS %v verified %v", a.Connection, want.tls, want.verified)
				}
				if a.Fallback != want.fallback {
					t.Errorf("fallback %q, want %q", a.Fallback, want.fallback)
				}
				if strings.Contains(row.name, "certificate") != (a.Connection.Outcome.Certificate != nil) {
					t.Errorf("certificate %+v", a.Connection.Outcome.Certificate)
				}
				if col.settings.RequireTLS {
					w.neverInClear()
				}
				w.checkTroubles(row.name, want.status == "delivered")
			})
		}
	}
}

// checkTroubles: a host that is not perfect is counted once, as enforced
// exactly if it kept the message from going.
func (w *world) checkTroubles(row string, delivered bool) {
	w.Helper()
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	if row == "good certificate" {
		if len(w.rec.troubles) != 0 {
			w.Errorf("troubles %+v with a good host", w.rec.troubles)
		}
		return
	}
	if len(w.rec.troubles) != 1 || w.rec.troubles[0].Enforced == delivered {
		w.Errorf("troubles %+v, delivered %v", w.rec.troubles, delivered)
	}
}

// TestTLSFaults is every way in which TLS can be wrong, against the strictest
// and the most lenient sender.
func TestTLSFaults(t *testing.T) {
	t.Parallel()
	handshake := func(how string) func(*world, string) mailtest.Behaviour {
		return good(func(b *mailtest.Behaviour) { b.Handshake = how })
	}
	starttls := func(text string) func(*world, string) mailtest.Behaviour {
		return good(func(b *mailtest.Behaviour) { b.STARTTLSReply = text })
	}
	tests := []struct {
		name    string
		host    func(*world, string) mailtest.Behaviour
		reason  tlsplan.Reason
		lenient string // status of an opportunistic sender, if not "delivered"
	}{
		{"hidden STARTTLS", good(func(b *mailtest.Behaviour) { b.HideSTARTTLS = true }), tlsplan.TLSNotOffered, ""},
		{"454", starttls("454 4.7.0 no"), tlsplan.TLSRejected, ""},
		{"501", starttls("501 5.5.4 no"), tlsplan.TLSRejected, ""},
		{"502", starttls("502 5.5.1 no"), tlsplan.TLSRejected, ""},
		{"554", starttls("554 5.7.3 no"), tlsplan.TLSRejected, ""},
		{"EOF instead of the reply to STARTTLS", starttls("eof"), tlsplan.TLSHandshake, ""},
		{"EOF after the 220", handshake("eof"), tlsplan.TLSHandshake, ""},
		{"garbage", handshake("garbage"), tlsplan.TLSHandshake, ""},
		{"plaintext alert", handshake("alert"), tlsplan.TLSHandshake, ""},
		{"injected reply", handshake("inject"), tlsplan.TLSHandshake, ""},
		{"old version", handshake("version"), tlsplan.TLSHandshake, ""},
		{"no common cipher", handshake("cipher"), tlsplan.TLSHandshake, ""},
		{"alert behind the handshake", handshake("alert-after"), tlsplan.TLSHandshake, ""},
		{"EOF behind the handshake", handshake("eof-after"), tlsplan.TLSHandshake, ""},
		{"421 to STARTTLS", starttls("421 4.3.2 bye"), tlsplan.Connect, "421 4.3.2 connect"},
		{"self-signed", withCert(mailtest.SelfSigned), tlsplan.CertificateUntrusted, ""},
		{"expired", withCert(mailtest.Expired), tlsplan.CertificateExpired, ""},
		{"not yet valid", withCert(mailtest.NotYetValid), tlsplan.CertificateNotYetValid, ""},
		{"wrong name", withCert(mailtest.WrongName), tlsplan.CertificateNameMismatch, ""},
		{"unknown CA", withCert(mailtest.UnknownCA), tlsplan.CertificateUntrusted, ""},
		{"missing intermediate", withCert(mailtest.MissingIntermediate), tlsplan.CertificateUntrusted, ""},
		{"wrong usage", withCert(mailtest.WrongUsage), tlsplan.CertificateInvalid, ""},
		{"IP only", withCert(mailtest.IPOnly), tlsplan.CertificateNameMismatch, ""},
		{"CN only", withCert(mailtest.CNOnly), tlsplan.CertificateNameMismatch, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, settings(policy.Settings{RequireTLS: true}), tt.host)
			f := w.sendOne()
			if f == nil || f.Reason != tt.reason || !f.Temporary() {
				t.Errorf("required: %s, want a temporary %s", code(f), tt.reason)
			}
			w.neverInClear()
			if n := w.mx[0].Connections(); n != 1 {
				t.Errorf("required: %d connections", n)
			}

			w = newWorld(t, nil, tt.host)
			want := tt.lenient
			if want == "" {
				want = "delivered"
			}
			if got := code(w.sendOne()); got != want {
				t.Errorf("opportunistic: %s, want %s", got, want)
			}
			if a := w.last(); want == "delivered" && (a.Fallback != tt.reason || a.Connection.Outcome.TLS) {
				t.Errorf("opportunistic: fallback %q on %+v, want %q in clear", a.Fallback, a.Connection, tt.reason)
			}
			if n := w.mx[0].Connections(); n > 2 {
				t.Errorf("opportunistic: %d connections, want two at most", n)
			}
		})
	}
}

// TestSNI: a host that shows its default certificate to whoever sends no name
// is asked by name.
func TestSNI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings(policy.Settings{RequireTLS: true}), func(w *world, host string) mailtest.Behaviour {
		b := good()(w, host)
		other, err := w.ca.Issue(mailtest.Good, "default.invalid")
		if err != nil {
			w.Fatal(err)
		}
		b.NoSNICertificate = &other
		return b
	})
	if f := w.sendOne(); f != nil {
		t.Error(f)
	}
	if s := w.mx[0].Sessions()[0]; s.SNI != hostName(0) {
		t.Errorf("SNI %q", s.SNI)
	}
}

// TestSecondEHLOReplacesTheFirst: what was announced in clear is worth nothing,
// and STARTTLS missing from the second reply is as it should be.
func TestSecondEHLOReplacesTheFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings(policy.Settings{RequireTLS: true}), good(func(b *mailtest.Behaviour) {
		b.ExtensionsClear = []string{"PIPELINING", "SIZE 5", "SMTPUTF8"}
		b.ExtensionsTLS = []string{"8BITMIME"}
		b.LowerCaseKeywords = true
	}))
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}
	if m := w.mx[0].Messages()[0]; !m.TLS || !strings.Contains(m.MailParams, "8BITMIME") || strings.Contains(m.MailParams, "SIZE") {
		t.Errorf("MAIL parameters %q", m.MailParams)
	}
}
