package tests

import (
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestFaultsOfSTARTTLS: whatever a host does instead of STARTTLS, a sender who
// does not require TLS gets through, over at most one more connection, and one
// who does never says a word in clear.
func TestFaultsOfSTARTTLS(t *testing.T) {
	t.Parallel()
	var faults []fault
	for _, f := range []struct {
		name   string
		host   faultHost
		reason string
	}{
		{"no STARTTLS", faultyClear(mailtest.Behaviour{}), "tls-not-offered"},
		{"STARTTLS taken out of EHLO", faultyTLS(mailtest.Behaviour{HideSTARTTLS: true}), "tls-not-offered"},
		{"HELO only", faultyTLS(mailtest.Behaviour{HELOOnly: true}), "tls-not-offered"},
		{"454", faultyTLS(mailtest.Behaviour{STARTTLSReply: "454 4.7.0 not now"}), "tls-rejected"},
		{"501", faultyTLS(mailtest.Behaviour{STARTTLSReply: "501 5.5.4 no"}), "tls-rejected"},
		{"502", faultyTLS(mailtest.Behaviour{STARTTLSReply: "502 5.5.1 no"}), "tls-rejected"},
		{"554", faultyTLS(mailtest.Behaviour{STARTTLSReply: "554 5.7.3 no"}), "tls-rejected"},
		{"EOF instead of the 220", faultyTLS(mailtest.Behaviour{STARTTLSReply: "eof"}), "tls-handshake"},
		{"reset instead of the 220", faultyTLS(mailtest.Behaviour{STARTTLSReply: "reset"}), "tls-handshake"},
		{"EOF after the 220", faultyTLS(mailtest.Behaviour{Handshake: "eof"}), "tls-handshake"},
		{"garbage", faultyTLS(mailtest.Behaviour{Handshake: "garbage"}), "tls-handshake"},
		{"alert in plaintext", faultyTLS(mailtest.Behaviour{Handshake: "alert"}), "tls-handshake"},
		{"injected reply", faultyTLS(mailtest.Behaviour{Handshake: "inject"}), "tls-handshake"},
		{"old versions only", faultyTLS(mailtest.Behaviour{Handshake: "version"}), "tls-handshake"},
		{"no cipher in common", faultyTLS(mailtest.Behaviour{Handshake: "cipher"}), "tls-handshake"},
		{"alert behind the handshake", faultyTLS(mailtest.Behaviour{Handshake: "alert-after"}), "tls-handshake"},
		{"EOF behind the handshake", faultyTLS(mailtest.Behaviour{Handshake: "eof-after"}), "tls-handshake"},
		{"EOF to the second EHLO", faultyTLS(answering("ehlo-tls", "eof")), "tls-handshake"},
	} {
		faults = append(faults,
			fault{name: f.name, hosts: []faultHost{f.host}, want: "delivered 250", fallback: f.reason},
			fault{name: f.name, hosts: []faultHost{f.host}, strict: true, want: "failed temporary 451 " + f.reason})
	}
	s := startFaults(t, blocks{target: patient}, faults...)
	s.run()
	for i, f := range s.faults {
		connections := s.mx[s.first[i]].Connections()
		if most := 2; connections > most || f.strict && connections != 1 {
			t.Errorf("%s, TLS required %v: %d connections", f.name, f.strict, connections)
		}
	}
}

// TestExtensionsAroundSTARTTLS: what a host announced in clear is worth nothing
// under TLS, however it is written.
func TestExtensionsAroundSTARTTLS(t *testing.T) {
	t.Parallel()
	s := startFaults(t, blocks{target: patient},
		fault{name: "lower-case keywords", strict: true, hosts: []faultHost{faultyTLS(mailtest.Behaviour{
			LowerCaseKeywords: true,
		})}, want: "delivered 250", verified: true},
		// As it should be: RFC 3207, section 4.2.
		fault{name: "STARTTLS missing in the second EHLO", strict: true, hosts: []faultHost{faultyTLS(mailtest.Behaviour{
			ExtensionsTLS: []string{"8BITMIME"},
		})}, want: "delivered 250", verified: true},
		fault{name: "SIZE in clear only", strict: true, hosts: []faultHost{faultyTLS(mailtest.Behaviour{
			ExtensionsClear: []string{"SIZE 5"}, ExtensionsTLS: []string{"PIPELINING"},
		})}, want: "delivered 250", verified: true},
	)
	s.run()
	for i, want := range []string{"BODY=8BITMIME", "BODY=8BITMIME", ""} {
		m := s.mx[s.first[i]].Messages()
		if len(m) != 1 {
			continue // run has said so
		}
		params := m[0].MailParams
		if i == 0 {
			params = params[len(params)-len(want):]
		}
		if params != want {
			t.Errorf("%s: MAIL with %q, want %q", s.faults[i].name, params, want)
		}
	}
}
