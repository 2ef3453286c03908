package tests

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/mailtest"
)

// reports is what "maddy tls reports --json" prints, while the server runs or not.
func (s *server) reports(args ...string) (all []tlsrpt.ReportJSON) {
	s.Helper()
	cmd := exec.Command(binary, append([]string{"--config", s.path("maddy.conf"), "tls", "reports", "--json"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var r tlsrpt.ReportJSON
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// failed is how many sessions with example.net failed since a day began, which may
// have been yesterday.
func (s *server) failed(since time.Time) (n int64) {
	s.Helper()
	const day = 24 * time.Hour
	for at := since.Truncate(day); !at.After(time.Now()); at = at.Add(day) {
		for _, r := range s.reports("--domain", "example.net", "--day", at.UTC().Format(time.DateOnly)) {
			n += r.Policies[0].Summary.TotalFailureSessionCount
		}
	}
	return n
}

// reported are the reports that arrived at the MX host.
func (s *server) reported() (all []*tlsrpt.ReportJSON) {
	s.Helper()
	for _, m := range s.mx[0].Messages() {
		if !bytes.Contains(bytes.ToLower(m.Data), []byte("\ntls-report-domain:")) {
			continue
		}
		r, err := tlsrpt.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(m.Data))
		if err != nil {
			s.Fatalf("%v\n%s", err, m.Data)
		}
		all = append(all, r)
	}
	return all
}

// TestTLSReports: what was counted is seen from outside while the server runs, and
// outlives its violent death; the report about an earlier day goes out once,
// through the queue of the very target that counts, and is not counted itself.
func TestTLSReports(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: s.ed25519Key()})
	if err := os.WriteFile(s.path("dkim.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	s.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua=mailto:tls@example.net")
	// Of the day before yesterday everything is due, at whatever time this runs.
	began := time.Now()
	past := began.UTC().Add(-48 * time.Hour).Format(time.DateOnly)
	dir := s.path("state/tlsrpt/outbound/")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+past+".jsonl", []byte(`{"tlsrpt":"counts","version":1,"day":"`+past+`"}`+"\n"+
		`{"domain":"example.net","policy":{"policy-type":"no-policy-found","policy-domain":"example.net"},"count":42}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each message makes a session of its own.
	s.config(blocks{target: "conn_reuse_limit 0\ntlsrpt {\nfrom reports@relay.example.com\ndeliver_to &remote_queue\ndkim_key {dir}/dkim.key sel\n}"})
	s.start()
	s.mustSubmit(mail{})
	s.eventually("the session is counted", func() bool { return s.failed(began) == 1 })
	for _, r := range s.reports() { // none if the day has just changed
		if d := r.Policies[0].FailureDetails; len(d) != 1 || d[0].ReceivingMXHelo != "mx.mailtest.invalid" || d[0].ReceivingMXHostname != host(0) {
			t.Errorf("details %+v", d)
		}
	}
	s.eventually("the report is noted as sent", func() bool {
		text, _ := os.ReadFile(dir + "/" + past + ".sent")
		return strings.Contains(string(text), `"done"`)
	})
	s.eventually("the report arrives", func() bool { return len(s.reported()) == 1 })
	if r := s.reported()[0]; r.Policies[0].Summary.TotalSuccessfulSessionCount != 42 || !strings.HasPrefix(r.DateRange.Start.String(), past) {
		t.Errorf("report %+v", r)
	}
	s.becomes(`maddy_remote_tls_reports_total{module="outbound",result="sent"}`, 1)
	// What a host has taken comes again if the queue does not know yet.
	s.eventually("the queue is empty", func() bool { return len(s.inQueue()) == 0 })
	s.kill()
	if n := s.failed(began); n != 1 {
		t.Errorf("%d failed sessions after the kill", n)
	}

	s.start()
	s.mustSubmit(mail{})
	s.eventually("the next session is counted", func() bool { return s.failed(began) == 2 })
	if n := len(s.reported()); n != 1 {
		t.Errorf("%d reports arrived", n)
	}
	// The connection of the report was one more, and is not among them.
	if n := len(s.mx[0].Messages()); n != 3 {
		t.Errorf("%d messages arrived", n)
	}
}
