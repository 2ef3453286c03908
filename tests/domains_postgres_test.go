package tests

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/pgtest"
)

// TestDomainsInPostgreSQL: two relays share one PostgreSQL. Both follow a change
// from the next message on, go on with what they know while it is away, and
// follow changes again when it is back.
func TestDomainsInPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := pgtest.New(t)
	table := fmt.Sprintf("domains sql_table {\ndriver postgres\ndsn %q\ntable_name tls_domains\n}", pg.Database(t))
	relays := []*server{newServer(t, mailtest.Behaviour{}), newServer(t, mailtest.Behaviour{})}
	var sends []func(string) string
	for _, relay := range relays {
		relay.config(blocks{policy: table, endpoints: anyoneDirect("smtp", "")})
		relay.start()
		sends = append(sends, relay.sends())
	}
	check := func(when, domain, want string) {
		t.Helper()
		for i, send := range sends {
			if got := send(domain); got != want {
				t.Errorf("%s: relay %d: %s: %s, want %s", when, i+1, domain, got, want)
			}
		}
	}
	const strict, silent = "451 4.7.4, yes table, no default", "accepted, no default, no default"
	// Another row stays: a table that is empty after an outage is not believed.
	relays[0].mustCommand("tls", "domain", "set", "stays.example", "require_tls=no")
	relays[0].mustCommand("tls", "domain", "set", "strict.example", "require_tls=yes")
	check("at first", "strict.example", strict)
	relays[1].mustCommand("tls", "domain", "set", "strict.example", "on_failure=reject")
	check("changed", "strict.example", strings.Replace(strict, "451 4", "550 5", 1))
	relays[0].mustCommand("tls", "domain", "unset", "strict.example", "on_failure")
	check("changed back", "strict.example", strict)
	check("at first", "silent.example", silent)

	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	check("away", "strict.example", strict)
	check("away", "silent.example", silent)
	check("away", "unknown.example", "451 4.3.5, unknown <nil>, unknown <nil>")
	if out, ok := relays[0].command("tls", "domain", "get", "strict.example"); ok {
		t.Errorf("get: %s", out)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	relays[0].mustCommand("tls", "domain", "unset", "strict.example")
	check("back", "strict.example", silent)
	check("back", "unknown.example", silent)
	if got := relays[1].mustCommand("tls", "domain", "list"); !strings.HasPrefix(got, "stays.example ") || strings.Contains(got, "\n") {
		t.Errorf("list: %s", got)
	}
}

// TestDomainsTableLost: a table that is lost, or made anew and empty, while a relay runs
// takes no setting away. Commands do not make it; a relay that starts does.
func TestDomainsTableLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t).Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(query string) {
		t.Helper()
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	config := blocks{
		policy:    fmt.Sprintf("domains sql_table {\ndriver postgres\ndsn %q\ntable_name tls_domains\n}", dsn),
		endpoints: anyoneDirect("smtp", ""),
	}
	s, other := newServer(t, mailtest.Behaviour{}), newServer(t, mailtest.Behaviour{})
	s.config(config)
	other.config(config)
	s.start()
	send := s.sends()
	check := func(when, domain, want string) {
		t.Helper()
		if got := send(domain); got != want {
			t.Errorf("%s: %s: %s, want %s", when, domain, got, want)
		}
	}
	const (
		strict  = "451 4.7.4, yes table, no default"
		silent  = "accepted, no default, no default"
		unknown = "451 4.3.5, unknown <nil>, unknown <nil>"
	)
	s.mustCommand("tls", "domain", "set", "strict.example", "require_tls=yes")
	check("at first", "strict.example", strict)

	exec("DROP TABLE tls_domains")
	check("lost", "strict.example", strict)
	check("lost", "unknown.example", unknown)
	for _, line := range []string{"list", "get strict.example", "set a.example require_tls=yes", "unset strict.example"} {
		out, ok := s.command(append([]string{"tls", "domain"}, strings.Fields(line)...)...)
		if ok || !strings.Contains(out, "table tls_domains: the table does not exist") {
			t.Errorf("%s: %s", line, out)
		}
		check("lost, after "+line, "strict.example", strict)
	}

	other.start()
	check("made anew", "strict.example", strict)
	check("made anew", "unknown.example", unknown)
	s.eventually("the log says what to do", func() bool {
		return strings.Contains(s.stderr.String(), "the table had rows before it failed, and is empty now")
	})

	exec("INSERT INTO tls_domains VALUES ('strict.example', 'require_tls=yes')")
	check("restored", "unknown.example", silent)
	check("restored", "strict.example", strict)
	s.mustCommand("tls", "domain", "unset", "strict.example")
	check("the last row of a table that answers", "strict.example", silent)
}
