package tests

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"tlscontrol/internal/mailtest"
)

// domainsInSQL is a `domains` directive for a database in dir.
func domainsInSQL(dir string) string {
	return "domains sql_table {\ndriver sqlite3\ndsn " + dir + "/domains.db\ntable_name domains\n}\n"
}

// command runs "maddy ARG..." with the server's configuration and returns what
// it says on both streams, and whether it succeeded.
func (s *server) command(args ...string) (string, bool) {
	cmd := exec.Command(binary, append([]string{"--config", s.path("maddy.conf")}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err == nil
}

// mustCommand is command for one that must succeed.
func (s *server) mustCommand(args ...string) string {
	s.Helper()
	out, ok := s.command(args...)
	if !ok {
		s.Fatalf("maddy %v: %s", args, out)
	}
	return out
}

// sends returns a function that sends a message and tells what became of it, and
// by which settings.
func (s *server) sends() func(from string) string {
	n := 0
	return func(from string) string {
		s.Helper()
		err := s.direct(mail{from: "a@" + from})
		n++
		return reply(err) + ", " + s.next(n-1).settings()
	}
}

// TestDomainSettingsWhileRunning: what the command line sets counts from the
// next message on, on every relay that shares the table; a domain with a block
// stays as it is.
func TestDomainSettingsWhileRunning(t *testing.T) {
	t.Parallel()
	s, other := newServer(t, mailtest.Behaviour{}), newServer(t, mailtest.Behaviour{})
	const block = "\ndomain block.example {\nskip_verification yes\n}"
	s.config(blocks{policy: domainsInSQL(s.dir) + block, endpoints: anyoneDirect("smtp", "")})
	s.start()
	// The same table, as a block of its own.
	named := strings.Replace(domainsInSQL(s.dir), "domains sql_table", "table.sql_table shared_domains", 1)
	other.config(blocks{policy: "domains &shared_domains" + block, more: named, endpoints: anyoneDirect("smtp", "")})
	other.start()
	send, sendOther := s.sends(), other.sends()
	for _, tt := range []struct{ command, want string }{
		{"", "accepted, no default, no default"},
		{"set example.com require_tls=yes", "451 4.7.4, yes table, no default"},
		{"set EXAMPLE.com. on_failure=reject", "550 5.7.4, yes table, no default"},
		{"set example.com skip_verification=yes require_tls=no", "accepted, no table, yes table"},
		{"unset example.com", "accepted, no default, no default"},
	} {
		if tt.command != "" {
			s.mustCommand(append([]string{"tls", "domain"}, strings.Fields(tt.command)...)...)
		}
		for name, send := range map[string]func(string) string{"this": send, "the other": sendOther} {
			if got := send("example.com"); got != tt.want {
				t.Errorf("%s, %s relay: %s", tt.command, name, got)
			}
		}
	}
	out, ok := s.command("tls", "domain", "set", "block.example", "require_tls=yes")
	if ok || !strings.Contains(out, `set in the configuration, at `+s.path("maddy.conf:")) {
		t.Errorf("a domain with a block: %s", out)
	}
	if got := send("block.example"); got != "accepted, no default, yes domain" {
		t.Error(got)
	}
}

// TestConcurrentDomainChanges: several processes change one domain beside the
// server, and no change is lost.
func TestConcurrentDomainChanges(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{policy: domainsInSQL(s.dir), endpoints: anyoneDirect("smtp", "")})
	s.start()
	settings := []string{"require_tls=no", "skip_verification=yes", "on_failure=reject", "opportunistic_fallback=unverified", "message_override=none"}
	var all sync.WaitGroup
	for _, setting := range settings {
		all.Go(func() {
			if out, ok := s.command("tls", "domain", "set", "example.com", setting); !ok {
				t.Errorf("%s: %s", setting, out)
			}
		})
	}
	send := s.sends()
	for range 5 { // deliveries go on meanwhile
		if got := send("example.com"); !strings.HasPrefix(got, "accepted, no ") {
			t.Error(got)
		}
	}
	all.Wait()
	got := s.mustCommand("tls", "domain", "get", "--json", "example.com")
	if want := fmt.Sprintf(`"text":%q`, strings.Join(settings, " ")); !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDatabaseAway: while the table fails, deliveries go on with what is known,
// never weaker, and what is not known waits.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{policy: domainsInSQL(s.dir), endpoints: anyoneDirect("smtp", "")})
	s.start()
	s.mustCommand("tls", "domain", "set", "strict.example", "require_tls=yes")
	send := s.sends()
	const strict, silent = "451 4.7.4, yes table, no default", "accepted, no default, no default"
	check := func(when, domain, want string) {
		t.Helper()
		if got := send(domain); got != want {
			t.Errorf("%s: %s: %s, want %s", when, domain, got, want)
		}
	}
	check("before", "strict.example", strict)
	check("before", "silent.example", silent)

	// The file is the database's own, and what is in it is none any more.
	whole, err := os.ReadFile(s.path("domains.db"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(s.path("domains.db"), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bytes.Repeat([]byte("gone "), len(whole)/5))
	check("away", "strict.example", strict)
	check("away", "silent.example", silent)
	check("away", "unknown.example", "451 4.3.5, unknown <nil>, unknown <nil>")
	if out, ok := s.command("tls", "domain", "set", "strict.example", "require_tls=no"); ok {
		t.Errorf("set in a database that is away: %s", out)
	}
	s.eventually("the log tells of it", func() bool {
		return strings.Contains(s.stderr.String(), `"key":"unknown.example"`) // the last one
	})
	if log := s.stderr.String(); !strings.Contains(log, `domains table fails, going on with what it last said`) {
		t.Errorf("nothing about what is known:\n%s", log)
	}

	write(whole)
	check("back", "unknown.example", silent)
	s.mustCommand("tls", "domain", "set", "strict.example", "require_tls=no")
	check("back", "strict.example", "accepted, no table, no default")
}

// TestDomainsFileGone: a file of domains that is gone is no empty one.
func TestDomainsFileGone(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	if err := os.WriteFile(s.path("domains"), []byte("strict.example: require_tls=yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.config(blocks{policy: "domains file {dir}/domains\ndomains_keep 30m", endpoints: anyoneDirect("smtp", "")})
	s.start()
	send := s.sends()
	const strict = "451 4.7.4, yes table, no default"
	if got := send("strict.example"); got != strict {
		t.Error(got)
	}
	if err := os.Remove(s.path("domains")); err != nil {
		t.Fatal(err)
	}
	if got := send("strict.example"); got != strict {
		t.Error(got)
	}
	if got := send("unknown.example"); got != "451 4.3.5, unknown <nil>, unknown <nil>" {
		t.Error(got)
	}
}
