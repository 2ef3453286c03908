package tests

import (
	"os"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestLogFailureCostsNoDelivery: a log that cannot be written is counted and
// reported, and neither fails nor holds up mail, nor keeps documents from the
// other outputs.
func TestLogFailureCostsNoDelivery(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, output string
		lost         float64 // documents that the output did not take
		report       string  // in maddy's log
	}{
		{"disk full", "/dev/full", 20, " lost: write /dev/full"},
		{"directory gone", "{dir}/log/more.jsonl", 0, "cannot reopen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.output == "/dev/full" {
				if _, err := os.Stat(tt.output); err != nil {
					t.Skipf("SKIPPED: a full disk cannot be simulated here: %v", err)
				}
			}
			s := newServer(t, mailtest.Behaviour{})
			if err := os.Mkdir(s.path("log"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.config(blocks{endpoints: twoDoors, log: "output file " + tt.output})
			s.start()
			if err := os.RemoveAll(s.path("log")); err != nil {
				t.Fatal(err)
			}
			s.rotate()
			for range 20 {
				s.mustSubmit(mail{anonymous: true, port: atTarget})
			}
			s.eventually("maddy says "+tt.report, func() bool { return strings.Contains(s.stderr.String(), tt.report) })
			if n := strings.Count(s.stderr.String(), tt.report); n != 1 && tt.lost > 0 {
				t.Errorf("maddy said so %d times within a minute", n)
			}
			s.becomes("maddy_remote_tls_log_errors_total", tt.lost)
			if docs := s.documents(20); len(docs) != 20 {
				t.Errorf("%d documents in the other output", len(docs))
			}
			if n := len(s.mx[0].Messages()); n != 20 {
				t.Errorf("%d messages arrived", n)
			}
		})
	}
}
