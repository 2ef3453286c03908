package tests

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/pgtest"
)

// relayOf is the configuration of one of several relays, with all that they share in
// the database that dsn leads to.
func relayOf(dsn string) blocks {
	table := func(name string) string {
		return fmt.Sprintf("sql_table {\ndriver postgres\ndsn %q\ntable_name %s\n}\n", dsn, name)
	}
	return blocks{
		policy: "domains " + table("tls_domains"),
		target: "event_store &events\ntlsrpt {\nfrom reports@relay.example.com\nmail no\n" +
			fmt.Sprintf("driver postgres\ndsn %q\n}", dsn),
		more: fmt.Sprintf("event_store events {\ndriver postgres\ndsn %q\n}\n", dsn),
		endpoints: "http_api tcp://{ip}:{smtp} {\npolicy &outbound_policy\ndeliver_to &remote_queue\nstore &events\nkeys " +
			table("api_keys") + "}\n" + anyoneDirect("smtp2", ""),
	}
}

// stories is how many events of an address a relay tells of.
func (s *server) stories(key, recipient string) int {
	s.Helper()
	status, body := s.call("GET", "/v3/example.com/events?recipient="+url.QueryEscape(recipient), key, nil)
	if status != 200 {
		return -status
	}
	return strings.Count(body, `"recipient":"`+recipient+`"`)
}

// leaves stops a relay. On a busy machine the end may not be long enough to bring what
// it has counted; then the next one does that.
func (s *server) leaves() {
	s.Helper()
	s.stop()
	for try := 0; try < 2 && strings.Contains(s.stderr.String(), "TLS report data stays here until the next start"); try++ {
		s.start()
		s.stop()
	}
}

// TestSeveralRelays is docs/scale.md: two relays with a queue each share settings,
// keys, events and what they count for TLS reports. While the database is away mail with known settings goes on and
// the API does not, and nothing is missing afterwards.
func TestSeveralRelays(t *testing.T) {
	t.Parallel()
	began := time.Now()
	pg := pgtest.New(t)
	dsn := pg.Database(t)
	a, b := newServer(t, mailtest.Behaviour{}), newServer(t, mailtest.Behaviour{}) // hosts without TLS
	for _, relay := range []*server{a, b} {
		relay.config(relayOf(dsn))
		relay.start()
	}
	send := func(relay *server, to string) string {
		return reply(relay.direct(mail{from: "a@example.com", to: []string{to}, port: "2526"}))
	}

	// What one is told, the other knows.
	key := a.key("")
	if status, body := b.call("PUT", "/v3/domains/example.com/connection", key, url.Values{"require_tls": {"yes"}}); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	a.mustCommand("tls", "domain", "set", "other.example", "require_tls=yes") // so that the table is never empty
	for _, relay := range []*server{a, b} {
		if got := send(relay, "b@example.net"); got != "451 4.7.4" {
			t.Errorf("strict: %s", got)
		}
	}
	if status, body := a.call("POST", "/v3/example.com/messages", key, apiLetter("to", "c@example.net")); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, relay := range []*server{a, b} {
		relay.eventuallyAsking("events of both are told", func() bool {
			return relay.stories(key, "b@example.net") == 4 && relay.stories(key, "c@example.net") == 2
		})
	}

	if err := pg.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, relay := range []*server{a, b} {
		if got := send(relay, "away@example.net"); got != "451 4.7.4" {
			t.Errorf("away: %s", got)
		}
		if status, body := relay.call("POST", "/v3/example.com/messages", key, apiLetter()); status != 503 {
			t.Errorf("away: %d %s", status, body)
		}
	}
	// A relay that comes back by itself after a crash needs its tables.
	b.kill()
	b.launch()
	<-b.exited
	if said := b.stderr.String(); !strings.Contains(said, "domains: init query failed") {
		t.Errorf("it ended because of something else:\n%s", said)
	}

	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	b.start()
	for _, relay := range []*server{a, b} {
		relay.eventuallyAsking("events of the outage follow, those too of the relay that was killed", func() bool {
			return relay.stories(key, "away@example.net") == 2
		})
	}
	a.mustCommand("tls", "domain", "unset", "example.com")
	for _, relay := range []*server{a, b} {
		if got := send(relay, "back@example.net"); got != "accepted" {
			t.Errorf("back: %s", got)
		}
	}

	// Each has counted its sessions, all without TLS, and brings them at the end.
	a.leaves()
	ofA := b.failed(began)
	b.leaves()
	if both := a.failed(began); ofA < 4 || both <= ofA || both != b.failed(began) {
		t.Errorf("failed sessions: %d of one relay, %d of both", ofA, both)
	}
}
