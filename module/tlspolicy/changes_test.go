package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What is read and differs from what was known is a line in the log, whoever changed it;
// what is read for the first time, or changed from here, is none.
func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rows := newRows(map[string]string{"a.example": "require_tls=yes", "b.example": "skip_verification=yes on_failure=reject"})
	m, c, book := withClock(t, rows)
	known := []string{"a.example", "b.example", "none.example"}
	next := func() string {
		t.Helper()
		book.lock.Lock()
		book.lines = nil
		book.lock.Unlock()
		c.forward(refreshEvery)
		m.refresh(ctx)
		return book.text()
	}
	for _, domain := range known {
		m.settings(domain)
	}
	if got := next(); got != "" {
		t.Errorf("nothing has changed: %s", got)
	}
	change := func(domain, row string) {
		if row == "" {
			rows.RemoveKey(domain)
			return
		}
		rows.set(domain, row)
	}
	for _, tt := range []struct{ domain, row, want string }{
		{"a.example", "require_tls=no", `"domain":"a.example","known_since":"2026-11-26T12:00:30Z","require_tls":"no","require_tls_before":"yes","seen_in":"table","skip_verification":"absent","skip_verification_before":"absent"`},
		{"a.example", "require_tls=false", ""}, // the same in other words
		{"none.example", "skip_verification=yes", `"require_tls":"absent","require_tls_before":"absent","seen_in":"table","skip_verification":"yes","skip_verification_before":"absent"`},
		{"b.example", "skip_verification=yes", `"on_failure":"absent","on_failure_before":"reject","require_tls":"absent"`},
		{"b.example", "nonsense", `"skip_verification":"unreadable","skip_verification_before":"yes"`},
		{"b.example", "", `"skip_verification":"absent","skip_verification_before":"unreadable"`},
	} {
		change(tt.domain, tt.row)
		got := next()
		if !strings.Contains(got, tt.want) || strings.Count(got, "domain settings changed") != min(1, len(tt.want)) {
			t.Errorf("%s %q: got %s", tt.domain, tt.row, got)
		}
	}
	rows.fails(errors.New("down"))
	next()
	rows.fails(nil)
	if got := next(); strings.Contains(got, "changed") {
		t.Errorf("a table that was away is no change: %s", got)
	}
	d, err := m.Domains().Set(ctx, "a.example", Changes{"require_tls": "yes", "skip_verification": "yes"})
	if err != nil || d.Before == nil || d.Before.RequireTLS || d.Before.SkipVerification || !d.Settings.RequireTLS {
		t.Errorf("got %+v, %v", d, err)
	}
	if err := m.Domains().Unset(ctx, "none.example"); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "" {
		t.Errorf("told by whoever changed it: %s", got)
	}
}

// A table that is filled anew does not fill the log.
func TestChangesAreBounded(t *testing.T) {
	t.Parallel()
	rows := newRows(nil)
	m, c, book := withClock(t, rows)
	const domains = maxChanges + 30
	name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range domains {
		m.settings(name(i))
	}
	change := func(row string) {
		for i := range domains {
			rows.set(name(i), row)
			m.settings(name(i))
		}
	}
	count := func(lines int, more string) {
		t.Helper()
		text := book.text()
		if got := strings.Count(text, "domain settings changed"); got != lines || strings.Count(text, more) != 1 {
			t.Errorf("%d lines, expected %d, and %s once: %s", got, lines, more, text)
		}
	}
	change("require_tls=yes")
	c.forward(changeTime)
	m.refresh(context.Background())
	count(maxChanges, `settings of more domains changed	{"changes":30,"seen_in":"table"}`)
	change("require_tls=no")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if text := book.text(); strings.Count(text, `{"changes":30,"seen_in":"table"}`) != 2 {
		t.Error(text)
	}
}
