package tests

import (
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
	if got := relays[1].mustCommand("tls", "domain", "list"); got != "No domains." {
		t.Errorf("list: %s", got)
	}
}
