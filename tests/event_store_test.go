package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/events"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/pgtest"
)

// TestEventStoreHasTheLog: what the log has is in the database, line by line,
// with the same ids.
func TestEventStoreHasTheLog(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]func(t *testing.T) string{
		events.SQLite:   func(*testing.T) string { return "" },
		events.Postgres: func(t *testing.T) string { return "driver postgres\ndsn " + quoted(pgtest.New(t).Database(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directives := block(t)
			s := newServer(t, mailtest.Behaviour{})
			s.config(blocks{
				endpoints: twoDoors, target: "event_store &events",
				more: "event_store events {\nheaders message-id\n" + directives + "\n}",
			})
			s.start()
			for range 10 {
				s.mustSubmit(mail{anonymous: true, port: atTarget})
			}
			s.eventually("10 events", func() bool {
				return s.metric(`maddy_remote_tls_events_total{module="events",result="stored"}`) == 10
			})
			s.stop()
			cfg := events.Config{Driver: events.SQLite, DSN: s.path("state/event_store/events.db")}
			if directives != "" {
				cfg.Driver, cfg.DSN = events.Postgres, strings.Trim(strings.SplitN(directives, "dsn ", 2)[1], `"`)
			}
			sameAsLog(t, s, cfg)
		})
	}
}

func quoted(s string) string { return `"` + s + `"` }

// TestKill9KeepsEvents: events that the database had not taken yet are stored by
// the next process.
func TestKill9KeepsEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{
		endpoints: twoDoors, target: "event_store &events",
		more: "event_store events {\nheaders message-id\ndsn {dir}/away/events.db\njournal {dir}/journal\n}",
	})
	s.start()
	for range 10 {
		s.mustSubmit(mail{anonymous: true, port: atTarget})
	}
	s.eventually("10 lines in the journal", func() bool {
		names, _ := filepath.Glob(s.path("journal/*.journal"))
		n := 0
		for _, name := range names {
			text, _ := os.ReadFile(name)
			n += bytes.Count(text, []byte("\n"))
		}
		return n == 10
	})
	s.kill()
	if err := os.Mkdir(s.path("away"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.eventually("10 events", func() bool {
		return s.metric(`maddy_remote_tls_events_total{module="events",result="stored"}`) == 10
	})
	s.stop()
	sameAsLog(t, s, events.Config{Driver: events.SQLite, DSN: s.path("away/events.db")})
}

// sameAsLog compares the database with the log.
func sameAsLog(t *testing.T, s *server, cfg events.Config) {
	t.Helper()
	cfg.Journal = journal.Config{Dir: filepath.Join(t.TempDir(), "journal"), MaxBytes: 1 << 20}
	store, err := events.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s.eventually("the database answers", func() bool { return store.Ready(context.Background()) == nil })
	p, err := store.Query(context.Background(), events.Query{Ascending: true})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(s.path("deliveries.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(log)), "\n")
	var got []string
	for _, item := range p.Items {
		got = append(got, string(item))
		if !json.Valid(item) {
			t.Errorf("not JSON: %s", item)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || len(got) != 10 {
		t.Errorf("database:\n%s\nlog:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
