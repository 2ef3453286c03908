package events

import (
	"context"
	"testing"
)

// TestReadyAsksTheTable: a database that answers and does not have the table of events
// is not ready, with events and without.
func TestReadyAsksTheTable(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		w := start(t, cfg)
		w.put(t, fact{n: 1})
		change := func(sql string, ready bool) {
			t.Helper()
			if _, err := w.db.write.ExecContext(ctx, sql); err != nil {
				t.Fatal(err)
			}
			if err := w.Ready(ctx); (err == nil) != ready {
				t.Errorf("after %s: %v", sql, err)
			}
		}
		change("ALTER TABLE events RENAME TO events_x", false)
		change("ALTER TABLE events_x RENAME TO events", true)
		change("DELETE FROM events", true)
	})
}
