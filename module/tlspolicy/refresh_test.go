package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"tlscontrol/internal/table"
)

// A change that somebody else made counts while the table fails, also on a relay
// that had no mail of the domain since.
func TestRefresh(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=no", "gone.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	for _, domain := range []string{"a.example", "new.example", "gone.example", "broken.example"} {
		m.settings(domain)
	}
	rows.set("a.example", "require_tls=yes")
	rows.set("new.example", "require_tls=yes")
	rows.set("broken.example", "require_tls=nes")
	if err := rows.RemoveKey("gone.example"); err != nil {
		t.Fatal(err)
	}
	c.forward(refreshEvery)
	m.refresh(context.Background())
	rows.fails(errors.New("down"))
	c.forward(refreshEvery)
	m.refresh(context.Background()) // changes nothing
	for domain, want := range map[string]string{
		"a.example":      `true row "a.example", last known as of 2026-11-26T12:00:30Z`,
		"new.example":    `true row "new.example", last known as of 2026-11-26T12:00:30Z`,
		"gone.example":   "false ",
		"broken.example": "error",
	} {
		if got := m.settings(domain); got != want {
			t.Errorf("%s: got %s, want %s", domain, got, want)
		}
	}
}

// What counts while the table fails counts from the last answer on, for domains that
// had mail lately; of others nothing is asked for, and nothing known any more.
func TestRefreshWhatIsUsed(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes", "b.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	m.settings("a.example")
	m.settings("b.example")
	for range 260 {
		c.forward(refreshEvery)
		if now := c.now(); now.Minute() == 30 && now.Second() == 0 {
			m.settings("b.example") // had mail half an hour after noon, and an hour later
		}
		m.refresh(context.Background())
	}
	if asked := m.last.stale(0); len(asked) != 1 || asked[0] != "b.example" {
		t.Errorf("asks for %v", asked)
	}
	rows.fails(errors.New("down"))
	if got := m.settings("a.example"); got != "error" {
		t.Errorf("a.example: %s", got)
	}
	if got := m.settings("b.example"); got != `true row "b.example", last known as of 2026-11-26T14:10:00Z` {
		t.Errorf("b.example: %s", got)
	}
}

// A table that does not answer is asked once, and not for ever; Close does not wait
// for it longer.
func TestRefreshOfAHangingTable(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes", "b.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	m.settings("a.example")
	m.settings("b.example")
	c.forward(refreshEvery)
	release := make(chan struct{})
	defer close(release)
	rows.hangs(release)
	m.last.patience = 50 * time.Millisecond
	m.refresh(context.Background())
	if stale := m.last.stale(refreshEvery); len(stale) != 2 {
		t.Errorf("known meanwhile: all but %v", stale)
	}
	m.last.patience = time.Hour
	m.startRefresh(time.Millisecond)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// It goes by itself, until Close.
func TestRefreshByItself(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=no"})
	m, c, _ := withClock(t, rows)
	m.settings("a.example")
	c.forward(refreshEvery)
	rows.set("a.example", "require_tls=yes")
	m.startRefresh(time.Millisecond)
	for deadline := time.Now().Add(time.Minute); len(m.last.stale(refreshEvery)) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("not asked again")
		}
		time.Sleep(time.Millisecond)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	rows.fails(errors.New("down"))
	if got := m.settings("a.example"); got != `true row "a.example", last known as of 2026-11-26T12:00:30Z` {
		t.Errorf("got %s", got)
	}
}

// slowly is a table that takes its time to answer.
type slowly struct {
	*mutableTable
	c    *clock
	time time.Duration
}

func (s slowly) Lookup(ctx context.Context, key string) (string, bool, error) {
	s.c.forward(s.time)
	return s.mutableTable.Lookup(ctx, key)
}

// Strangers, who can make up any number of domains, do not keep rows from being asked
// for each time; and what was not asked for in one is so in the next.
func TestRefreshRowsFirst(t *testing.T) {
	t.Parallel()
	rows := newRows(map[string]string{"a.example": "require_tls=yes"})
	m, c, _ := withClock(t, rows)
	for i := range 6 {
		m.settings(fmt.Sprintf("stranger%d.example", i))
	}
	m.settings("a.example")
	m.table = table.New(slowly{rows, c, refreshEvery / 3})
	asked := make(map[string]int)
	for range 3 {
		c.forward(refreshEvery)
		rows.log = nil
		m.refresh(context.Background())
		if len(rows.log) > 4 || rows.log[0] != "ask a.example" {
			t.Errorf("asked %q", rows.log)
		}
		for _, what := range rows.log {
			asked[what]++
		}
	}
	if len(asked) != 7 {
		t.Errorf("asked for %v", asked)
	}
}

// A panic ends a round, and not the process.
func TestRefreshPanics(t *testing.T) {
	t.Parallel()
	rows := newRows(nil)
	m, c, _ := withClock(t, rows)
	m.settings("a.example")
	c.forward(refreshEvery)
	m.table = nil
	m.refresh(context.Background())
}
