package tests

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"tlscontrol/internal/mailtest"
)

// TestFaultsOfReplies: a host that hangs up, goes away or talks nonsense, at
// whatever step, costs a later attempt; only a proper 5xx is for good.
func TestFaultsOfReplies(t *testing.T) {
	t.Parallel()
	const lost = "failed temporary 451 connection-lost"
	// Without PIPELINING and CHUNKING, so that each step is answered by itself.
	at := func(step, reply string) faultHost {
		b := answering(step, reply)
		b.ExtensionsClear = []string{"8BITMIME"}
		return faultyClear(b)
	}
	var faults []fault
	row := func(name string, host faultHost, want string) {
		faults = append(faults, fault{name: name, hosts: []faultHost{host}, want: want})
	}
	for _, how := range []string{"eof", "reset", "endless", "longline", "invalid"} {
		for _, step := range []string{"greeting", "ehlo", "mail", "rcpt", "data", "body"} {
			row(how+" at "+step, at(step, how), lost)
		}
		row(how+" in one flight", faultyTLS(answering("rcpt", how)), lost)
		row(how+" at the last chunk", faultyTLS(answering("body", how)), lost)
	}
	for i, f := range faults {
		// A host that takes the message and does not say so in an SMTP reply gets it
		// again: twice is better than never.
		faults[i].replyLost = f.name == "longline at body" || f.name == "longline in one flight" || f.name == "longline at the last chunk"
		if f.name == "reset at greeting" {
			faults[i].or = "failed temporary 451 connect" // if it comes early enough
		}
		faults[i].tls = strings.Contains(f.name, "flight") || strings.Contains(f.name, "chunk")
	}
	for step, reason := range map[string]string{
		"greeting": "connect", "ehlo": "connect", "mail": "mail-rejected", "rcpt": "rcpt-rejected",
		"data": "data-rejected", "body": "data-rejected",
	} {
		row("421 to "+step, at(step, "421 4.3.2 going away"), "failed temporary 421 "+reason)
		if step == "ehlo" {
			faults = append(faults, fault{name: "554 to ehlo", hosts: []faultHost{at(step, "554 5.7.0 no")}, // HELO does
				want: "delivered 250", fallback: "tls-not-offered"})
			continue
		}
		row("554 to "+step, at(step, "554 5.7.0 no"), "failed permanent 554 "+reason)
	}
	for step, reason := range map[string]string{"mail": "mail-rejected", "rcpt": "rcpt-rejected", "body": "data-rejected"} {
		row("421 to "+step+" in one flight", faultyTLS(answering(step, "421 4.3.2 going away")), "failed temporary 421 "+reason)
		row("450 to "+step+" in one flight", faultyTLS(answering(step, "450 4.2.0 later")), "failed temporary 450 "+reason)
	}
	row("421 to STARTTLS", faultyTLS(mailtest.Behaviour{STARTTLSReply: "421 4.3.2 going away"}), "failed temporary 421 connect")
	row("552 5.3.4 to RCPT", at("rcpt", "552 5.3.4 too big"), "failed permanent 552 message-too-large")
	row("reset in the body", faultyTLS(mailtest.Behaviour{ResetInBody: 10}), lost)
	faults = append(faults,
		// RFC 5321, section 4.5.3.1.10: the words of old servers for 452.
		fault{name: "552 to RCPT", hosts: []faultHost{at("rcpt", "552 too many recipients")},
			want: "failed temporary 552 rcpt-rejected", client: 452},
		fault{name: "250 to DATA", hosts: []faultHost{at("data", "250 go ahead")}, want: "failed temporary 451 connection-lost", client: 451},
		// Slow is not wrong.
		fault{name: "byte by byte", strict: true, hosts: []faultHost{faultyTLS(mailtest.Behaviour{Replies: map[string]string{
			"greeting": "dribble", "ehlo": "dribble", "mail": "dribble", "rcpt": "dribble", "body": "dribble",
		}})}, want: "delivered 250", verified: true},
		fault{name: "250 then reset", hosts: []faultHost{faultyTLS(answering("body", "ok-reset"))}, want: "delivered 250", verified: true},
		fault{name: "control characters in a 250", hosts: []faultHost{faultyTLS(answering("body", "control"))}, want: "delivered 250", verified: true},
	)
	startFaults(t, blocks{target: patient}, faults...).run()
}

