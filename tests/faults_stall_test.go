package tests

import (
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestFaultsOfSilence: a host that says nothing more, at whatever step, costs
// its own recipients a later attempt, and nobody else anything.
func TestFaultsOfSilence(t *testing.T) {
	t.Parallel()
	const timeout = "failed temporary 451 timeout"
	plain := func(b mailtest.Behaviour) mailtest.Behaviour {
		b.ExtensionsClear = []string{"SIZE 0"}
		return b
	}
	large := mail{body: "a secret body\r\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 120_000)}
	stall := func(name, step string, want string) fault {
		return fault{name: name, hosts: []faultHost{faultyTLS(answering(step, "stall"))}, strict: true, want: want}
	}
	s := startFaults(t, blocks{target: impatient},
		stall("greeting", "greeting", timeout),
		stall("EHLO", "ehlo", timeout),
		fault{name: "answer to STARTTLS", hosts: []faultHost{faultyTLS(mailtest.Behaviour{STARTTLSReply: "stall"})},
			want: "delivered 250", fallback: "tls-handshake"},
		fault{name: "answer to STARTTLS", hosts: []faultHost{faultyTLS(mailtest.Behaviour{STARTTLSReply: "stall"})},
			strict: true, want: "failed temporary 451 tls-handshake"},
		fault{name: "handshake", hosts: []faultHost{faultyTLS(mailtest.Behaviour{Handshake: "stall"})},
			want: "delivered 250", fallback: "tls-handshake"},
		fault{name: "handshake", hosts: []faultHost{faultyTLS(mailtest.Behaviour{Handshake: "stall"})},
			strict: true, want: "failed temporary 451 tls-handshake"},
		stall("second EHLO", "ehlo-tls", timeout),
		stall("MAIL", "mail", timeout),
		stall("RCPT", "rcpt", timeout),
		stall("final reply", "body", timeout),
		// Without PIPELINING and CHUNKING each step waits by itself.
		fault{name: "MAIL alone", hosts: []faultHost{faultyClear(plain(answering("mail", "stall")))}, want: timeout},
		fault{name: "RCPT alone", hosts: []faultHost{faultyClear(plain(answering("rcpt", "stall")))}, want: timeout},
		fault{name: "DATA", hosts: []faultHost{faultyClear(plain(answering("data", "stall")))}, want: timeout},
		fault{name: "final dot", hosts: []faultHost{faultyClear(plain(answering("body", "stall")))}, want: timeout},
		fault{name: "body", mail: large, hosts: []faultHost{faultyClear(plain(mailtest.Behaviour{StallInBody: 10_000}))}, want: timeout},
		fault{name: "chunk", mail: large, hosts: []faultHost{faultyClear(mailtest.Behaviour{StallInBody: 10_000})}, want: timeout},
		// Nobody waits for what comes behind the result.
		fault{name: "QUIT", strict: true, hosts: []faultHost{faultyClear(answering("quit", "stall"))},
			want: "failed temporary 451 tls-not-offered"},
		// The next host does not suffer.
		fault{name: "first of two hosts", strict: true, hosts: []faultHost{
			faultyTLS(answering("mail", "stall")), faultyTLS(mailtest.Behaviour{}),
		}, want: "delivered 250", verified: true},
	)
	s.run()
}

// TestSilenceAfterRSET: a host that refuses a message and then does not answer
// RSET is not waited for, neither by the sender of that message nor by the next.
func TestSilenceAfterRSET(t *testing.T) {
	t.Parallel()
	b := answering("rset", "stall")
	b.ExtensionsTLS = []string{"PIPELINING"} // a refused chunk would end the session
	b.RejectRcpt = map[string]string{"no@d1.strict.example": "550 5.1.1 nobody"}
	s := startFaults(t, blocks{target: patient}, fault{strict: true, hosts: []faultHost{faultyTLS(b)}})
	s.deliver(mail{to: []string{"no@d1.strict.example"}}, 550)
	s.eventually("RSET is sent", func() bool {
		return slices.Contains(s.mx[0].Sessions()[0].Commands, "T: RSET")
	})
	s.deliver(mail{to: []string{"yes@d1.strict.example"}}, 250)
	if d := s.documentOf("yes@d1.strict.example"); d.get("delivery-status.connection-reused") != false {
		t.Errorf("document %v", d)
	}
	s.unharmed()
}
