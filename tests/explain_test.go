package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// TestExplainBesideServer: what "maddy tls explain --probe" says beside a running
// server, the server then does, and its log tells in the same words. The server
// hears nothing of the question, and no file changes.
func TestExplainBesideServer(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	sts, block := newSTS(t, ca)
	s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, host(0)), certificate(t, ca, mailtest.SelfSigned, host(1)), mailtest.Behaviour{})
	for i, domain := range []string{"good.example", "self.example", "clear.example"} {
		s.dns.MX(domain, 10, host(i))
	}
	s.dns.MX("both.example", 10, host(2))
	s.dns.MX("both.example", 20, host(0))
	s.dns.MX("sts.example", 10, host(0))
	s.dns.MX("unlisted.example", 10, host(0))
	s.policyOf(sts, "sts.example", "enforce", "*.test")
	s.policyOf(sts, "unlisted.example", "enforce", "mx9.test")
	s.dns.Fail("broken.example", 2)
	if err := os.WriteFile(s.path("domains"), []byte("row.example: require_tls=yes skip_verification=yes\nbad.example: require_tls=maybe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.config(blocks{
		policy:    "opportunistic_fallback unverified\ndomain strict.example {\nrequire_tls yes\n}\ndestination clear.example {\non_failure reject\n}\ndomains file {dir}/domains",
		target:    "mx_auth {\n" + block + "\n}",
		endpoints: anyoneDirect("smtp", ""),
	})
	s.start()
	asked := []ask{
		{"a@example.com", "good.example", ""},
		{"a@example.com", "good.example", "X-Require-TLS: yes"},
		{"a@example.com", "self.example", ""},
		{"a@example.com", "self.example", "X-Require-TLS: yes"},
		{"a@strict.example", "self.example", "X-Skip-Verification: yes"},
		{"a@row.example", "self.example", ""},
		{"a@bad.example", "good.example", ""},
		{"a@example.com", "clear.example", ""},
		{"a@strict.example", "clear.example", ""},
		{"a@strict.example", "clear.example", "TLS-Required: No"},
		{"a@example.com", "both.example", ""},
		{"a@strict.example", "both.example", ""},
		{"a@example.com", "sts.example", ""},
		{"a@example.com", "unlisted.example", ""},
		{"a@example.com", "unlisted.example", "TLS-Required: No"},
		{"a@example.com", "broken.example", ""},
		{"a@example.com", "nowhere.example", ""},
		{"<>", "good.example", ""},
	}
	// The server is idle, so that nothing moves but by the questions.
	before, files := s.counters(), s.files()
	told := make([]string, len(asked))
	for i, q := range asked {
		args := []string{"--stranger", "--from", q.from, "--to", "b@" + q.to}
		if q.header != "" {
			args = append(args, "--header", q.header)
		}
		x, code := s.explained(args...)
		told[i] = inShort(x)
		if delivered := document(x["outcome"].(map[string]any))["result"] == "delivered"; delivered != (code == 0) {
			t.Errorf("%v: exit code %d\n%v", q, code, x)
		}
	}
	s.counted(before)
	if now := s.files(); !maps.Equal(now, files) {
		t.Errorf("files changed from %v to %v", files, now)
	}
	for i, q := range asked {
		m := mail{from: q.from, to: []string{"b@" + q.to}}
		if q.header != "" {
			m.header = q.header + "\r\n"
		}
		_ = s.direct(m) // The document says what became of it.
		if did := didInShort(s.next(i)); told[i] != did {
			t.Errorf("%v: told %s\nwas %s", q, told[i], did)
		}
	}
}

// ask is a message by its sender, the recipient's domain, and one header field.
type ask struct{ from, to, header string }

// explained runs "tls explain --probe" and returns the document and exit code.
func (s *server) explained(args ...string) (document, int) {
	s.Helper()
	cmd := exec.Command(binary, append([]string{"--config", s.path("maddy.conf"), "tls", "explain", "--probe", "--json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out, &d); err != nil {
		s.Fatalf("%v: %s\n%s", args, out, &stderr)
	}
	return d, cmd.ProcessState.ExitCode()
}

// inShort is what is told: the result, how the message crosses, and who decided.
func inShort(x document) string {
	settings := ""
	list, _ := x["settings"].([]any)
	for _, s := range list {
		s := document(s.(map[string]any))
		if name := s["name"]; name == "require_tls" || name == "skip_verification" {
			settings += fmt.Sprintf(" %v by %v", s["value"] == "yes", s["source"])
		}
	}
	o := document(x["outcome"].(map[string]any))
	if o["result"] != "delivered" {
		return fmt.Sprint(o["result"], o["code"], o["enhanced-code"], o["reason"], settings)
	}
	return fmt.Sprint(o["mx-host"], o["mx-ip"], o["tls"], o["certificate-verified"], o["verification"], o["tls-fallback"], settings)
}

// didInShort is the same of a line of the delivery log.
func didInShort(d document) string {
	settings := ""
	if p, ok := d["tls-policy"].(map[string]any); ok && p["require-tls-source"] != nil {
		settings = fmt.Sprintf(" %v by %v %v by %v", p["require-tls"], p["require-tls-source"], p["skip-verification"], p["skip-verification-source"])
	}
	o := document(d["delivery-status"].(map[string]any))
	if d["event"] != "delivered" {
		return fmt.Sprint(d["severity"], o["code"], o["enhanced-code"], d["reason"], settings)
	}
	return fmt.Sprint(o["mx-host"], o["mx-ip"], o["tls"], o["certificate-verified"], o["verification"], o["tls-fallback"], settings)
}

// files lists the files of the state directory with what tells a change.
func (s *server) files() map[string]string {
	s.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(s.path("state"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all[path] = info.ModTime().Format(time.RFC3339Nano) + fmt.Sprint(info.Size())
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return all
}