// TestRepliesForgeNothing: what a host says stands in the document as it came,
// in one line and as valid UTF-8, and cannot write a line or colours of its own
// into maddy's log.
func TestRepliesForgeNothing(t *testing.T) {
	t.Parallel()
	const said = "no \x1b[31mred\x1b[0m \x00 \a \xff\xfe \u2028 \u202e \r{\"event\":\"delivered\",\"severity\":\"none\"}"
	forged := "550-5.1.1 first\n550 5.1.1 " + said
	s := startFaults(t, blocks{target: patient},
		fault{name: "one line", hosts: []faultHost{faultyTLS(answering("rcpt", "550 5.1.1 "+said))}, want: "failed permanent 550 rcpt-rejected"},
		fault{name: "two lines", hosts: []faultHost{faultyTLS(answering("rcpt", forged))}, want: "failed permanent 550 rcpt-rejected"},
		fault{name: "very long", hosts: []faultHost{faultyTLS(answering("rcpt", "550 5.1.1 "+strings.Repeat("\x1bé", 4000)))}, want: "failed permanent 550 rcpt-rejected"},
		fault{name: "greeting", strict: true, hosts: []faultHost{faultyTLS(answering("greeting", "554 5.3.2 "+said))}, want: "failed permanent 554 connect"},
		fault{name: "STARTTLS", strict: true, hosts: []faultHost{faultyTLS(mailtest.Behaviour{STARTTLSReply: "454 4.7.0 " + said})},
			want: "failed temporary 451 tls-rejected"},
	)
	s.run()

	text := strings.ToValidUTF8(said, "\uFFFD")
	for i, want := range []string{text, "first\n" + text} {
		if got := s.documentOf("b@" + s.domain(i)).get("delivery-status.message"); got != want {
			t.Errorf("%s: message %q, want %q", s.faults[i].name, got, want)
		}
	}
	if got := fmt.Sprint(s.documentOf("b@" + s.domain(2)).get("delivery-status.message")); len(got) > 2<<10 || !strings.HasPrefix(got, "\x1bé\x1b") {
		t.Errorf("message of %d octets %.20q", len(got), got)
	}
	for line := range strings.Lines(s.stderr.String()) {
		line = strings.TrimRight(line, "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("maddy's log has %q", line)
		}
		if strings.HasPrefix(line, "{") {
			t.Errorf("maddy's log has a forged line: %q", line)
		}
	}
}

// TestGoodByeOnAReusedConnection: a connection that the host ends between two
// messages is replaced at once, and the document does not tell of it.
func TestGoodByeOnAReusedConnection(t *testing.T) {
	t.Parallel()
	var faults []fault
	for _, how := range []string{"421 4.4.2 idle for too long", "eof", "reset"} {
		faults = append(faults, fault{
			name: how, strict: true, want: "delivered 250", verified: true,
			hosts: []faultHost{faultyTLS(mailtest.Behaviour{AfterMessages: 1, AfterReply: how})},
		})
	}
	s := startFaults(t, blocks{target: patient}, faults...)
	for i := range faults {
		for _, local := range []string{"first", "second", "third"} {
			to := local + "@" + s.domain(i)
			s.deliver(mail{to: []string{to}}, 250)
			d := s.documentOf(to)
			if d.status() != "delivered 250" || d.get("delivery-status.hosts") != nil || d.get("delivery-status.connection-reused") != false {
				t.Errorf("%s, %s: document %v", faults[i].name, local, d)
			}
		}
		if got := len(s.mx[i].Messages()); got != 3 {
			t.Errorf("%s: %d messages arrived", faults[i].name, got)
		}
	}
	s.unharmed()
}
