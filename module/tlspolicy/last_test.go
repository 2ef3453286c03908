package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// clock is a time that tests set.
type clock struct {
	lock sync.Mutex
	at   time.Time
}

func (c *clock) now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.at = c.at.Add(d)
}

// withClock returns a module with the table, whose time is that of the clock.
func withClock(t *testing.T, rows *mutableTable) (*Module, *clock, *logBook) {
	t.Helper()
	m, book := withTable(t, rows)
	c := &clock{at: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
	m.last.now = c.now
	return m, c, book
}

// settings tells what counts for a domain: require_tls and its place, or the
// error.
func (m *Module) settings(domain string) string {
	s, err := m.resolve(context.Background(), domain, "to.example", policy.Override{})
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%v %s", s.RequireTLS, s.RequireTLSPlace)
}

// While the table fails, deliveries go on with what it last said, of the
// domains that were asked for, for an hour.
func TestLastKnownRow(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes", "b.example": "require_tls=yes"})
	m, c, book := withClock(t, rows)
	const fresh = `true row "a.example"`
	if got := m.settings("A.example"); got != fresh {
		t.Errorf("got %s", got)
	}
	if got := m.settings("none.example"); got != "false " {
		t.Errorf("got %s", got)
	}

	rows.fails(errors.New("down"))
	for _, tt := range []struct {
		after  time.Duration
		domain string
		want   string
	}{
		{0, "a.example", fresh + ", last known as of 2026-11-26T12:00:00Z"},
		{0, "none.example", "false "},
		{0, "b.example", "error"}, // never asked for
		{time.Hour, "a.example", fresh + ", last known as of 2026-11-26T12:00:00Z"},
		{time.Second, "a.example", "error"},
		{0, "none.example", "error"},
	} {
		c.forward(tt.after)
		if got := m.settings(tt.domain); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.domain, got, tt.want)
		}
	}
	const first = `tls_policy/p: domains table fails, going on with what it last said	{"as_of":"2026-11-26T12:00:00Z","key":"a.example","reason":"domains table, row \"a.example\": down"}`
	if got := book.lines[0]; got != first {
		t.Errorf("logged %s", got)
	}
	if n := len(book.lines); n != 5 { // and one after an hour, and three that are deferred
		t.Errorf("%d lines:\n%s", n, book.text())
	}

	// It answers again: what it says counts at once.
	rows.fails(nil)
	rows.set("a.example", "require_tls=no")
	if got := m.settings("a.example"); got != `false row "a.example"` {
		t.Errorf("got %s", got)
	}
}

// A row that was broken before the table failed is not replaced by the one
// before.
func TestBrokenRowIsLastKnown(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=no"})
	m, _, _ := withClock(t, rows)
	m.settings("a.example")
	rows.set("a.example", "require_tls=nes")
	if got := m.settings("a.example"); got != "error" {
		t.Errorf("broken: %s", got)
	}
	rows.fails(errors.New("down"))
	if got := m.settings("a.example"); got != "error" {
		t.Errorf("broken, then down: %s", got)
	}
}

func TestKeepOff(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes"})
	m, _, _ := withClock(t, rows)
	m.last.keep = mustLoad(t, "tls_policy p {\ndomains file a b\ndomains_keep off\n}").last.keep
	m.settings("a.example")
	rows.fails(errors.New("down"))
	if got := m.settings("a.example"); got != "error" {
		t.Errorf("got %s", got)
	}
}

// What was set or removed here is known without another question.
func TestChangesAreKnown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rows := newRows(map[string]string{"b.example": "require_tls=yes"})
	m, _, _ := withClock(t, rows)
	if _, err := m.Domains().Set(ctx, "a.example", Changes{"require_tls": "yes"}); err != nil {
		t.Fatal(err)
	}
	m.settings("b.example")
	if err := m.Domains().Unset(ctx, "b.example"); err != nil {
		t.Fatal(err)
	}
	rows.fails(errors.New("down"))
	if got := m.settings("a.example"); got != `true row "a.example", last known as of 2026-11-26T12:00:00Z` {
		t.Errorf("got %s", got)
	}
	if got := m.settings("b.example"); got != "false " {
		t.Errorf("got %s", got)
	}
}

