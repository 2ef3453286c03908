package tests

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// TestTableChangesOnDisk: the table is asked for each message, so what an
// operator changes in it counts from the next message on.
func TestTableChangesOnDisk(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	write := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(s.path("domains"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// maddy leaves a file alone that changed a moment ago.
		when := time.Now().Add(-age)
		if err := os.Chtimes(s.path("domains"), when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("example.com: skip_verification=yes\n", 3*time.Hour)
	s.config(blocks{policy: "domains file {dir}/domains", endpoints: anyoneDirect("smtp", "")})
	s.start()
	n := 0
	send := func() string {
		err := s.direct(mail{})
		n++
		return reply(err) + ", " + s.next(n-1).settings()
	}
	if got := send(); got != "accepted, no default, yes table" {
		t.Error(got)
	}
	for i, tt := range []struct{ row, want string }{
		{"example.com: require_tls=yes\n", "451 4.7.4, yes table, no default"},
		{"example.com: require_tls=yes on_failure=reject\n", "550 5.7.4, yes table, no default"},
		{"example.com: require_tls=maybe\n", "451 4.3.5, unknown <nil>, unknown <nil>"},
		{"", "accepted, no default, no default"},
	} {
		write(tt.row, time.Duration(2*60-10*i)*time.Minute)
		s.signal(syscall.SIGUSR2)
		s.eventually(tt.want, func() bool { return send() == tt.want })
	}
}

// TestFailingTableDefers: a table that fails, or a row that cannot be read whole,
// defers the recipients with the row's key in maddy's log, and nothing is guessed.
func TestFailingTableDefers(t *testing.T) {
	t.Parallel()
	const rows = `domains static {
entry good.example "require_tls=yes"
entry word.example "require_tls=maybe"
entry unknown.example "require_tls=yes colour=red"
entry half.example "require_tls=yes skip"
entry twice.example "require_tls=no require_tls=yes"
entry two-values.example "require_tls=no" "require_tls=yes"
entry empty.example ""
entry "xn--bcher-kva.example" "nonsense"
}`
	// Preparing this works, asking it does not: the number has no absolute value.
	const failing = `domains sql_query {
driver sqlite3
dsn {dir}/table.db
lookup "SELECT abs(-9223372036854775808) WHERE $1 <> ''"
}`
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		table   string
		senders []string
	}{
		"rows": {rows, []string{
			"word.example", "unknown.example", "half.example", "twice.example", "two-values.example", "empty.example", "xn--bcher-kva.example",
		}},
		"table": {failing, []string{"some.example", "other.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, host(0)))
			s.config(blocks{policy: tt.table + "\ndomain block.example { require_tls yes\n}", endpoints: anyoneDirect("smtp", "")})
			s.start()
			for i, from := range tt.senders {
				before := s.counters()
				// A message that asks for strictness itself has to wait too: the
				// row may be about on_failure.
				if got := reply(s.direct(mail{from: "a@" + from, header: "X-Require-TLS: yes\r\n"})); got != "451 4.3.5" {
					t.Errorf("%s: %s", from, got)
				}
				s.next(i).expect(t, map[string]any{
					"event": "failed", "severity": "temporary", "reason": "policy", "delivery-status.code": 451,
					"delivery-status.enhanced-code": "4.3.5", "delivery-status.tls": nil, "tls-policy": nil,
				})
				s.counted(before, `deliveries_total{result="temporary",tls="no",verification="none"}`, `failures_total{enforced="yes",reason="policy"}`)
				// What the process wrote takes a moment through the pipe.
				s.in(t).eventually("the log names the row of "+from, func() bool { return keyLogged(s.stderr.String(), from) })
			}
			if n := s.mx[0].Connections(); n != 0 {
				t.Errorf("%d connections were made without a policy", n)
			}
			// Who is not asked about does not suffer.
			n := len(tt.senders)
			for _, from := range []string{"<>", "a@block.example"} {
				if got := reply(s.direct(mail{from: from})); got != "accepted" {
					t.Errorf("%s: %s", from, got)
				}
				n++
				s.documents(n)
			}
		})
	}
}

// keyLogged reports whether a line about a message that is deferred names the domain's key.
func keyLogged(log, domain string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, ", deferring\t") && strings.Contains(line, `row \"`+domain+`\"`) {
			return true
		}
	}
	return false
}
