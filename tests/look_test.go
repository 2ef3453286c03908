package tests

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"tlscontrol/internal/mailtest"
)

// schema is what every document promises to be.
var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile("../docs/delivery-status.schema.json")
})

// checkedDocuments saves checking a line each time the log is read again.
var checkedDocuments sync.Map

// checkDocument fails the test unless the schema accepts a line of the log.
func checkDocument(t *testing.T, line string) {
	t.Helper()
	if _, ok := checkedDocuments.Load(line); ok {
		return
	}
	compiled, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		t.Fatalf("document %s: %v", line, err)
	}
	if err := checkContentSent(line); err != nil {
		t.Fatalf("document %s: %v", line, err)
	}
	checkedDocuments.Store(line, true)
}

// checkContentSent: what was delivered has left, and no better protected than the
// weakest of the connections that the document tells of.
func checkContentSent(line string) error {
	var d document
	if err := json.Unmarshal([]byte(line), &d); err != nil {
		return err
	}
	weakest := "" // "clear", "unverified" and "verified" are in the order of the alphabet
	if d["event"] == "delivered" {
		weakest = protection(d.get("delivery-status.tls") == true, d.get("delivery-status.certificate-verified") == true)
	}
	hosts, _ := d.get("delivery-status.hosts").([]any)
	for _, h := range hosts {
		if sent, _ := h.(map[string]any)["content-sent"].(string); sent != "" && (weakest == "" || sent < weakest) {
			weakest = sent
		}
	}
	if sent, _ := d.get("delivery-status.content-sent").(string); weakest != "" && (sent == "" || sent > weakest) {
		return fmt.Errorf("content-sent is %q, and %q was sent", sent, weakest)
	}
	return nil
}

// in is the server as a subtest has it.
func (s *server) in(t *testing.T) *server {
	sub := *s
	sub.T = t
	return &sub
}

// anyoneDirect is an endpoint that asks for no login and hands messages to the
// target itself, so that the client hears what became of them. inside is more
// of its block.
func anyoneDirect(port, inside string) string {
	return "smtp tcp://{ip}:{" + port + "} {\nhostname relay.example.com\ntls off\n" + inside + "\ndeliver_to &outbound\n}\n"
}

// direct submits a message to the endpoint that anyoneDirect makes.
func (s *server) direct(m mail) error {
	s.Helper()
	m.anonymous = true
	if m.port == "" {
		m.port = "2525"
	}
	return s.submit(m)
}

// reply is an SMTP status in short: "accepted" or "451 4.7.4".
func reply(err error) string {
	var se *smtp.SMTPError
	switch {
	case err == nil:
		return "accepted"
	case errors.As(err, &se):
		e := se.EnhancedCode
		return fmt.Sprintf("%d %d.%d.%d", se.Code, e[0], e[1], e[2])
	}
	return "no reply: " + err.Error()
}

// next waits for the document after the n known ones and returns it. One more
// than that is a mistake: a recipient and attempt has one document.
func (s *server) next(n int) document {
	s.Helper()
	docs := s.documents(n + 1)
	if len(docs) != n+1 {
		s.Fatalf("%d new documents, want one\n%v", len(docs)-n, docs[n:])
	}
	return docs[n]
}

// about returns the one document among docs that is about a recipient.
func (s *server) about(recipient string, docs []document) document {
	s.Helper()
	var found []document
	for _, d := range docs {
		if d["recipient"] == recipient {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		s.Fatalf("%d documents about %s, want one\n%v", len(found), recipient, docs)
	}
	return found[0]
}

// expect fails the test where a document differs. A nil value means that the
// field must be absent.
func (d document) expect(t *testing.T, want map[string]any) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got := d.get(path); fmt.Sprint(got) != fmt.Sprint(want[path]) {
			t.Errorf("document: %s is %v, want %v", path, got, want[path])
		}
	}
	if t.Failed() {
		t.Log(d)
	}
}

// settings is what the document says of require_tls and skip_verification: "yes
// domain, no default".
func (d document) settings() string {
	word := func(path string) string {
		switch d.get(path) {
		case true:
			return "yes"
		case false:
			return "no"
		}
		return "unknown"
	}
	return fmt.Sprintf("%s %v, %s %v", word("tls-policy.require-tls"), d.get("tls-policy.require-tls-source"),
		word("tls-policy.skip-verification"), d.get("tls-policy.skip-verification-source"))
}

// counters returns every counter of the plugin that is not zero, without the
// prefix maddy_remote_tls_ and the module label.
func (s *server) counters() map[string]int {
	s.Helper()
	found := make(map[string]int)
	for line := range strings.Lines(s.served()) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		series, ok := strings.CutPrefix(series, "maddy_remote_tls_")
		if !ok || !strings.Contains(series, "_total{") {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			s.Fatalf("%s: %v", line, err)
		}
		if n != 0 {
			found[strings.Replace(series, `module="outbound",`, "", 1)+"}"] = n
		}
	}
	return found
}

// counted fails the test unless exactly the given series moved by one each since
// before. A counter follows the document of the same attempt.
func (s *server) counted(before map[string]int, want ...string) {
	s.Helper()
	var got []string
	s.eventually(fmt.Sprintf("%d counters have moved", len(want)), func() bool {
		got = got[:0]
		for series, n := range s.counters() {
			for range n - before[series] {
				got = append(got, series)
			}
		}
		return len(got) >= len(want)
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.Errorf("counted %q\nwant %q", got, want)
	}
}

// headerOf reads the header of a message that arrived.
func headerOf(t *testing.T, m mailtest.Message) textproto.Header {
	t.Helper()
	h, err := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(m.Data)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ownFields are the header fields that never leave.
var ownFields = []string{
	"TLS-Override", "X-Require-TLS", "X-Skip-Verification", "X-Mailgun-Require-TLS", "X-Mailgun-Skip-Verification",
}

// stripped fails the test if a message arrived with a field that is ours.
func stripped(t *testing.T, m mailtest.Message) {
	t.Helper()
	h := headerOf(t, m)
	for _, name := range ownFields {
		if h.Has(name) {
			t.Errorf("%s: %s left the relay", name, h.Get(name))
		}
	}
	for _, name := range []string{"From", "Subject", "Message-Id"} {
		if !h.Has(name) {
			t.Errorf("%s is missing in what arrived:\n%s", name, m.Data)
		}
	}
}

// inClear reports whether anything of a message crossed a socket in clear.
func inClear(m *mailtest.MX) bool {
	for _, session := range m.Sessions() {
		for _, secret := range []string{"a secret", "MAIL FROM", "RCPT TO"} {
			if bytes.Contains(session.ClearBytes, []byte(secret)) {
				return true
			}
		}
	}
	return false
}