// An answer that was overtaken by a later one does not count.
func TestOvertakenAnswer(t *testing.T) {
	t.Parallel()
	m, c, _ := withClock(t, newRows(nil))
	asked := c.now()
	c.forward(time.Second)
	m.last.put("a.example", &row{key: "a.example", settings: policy.Block{RequireTLS: policy.Yes}}, nil, c.now())
	m.last.put("a.example", nil, nil, asked)
	m.last.put("a.example", &row{key: "a.example", settings: policy.Block{RequireTLS: policy.No}}, nil, asked)
	if l, ok := m.last.get("a.example"); !ok || l.row == nil || l.row.settings.RequireTLS != policy.Yes {
		t.Errorf("got %+v, %v", l, ok)
	}
}

// A table that hangs makes one message wait for it now and then, not each.
func TestHangingTableRests(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	m.settings("a.example")
	m.last.patience = 1 // a nanosecond
	hang := make(chan struct{})
	rows.hangs(hang)
	if got := m.settings("a.example"); got != `true row "a.example", last known as of 2026-11-26T12:00:00Z` {
		t.Errorf("got %s", got)
	}
	rows.hangs(nil)
	close(hang)
	m.last.patience = time.Hour
	if got := m.settings("a.example"); got != `true row "a.example", last known as of 2026-11-26T12:00:00Z` {
		t.Errorf("asked again at once: %s", got)
	}
	// Of others nothing is known: they have to ask, and an answer ends the rest.
	if got := m.settings("b.example"); got != "false " {
		t.Errorf("got %s", got)
	}
	if got := m.settings("a.example"); got != `true row "a.example"` {
		t.Errorf("got %s", got)
	}
	m.last.rest()
	c.forward(restTime)
	if got := m.settings("a.example"); got != `true row "a.example"` {
		t.Errorf("after the rest: %s", got)
	}
}

// What is remembered is bounded, and made-up domains push out none with a row.
func TestLastKnownIsBounded(t *testing.T) {
	t.Parallel()
	m, _, _ := withClock(t, newRows(map[string]string{"a.example": "require_tls=yes"}))
	m.settings("a.example")
	for i := range 5 * maxLast / 2 {
		m.last.put(fmt.Sprintf("made-up-%d.example", i), nil, nil, m.last.now())
	}
	if n := len(m.last.without.young) + len(m.last.without.old); n > 2*maxLast {
		t.Errorf("%d domains are remembered", n)
	}
	if _, ok := m.last.get("a.example"); !ok {
		t.Error("the domain with a row is forgotten")
	}
	if _, ok := m.last.get("made-up-0.example"); ok {
		t.Error("the first made-up one is not")
	}
}

var _ table.Table = (*mutableTable)(nil)

// A file that was gone may still pass for empty when it is back: until maddy has
// reread it, what is not found counts as not known.
func TestFileBack(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	m.file.path = filepath.Join(t.TempDir(), "domains")
	write := func() {
		t.Helper()
		if err := os.WriteFile(m.file.path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	m.settings("a.example")
	if err := os.Remove(m.file.path); err != nil {
		t.Fatal(err)
	}
	const last = `true row "a.example", last known as of 2026-11-26T12:00:00Z`
	if got := m.settings("a.example"); got != last {
		t.Errorf("gone: %s", got)
	}
	rows.rows = nil
	write()
	if got := m.settings("a.example"); got != last {
		t.Errorf("back: %s", got)
	}
	if got := m.settings("b.example"); got != "error" {
		t.Errorf("back, another domain: %s", got)
	}
	c.forward(rereadTime)
	if got := m.settings("a.example"); got != "false " {
		t.Errorf("reread: %s", got)
	}
}
