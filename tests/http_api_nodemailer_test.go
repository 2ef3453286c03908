package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestNodemailer: Nodemailer sends through its transport for Mailgun, which has a way
// of its own with names, files and options.
func TestNodemailer(t *testing.T) {
	t.Parallel()
	dir := installMailgunJS(t)
	s := newAPI(t, "", mailtest.Behaviour{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*hang)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, "nodemailer.js"), s.apiURL(), s.key("example.com"))
	var out, complaints bytes.Buffer
	node.Stdout, node.Stderr = &out, &complaints
	if err := node.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s\n%s", err, &out, &complaints, s.stderr)
	}
	var r struct {
		Sent struct {
			ID, MessageID, Message string
		}
		Refused string
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if r.Sent.ID != "<own@example.com>" || r.Sent.MessageID != r.Sent.ID || r.Sent.Message != "Queued. Thank you." {
		t.Errorf("sent %+v", r.Sent)
	}
	if !strings.HasPrefix(r.Refused, "400 template parameter is not supported") {
		t.Errorf("refused %s", r.Refused)
	}
	for _, d := range s.documents(2) {
		if got := d.status() + " " + d.settings(); got != "delivered 250 no message, no default" {
			t.Errorf("got %s", got)
		}
	}
	message := string(s.mx[0].Messages()[0].Data)
	for _, want := range []string{
		`To: "Bob" <b@example.net>, <c@example.net>`, "Reply-To: <r@example.com>", "Message-Id: <own@example.com>", "X-Note: note", `X-Mailgun-Variables: {"order": "42"}`,
		"filename*=utf-8''b%C3%BCcher.txt", "Content-Id: <logo.png>", "multipart/related",
	} {
		if !strings.Contains(message, want) {
			t.Errorf("%q is not in\n%s", want, message)
		}
	}
	s.hasEvents(s.key(""), "event=delivered&tags=bills+%22two+words%22&attachment=logo.png", 2)
}
