package tlspolicy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

const asOfNoon = `true row "a.example", last known as of 2026-11-26T12:00:00Z`

// emptied returns a module that knows of a row, and whose table failed and came back empty.
func emptied(t *testing.T) (*Module, *mutableTable, *clock, *logBook) {
	t.Helper()
	rows := newRows(map[string]string{"a.example": "require_tls=yes", "b.example": "require_tls=no"})
	m, c, book := withClock(t, rows)
	m.settings("a.example")
	c.forward(time.Second)
	rows.fails(errors.New(`pq: relation "tls_domains" does not exist`))
	m.settings("a.example")
	c.forward(time.Second)
	rows.fails(nil)
	rows.clear()
	return m, rows, c, book
}

// clear removes all rows, as SQL does.
func (m *mutableTable) clear() {
	m.lock.Lock()
	defer m.lock.Unlock()
	clear(m.rows)
}

// A table that failed and comes back empty is not believed, however long that lasts, until
// it has a row.
func TestEmptyTable(t *testing.T) {
	t.Parallel()
	m, rows, c, book := emptied(t)
	c.forward(tellTime)
	for range 2 {
		for domain, want := range map[string]string{"a.example": asOfNoon, "new.example": "error"} {
			if got := m.settings(domain); got != want {
				t.Errorf("%s: got %s, want %s", domain, got, want)
			}
		}
		m.refresh(context.Background())
	}
	if text := book.text(); !strings.Contains(text, "restore the rows, or, if it is meant to be empty, restart maddy or change a setting over the API") {
		t.Errorf("the log does not say what to do:\n%s", text)
	}
	if _, err := m.Domains().Get(context.Background(), "a.example"); !errors.Is(err, errEmptied) {
		t.Errorf("get: %v", err) // as /readyz asks
	}
	c.forward(2 * time.Hour)
	if got := m.settings("a.example"); got != "error" {
		t.Errorf("later than domains_keep: %s", got)
	}
	rows.set("b.example", "require_tls=no")
	for domain, want := range map[string]string{"new.example": "false ", "a.example": "false ", "b.example": `false row "b.example"`} {
		if got := m.settings(domain); got != want {
			t.Errorf("with a row: %s: got %s, want %s", domain, got, want)
		}
	}
	rows.clear()
	if got := m.settings("b.example"); got != "false " {
		t.Errorf("the last row of a table that did not fail again: %s", got)
	}
}

// Rows that are restored count at once.
func TestEmptyTableRestored(t *testing.T) {
	t.Parallel()
	m, rows, _, _ := emptied(t)
	if got := m.settings("a.example"); got != asOfNoon {
		t.Errorf("empty: %s", got)
	}
	rows.set("a.example", "require_tls=yes")
	if got := m.settings("a.example"); got != `true row "a.example"` {
		t.Errorf("restored: %s", got)
	}
}

// Who changes a setting here means the table that is there.
func TestEmptyTableIsMeant(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m, _, c, _ := emptied(t)
	m.settings("a.example")
	if err := m.Domains().Unset(ctx, "a.example"); err == nil {
		t.Error("a row that is not there was removed")
	}
	if got := m.settings("a.example"); got != asOfNoon {
		t.Errorf("nothing was changed: %s", got)
	}
	c.forward(time.Second)
	if _, err := m.Domains().Set(ctx, "c.example", Changes{"require_tls": "yes"}); err != nil {
		t.Fatal(err)
	}
	if err := m.Domains().Unset(ctx, "c.example"); err != nil {
		t.Fatal(err)
	}
	if got := m.settings("a.example") + m.settings("new.example"); got != "false false " {
		t.Errorf("got %s", got)
	}
}

// A table is believed that never failed, of which no row is known any more, or that cannot
// list what it has.
func TestEmptyTableIsBelieved(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*Module, *mutableTable, *clock){
		"never failed": func(m *Module, _ *mutableTable, _ *clock) { m.settings("a.example") },
		"no row known": func(m *Module, rows *mutableTable, _ *clock) {
			m.settings("new.example")
			rows.fails(errors.New("down"))
			m.settings("new.example")
		},
		"known too long ago": func(m *Module, rows *mutableTable, c *clock) {
			m.settings("a.example")
			c.forward(defaultKeep + time.Second)
			rows.fails(errors.New("down"))
			m.settings("a.example")
		},
		"row removed before": func(m *Module, rows *mutableTable, c *clock) {
			m.settings("a.example")
			rows.clear()
			c.forward(refreshEvery)
			m.refresh(context.Background())
			rows.fails(errors.New("down"))
			m.settings("a.example")
		},
	} {
		rows := newRows(map[string]string{"a.example": "require_tls=yes"})
		m, c, _ := withClock(t, rows)
		before(m, rows, c)
		rows.fails(nil)
		rows.clear()
		if got := m.settings("a.example"); got != "false " {
			t.Errorf("%s: %s", name, got)
		}
	}

	m, book := withTable(t, &fakeTable{rows: map[string]string{"a.example": "require_tls=yes"}})
	m.settings("a.example")
	m.last.put("a.example", nil, &TableError{Err: errors.New("down")}, m.last.now())
	if got := m.settings("new.example"); got != "false " {
		t.Errorf("a table without a list: %s\n%s", got, book.text())
	}
}

// An answer from before the failure does not end the doubt, one from after it does.
func TestDoubtAndOrder(t *testing.T) {
	t.Parallel()
	m, c, _ := withClock(t, newRows(map[string]string{"a.example": "require_tls=yes"}))
	m.settings("a.example")
	early := c.now()
	c.forward(time.Second)
	m.last.put("a.example", nil, &TableError{Err: errors.New("down")}, c.now())
	m.last.put("b.example", nil, nil, early)
	if !m.last.doubtful() {
		t.Error("an old answer ended the doubt")
	}
	m.last.put("b.example", nil, nil, c.now())
	if m.last.doubtful() {
		t.Error("a new answer did not end the doubt")
	}
}
