package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// npmPatience is for npm, which fetches some megabytes.
const npmPatience = 3 * time.Minute

// installMailgunJS puts mailgun.js, as tests/mailgunjs/package-lock.json has it,
// into a directory. Without Node.js, or without a way to the registry, the test
// is skipped. .ci/run has installed it already, and says in TLSCONTROL_NODE where.
func installMailgunJS(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("TLSCONTROL_NODE"); dir != "" {
		return dir
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: mailgun.js was not tried: %v", err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("mailgunjs")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), npmPatience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: mailgun.js was not tried: npm ci: %v\n%s", err, out)
	}
	return dir
}

// TestMailgunJS: Mailgun's own client for JavaScript works unchanged, with both
// of the form builders that its users give it.
func TestMailgunJS(t *testing.T) {
	t.Parallel()
	dir := installMailgunJS(t)
	for _, forms := range []string{"form-data", "built-in"} {
		t.Run(forms, func(t *testing.T) {
			t.Parallel()
			s := newAPI(t, "", mailtest.Behaviour{})
			ctx, cancel := context.WithTimeout(context.Background(), 2*hang)
			defer cancel()
			node := exec.CommandContext(ctx, "node", filepath.Join(dir, "client.js"), s.apiURL(), s.key(""), s.key("example.com"), forms)
			var out, complaints bytes.Buffer
			node.Stdout, node.Stderr = &out, &complaints
			if err := node.Run(); err != nil {
				t.Fatalf("%v\n%s\n%s\n%s", err, &out, &complaints, s.stderr)
			}
			// The client warns on its standard output, too.
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			var r mailgunJS
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			r.check(s)
		})
	}
}

// mailgunJS is what tests/mailgunjs/client.js prints.
type mailgunJS struct {
	Before, After, Updated jsConnection
	Plain, Strict, MIME    struct {
		Status  int
		ID      string
		Message string
	}
	Domain struct {
		Name, State string
		jsConnection
	}
	Domains   []string
	Refused   map[string]string
	Pages     [][]string
	Previous  []string
	Delivered []document
}

type jsConnection struct {
	RequireTLS       bool `json:"require_tls"`
	SkipVerification bool `json:"skip_verification"`
}

func (r *mailgunJS) check(s *server) {
	s.Helper()
	settings := fmt.Sprint(r.Before, r.Updated, r.After, r.Domain)
	if settings != "{false false} {true false} {true false} {example.com active {false true}}" {
		s.Errorf("settings %s", settings)
	}
	if r.Plain.Status != 200 || !strings.HasSuffix(r.Plain.ID, "@example.com>") || r.Strict.Message != "Queued. Thank you." || r.MIME.ID == "" {
		s.Errorf("sent %+v, %+v, %+v", r.Plain, r.Strict, r.MIME)
	}
	var became []string
	for _, d := range s.documents(4) {
		became = append(became, d.status()+" "+d.settings())
	}
	slices.Sort(became)
	if want := []string{
		"delivered 250 no default, no default", "delivered 250 no default, no default",
		"failed temporary 451 tls-not-offered yes message, yes message",
		"failed temporary 451 tls-not-offered yes table, no default",
	}; !slices.Equal(became, want) {
		s.Errorf("became %q", became)
	}
	message := string(s.mx[0].Messages()[0].Data)
	for _, want := range []string{"filename=bill.pdf", "X-Mailgun-Variables: {\"order\": \"42\"}", "X-Note: =?utf-8?q?=C3=BCn=C3=AF?="} {
		if !strings.Contains(message, want) {
			s.Errorf("%q is not in\n%s", want, message)
		}
	}
	if !slices.Equal(r.Domains, []string{"block.example", "example.com"}) {
		s.Errorf("domains %q", r.Domains)
	}
	for name, want := range map[string]string{
		"deliverytime": "400 o:deliverytime parameter is not supported", "forbidden": "401 Forbidden", "key": "401 Invalid private key",
		"block": "409 domain \"block.example\" is set in the configuration, at ",
	} {
		if !strings.HasPrefix(r.Refused[name], want) {
			s.Errorf("%s: %s, want %s", name, r.Refused[name], want)
		}
	}
	all := slices.Concat(r.Pages...)
	if len(r.Pages) != 4 || len(all) != 8 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 8 || !slices.Equal(r.Previous, all[len(all)-3:]) {
		s.Errorf("pages %q, previous %q", r.Pages, r.Previous)
	}
	if len(r.Delivered) != 1 || r.Delivered[0]["mx-host"] != "mx1.test" || r.Delivered[0]["tls"] != false {
		s.Errorf("delivered %v", r.Delivered)
	}
}
