package demo

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// truth returns evidence that is exactly as promised for a row.
func truth(t *testing.T, h host, sc scene) evidence {
	t.Helper()
	m := newMail(h, sc)
	seen := evidence{mail: m, wire: wire{connections: sc.want.connections, clear: []byte("EHLO relay\r\nQUIT\r\n")}}
	if sc.want.event == "" {
		seen.refusal = "554 5.6.0 X-Require-TLS: unexpected value"
		return seen
	}
	if h.offers {
		seen.wire.attempts = 1
	}
	if sc.want.event == "delivered" {
		seen.wire.messages = []mailtest.Message{{Recipients: []string{m.to}, Data: []byte(arrived(m)), TLS: sc.want.tls}}
		if sc.want.tls {
			seen.wire.messages[0].TLSState = &tls.ConnectionState{Version: tls.VersionTLS13}
		} else {
			seen.wire.clear = []byte("MAIL FROM:<" + m.from + ">\r\n" + m.text)
		}
	}
	docs, err := parseLog(line(t, h, sc, m), m.id)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	seen.docs = docs
	return seen
}

// arrived is a message without its override fields.
func arrived(m mail) string {
	lines := slices.Collect(strings.Lines(m.text))
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "X-") }), "")
}

// line is what the delivery log should say of a row.
func line(t *testing.T, h host, sc scene, m mail) []byte {
	t.Helper()
	type object map[string]any
	w := sc.want
	status := object{
		"tls": w.tls, "certificate-verified": w.verified, "mx-host": h.mx(), "attempt-no": 1, "code": w.code,
		"enhanced-code": w.enhanced,
	}
	if w.tls {
		status["tls-version"] = "TLSv1.3"
	}
	if w.verificationError != "" {
		status["verification-error"] = w.verificationError + ": signed by nobody"
	}
	if w.fallback != "" {
		status["tls-fallback"] = w.fallback
	}
	doc := object{
		"event": w.event, "recipient": m.to, "envelope": object{"sender": m.from},
		"message":         object{"headers": object{"message-id": m.id, "subject": sc.title()}},
		"delivery-status": status,
		"tls-policy": object{
			"require-tls": sc.wants.require, "skip-verification": sc.wants.skip, "demanded": sc.wants.demanded(),
			"require-tls-source": sc.wants.requireFrom, "skip-verification-source": sc.wants.skipFrom,
		},
	}
	if w.event == "failed" {
		doc["severity"], doc["reason"] = w.severity, w.reason
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// TestTrue: a row that turned out as promised is not complained of.
func TestTrue(t *testing.T) {
	t.Parallel()
	for _, h := range hosts {
		for _, sc := range h.scenes() {
			if found := judge(h, sc, truth(t, h, sc)); len(found) != 0 {
				t.Errorf("%s: %s: %v", h.name, sc.title(), found)
			}
		}
	}
}

// TestFalse: whatever is not as promised is found, and named.
func TestFalse(t *testing.T) {
	t.Parallel()
	no, yes := false, true
	// Where the row is: the host, and the row's place at it.
	type place struct{ host, row int }
	requiredNoTLS, keptTLS, badSkip := place{0, 2}, place{3, 4}, place{3, 1}
	good, goodOverride, malformed := place{4, 2}, place{4, 4}, place{4, 5}
	tests := []struct {
		where place
		what  string
		spoil func(*evidence)
	}{
		{good, "wire: connections", func(e *evidence) { e.wire.connections = 2 }},
		{good, "wire: attempts at STARTTLS", func(e *evidence) { e.wire.attempts = 0 }},
		{good, "wire: messages", func(e *evidence) { e.wire.messages = nil }},
		{good, "wire: messages", func(e *evidence) { e.wire.messages = append(e.wire.messages, e.wire.messages[0]) }},
		{good, "wire: TLS", func(e *evidence) { e.wire.messages[0].TLS = false }},
		{good, "wire: recipients", func(e *evidence) { e.wire.messages[0].Recipients = []string{"eve@example.org"} }},
		{good, "wire: the message is whole", func(e *evidence) { e.wire.messages[0].Data = []byte("Subject: x\r\n\r\n") }},
		{good, "wire: in clear", func(e *evidence) { e.wire.clear = []byte("mail from:<x@example.org>\r\n") }},
		{good, "wire: in clear", func(e *evidence) { e.wire.clear = []byte(e.mail.secret) }},
		{requiredNoTLS, "wire: in clear", func(e *evidence) { e.wire.clear = []byte("RCPT TO:<x@example.org>\r\n") }},
		{requiredNoTLS, "wire: messages", func(e *evidence) { e.wire.messages = []mailtest.Message{{}} }},
		{goodOverride, "wire: fields that are not for the world", func(e *evidence) {
			e.wire.messages[0].Data = []byte(e.mail.text)
		}},
		{goodOverride, "wire: fields that are not for the world", func(e *evidence) {
			e.wire.messages[0].Data = []byte("TLS-Override: v=1\r\n" + arrived(e.mail))
		}},
		{goodOverride, "log: require-tls-source", func(e *evidence) { e.docs[0].Policy.RequireFrom = "domain" }},
		{goodOverride, "log: require-tls", func(e *evidence) { e.docs[0].Policy.Require = nil }},
		{goodOverride, "log: demanded", func(e *evidence) { e.docs[0].Policy.Demanded = "opportunistic" }},
		{badSkip, "log: skip-verification", func(e *evidence) { e.docs[0].Policy.Skip = &no }},
		{badSkip, "log: skip-verification-source", func(e *evidence) { e.docs[0].Policy.SkipFrom = "" }},
		{badSkip, "log: certificate-verified", func(e *evidence) { e.docs[0].Status.Verified = &yes }},
		{badSkip, "log: verification-error", func(e *evidence) { e.docs[0].Status.VerificationError = "" }},
		{keptTLS, "log: tls-fallback", func(e *evidence) { e.docs[0].Status.Fallback = "" }},
		{good, "log: tls", func(e *evidence) { e.docs[0].Status.TLS = nil }},
		{good, "log: tls-version", func(e *evidence) { e.docs[0].Status.TLSVersion = "TLSv1.2" }},
		{good, "log: mx-host", func(e *evidence) { e.docs[0].Status.MXHost = "mx.example.org" }},
		{good, "log: attempt-no", func(e *evidence) { e.docs[0].Status.AttemptNo = 2 }},
		{good, "log: recipient", func(e *evidence) { e.docs[0].Recipient = "eve@example.org" }},
		{good, "log: sender", func(e *evidence) { e.docs[0].Envelope.Sender = "" }},
		{good, "log: event", func(e *evidence) { e.docs[0].Event = "failed" }},
		{requiredNoTLS, "log: severity", func(e *evidence) { e.docs[0].Severity = "permanent" }},
		{requiredNoTLS, "log: reason", func(e *evidence) { e.docs[0].Reason = "tls-rejected" }},
		{requiredNoTLS, "log: code", func(e *evidence) { e.docs[0].Status.Code = 550 }},
		{requiredNoTLS, "log: enhanced-code", func(e *evidence) { e.docs[0].Status.Enhanced = "4.7.5" }},
		{requiredNoTLS, "log: documents", func(e *evidence) { e.docs = nil }},
		{good, "log: documents", func(e *evidence) { e.docs = append(e.docs, e.docs[0]) }},
		{good, "submission: refusal", func(e *evidence) { e.refusal = "554 5.6.0 no" }},
		{malformed, "submission: refusal", func(e *evidence) { e.refusal = "" }},
		{malformed, "submission: refusal", func(e *evidence) { e.refusal = "554 5.6.01 no" }},
		{malformed, "log: documents", func(e *evidence) { e.docs = make([]document, 1) }},
		{malformed, "wire: connections", func(e *evidence) { e.wire.connections = 1 }},
	}
	for i, test := range tests {
		t.Run(fmt.Sprintf("%d %s", i, test.what), func(t *testing.T) {
			t.Parallel()
			h := hosts[test.where.host]
			sc := h.scenes()[test.where.row]
			seen := truth(t, h, sc)
			test.spoil(&seen)
			found := judge(h, sc, seen)
			if !slices.ContainsFunc(found, func(d difference) bool { return d.what == test.what && d.want != d.got }) {
				t.Errorf("%s: found %v, want %q", sc.title(), found, test.what)
			}
		})
	}
}

func TestParseLog(t *testing.T) {
	t.Parallel()
	const one = `{"event":"delivered","message":{"headers":{"message-id":"a"}}}`
	const two = `{"event":"failed","message":{"headers":{"message-id":"b"}}}`
	tests := []struct {
		name, log, id, want string
	}{
		{"nothing", "", "", ""},
		{"all", one + "\n" + two + "\n", "", "delivered failed"},
		{"by message", one + "\n" + two + "\n", "b", "failed"},
		{"unfinished line", one + "\n" + two[:20], "", "delivered"},
		{"no document", one + "\nno\n", "", "line 2 of the delivery log"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			docs, err := parseLog([]byte(test.log), test.id)
			var events []string
			for _, d := range docs {
				events = append(events, d.Event)
			}
			got := strings.Join(events, " ")
			if err != nil {
				got = err.Error()
			}
			if got != test.want && (err == nil || !strings.HasPrefix(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
