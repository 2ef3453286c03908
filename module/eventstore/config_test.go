package eventstore

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/google/go-cmp/cmp"
)

// block parses text, as it would stand in maddy.conf, and returns its first
// block.
func block(t *testing.T, text string) config.Node {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return nodes[0]
}

func TestParse(t *testing.T) {
	t.Parallel()
	plain := settings{
		driver: "sqlite3", dsn: "/state/event_store/e.db", keep: 30 * 24 * time.Hour, journal: "/state/event_store/e.journal",
		size: 1 << 30, headers: []string{"message-id", "from", "to", "subject"},
	}
	with := func(change func(*settings)) settings {
		s := plain
		change(&s)
		return s
	}
	for _, c := range []struct {
		name, text string
		want       settings
	}{
		{"e", "", plain},
		{"", "", with(func(s *settings) {
			s.dsn, s.journal = "/state/event_store/inline.db", "/state/event_store/inline.journal"
		})},
		{"../a b", "", with(func(s *settings) {
			s.dsn, s.journal = "/state/event_store/..%2Fa%20b.db", "/state/event_store/..%2Fa%20b.journal"
		})},
		{"e", "dsn events.db\njournal /var/j/", with(func(s *settings) { s.dsn, s.journal = "/state/events.db", "/var/j" })},
		{"e", "keep 12h\njournal_size 5M", with(func(s *settings) { s.keep, s.size = 12*time.Hour, 5<<20 })},
		{"e", "keep forever\nheaders X-Campaign", with(func(s *settings) { s.keep, s.headers = 0, []string{"x-campaign"} })},
		{"e", "driver postgres\ndsn host=db.example user=maddy dbname=events", with(func(s *settings) {
			s.driver, s.dsn = "postgres", "host=db.example user=maddy dbname=events"
		})},
		{"e", "dsn postgres://maddy@db.example/events\ndriver postgres", with(func(s *settings) {
			s.driver, s.dsn = "postgres", "postgres://maddy@db.example/events"
		})},
	} {
		got, err := parse(block(t, "event_store e {\n"+c.text+"\n}"), c.name, "/state")
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(settings{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const (
		keepHint = "expected a time from 1h to 36500d, such as 30d or 12h, or forever"
		sizeHint = "expected a size from 1M to 1024G, such as 1G"
	)
	for _, c := range []struct{ lines, want string }{
		{"colour red", `2: unexpected directive "colour", expected driver, dsn, keep, journal, journal_size or headers`},
		{"driver", `2: driver: expected sqlite3 or postgres`},
		{"driver mysql", `2: driver: unexpected "mysql", expected sqlite3 or postgres`},
		{"driver sqlite3 postgres", `2: driver: unexpected "postgres" after "sqlite3", expected sqlite3 or postgres`},
		{"driver sqlite3 { }", `2: driver: a block is not allowed here`},
		{"keep 1d\nkeep 2d", `3: keep: stands here twice, first in line 2`},
		{"keep", `2: keep: ` + keepHint[0:]},
		{"keep 30", `2: keep: unexpected "30", ` + keepHint},
		{"keep 0d", `2: keep: unexpected "0d", ` + keepHint},
		{"keep -1d", `2: keep: unexpected "-1d", ` + keepHint},
		{"keep 30m", `2: keep: unexpected "30m", ` + keepHint},
		{"keep 36501d", `2: keep: unexpected "36501d", ` + keepHint},
		{"keep 99999999999h", `2: keep: unexpected "99999999999h", ` + keepHint},
		{"keep 1d 2h", `2: keep: unexpected "2h" after "1d", ` + keepHint},
		{"journal", `2: journal: expected a directory`},
		{`journal ""`, `2: journal: expected a directory`},
		{"journal_size", `2: journal_size: ` + sizeHint},
		{"journal_size 1K", `2: journal_size: unexpected "1K", ` + sizeHint},
		{"journal_size much", `2: journal_size: unexpected "much", ` + sizeHint},
		{"journal_size 2000G", `2: journal_size: unexpected "2000G", ` + sizeHint},
		{"headers", `2: headers: expected at least one field name`},
		{"headers Subject subject", `2: headers: "subject" stands here twice`},
		{"headers Größe", `2: headers: "Größe" is not the name of a header field`},
		{"headers " + strings.TrimSpace(strings.Repeat("x ", 33)), `2: headers: 33 field names, expected at most 32`},
		{"dsn", `2: dsn: expected the path of a file, or a connection string`},
		{"dsn :memory:", `2: dsn: unexpected ":memory:", expected the path of a file`},
		{"dsn file:events.db", `2: dsn: unexpected "file:events.db", expected the path of a file`},
		{"dsn events.db?mode=ro", `2: dsn: unexpected "events.db?mode=ro", expected the path of a file`},
		{"driver postgres", `1: dsn: expected a connection string, because of driver postgres`},
		{"driver postgres\ndsn events.db", `3: dsn: unexpected word, expected NAME=VALUE; a value with spaces is written as '...'`},
		{"driver postgres\ndsn postgres://maddy:secret@db:port/x", `3: dsn: the URL cannot be read`},
		{"driver postgres\ndsn host=db.example sslmode=prefer", `3: dsn: sslmode: unexpected "prefer", expected disable, require, verify-ca or verify-full`},
		{"driver postgres\ndsn postgres://maddy@db.example/x?sslmode=verify", `3: dsn: sslmode: unexpected "verify", expected disable, require, verify-ca or verify-full`},
		{"driver postgres\ndsn host=db.example passfile=/etc/pgpass", `3: dsn: unexpected passfile, expected the file's name in PGPASSFILE in maddy's environment`},
		{"driver postgres\ndsn postgres://maddy@db.example/x?passfile=/etc/pgpass", `3: dsn: unexpected passfile, expected the file's name in PGPASSFILE in maddy's environment`},
	} {
		t.Run(c.lines, func(t *testing.T) {
			t.Parallel()
			err := newModule("e").Init(config.NewMap(nil, block(t, "event_store e {\n"+c.lines+"\n}")))
			if err == nil || err.Error() != "maddy.conf:"+c.want {
				t.Errorf("\n got %v\nwant maddy.conf:%s", err, c.want)
			}
		})
	}
}

func TestInlineArguments(t *testing.T) {
	t.Parallel()
	m, err := New(modName, "", nil, []string{"sqlite3"})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Init(config.NewMap(nil, block(t, "event_store e")))
	if want := `maddy.conf:1: event_store: unexpected "sqlite3", expected a block`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestDirective is not parallel, nor are its cases: maddy's registry of
// blocks has no lock.
func TestDirective(t *testing.T) {
	dir := t.TempDir()
	// The registry lives as long as the process and remembers names.
	prefix := filepath.Base(filepath.Dir(dir)) + "-"
	named, broken := newModule(prefix+"events"), newModule(prefix+"broken")
	register := func(m module.Module, text string) {
		module.RegisterInstance(m, config.NewMap(nil, block(t, text)))
	}
	files := "\n dsn " + dir + "/e.db\n journal " + dir + "/j\n"
	register(named, "event_store e {"+files+"}")
	register(broken, "event_store e {\n keep x\n}")
	register(otherModule{name: prefix + "other"}, "other o")
	t.Cleanup(func() { named.Close() })

	for _, c := range []struct{ text, want string }{
		{"event_store", "1: event_store: expected &name or a block"},
		{"event_store &", `1: event_store: unexpected "&", expected &name or a block`},
		{"event_store events", `1: event_store: unexpected "events", expected &name or a block`},
		{"event_store &a b", `1: event_store: unexpected "b", expected &name or a block`},
		{"event_store &test-events { }", "1: event_store: a block is not allowed after &test-events"},
		{"event_store &test-nowhere", `1: event_store: there is no block named "test-nowhere"`},
		{"event_store &test-other", "1: event_store: &test-other is a block of other, expected one of event_store"},
		{"event_store &test-broken", `2: keep: unexpected "x", expected a time from 1h to 36500d, such as 30d or 12h, or forever`},
	} {
		got, err := Directive(config.NewMap(nil, config.Node{}), block(t, strings.ReplaceAll(c.text, "test-", prefix)))
		if err == nil || err.Error() != "maddy.conf:"+strings.ReplaceAll(c.want, "test-", prefix) {
			t.Errorf("%q: got %v, %v\nwant %s", c.text, got, err, c.want)
		}
	}
	got, err := Directive(config.NewMap(nil, config.Node{}), block(t, "event_store &"+prefix+"events"))
	if err != nil || got != named || named.Observer() == nil || named.Store() == nil || named.InstanceName() == "" {
		t.Fatalf("reference: %v, %v", got, err)
	}
	// Its journal is taken.
	_, err = Directive(config.NewMap(nil, config.Node{}), block(t, "event_store {"+files+"}"))
	if want := "maddy.conf:1: journal: " + dir + "/j is that of the block at maddy.conf:1, expected one for each"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := named.Close(); err != nil {
		t.Fatal(err)
	}
	got, err = Directive(config.NewMap(nil, config.Node{}), block(t, "event_store {"+files+"}"))
	if err != nil {
		t.Fatal(err)
	}
	if inline := got.(*Module); inline.InstanceName() != "" || inline.Name() != modName || inline.Close() != nil {
		t.Errorf("inline: %+v", inline)
	}
}

type otherModule struct{ name string }

func (otherModule) Init(*config.Map) error { return nil }
func (otherModule) Name() string           { return "other" }
func (m otherModule) InstanceName() string { return m.name }

func TestRegistered(t *testing.T) {
	t.Parallel()
	if module.Get(modName) == nil {
		t.Error("event_store is not registered")
	}
	m := newModule("e")
	if m.Observer() != nil || m.Store() != nil || m.Close() != nil {
		t.Error("a block that was not read does something")
	}
}

// TestLogNamesTheBlock: of several stores the log says which one has trouble.
func TestLogNamesTheBlock(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"events": "event_store/events", "": "event_store"} {
		if got := newModule(name).log.Name; got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
}
