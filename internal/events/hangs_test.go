package events

import (
	"context"
	"testing"
	"time"

	"tlscontrol/internal/pgtest"
)

// TestPostgresHangs: a database that says nothing is away when the time of a statement
// is over, and what cannot be removed or looked after meanwhile is told as that.
func TestPostgresHangs(t *testing.T) {
	t.Parallel()
	w := start(t, Config{
		Driver: Postgres, DSN: pgtest.Shared(t).Database(t), Keep: time.Hour,
		storeTimeout: 2 * time.Second, keepTimeout: 200 * time.Millisecond,
	})
	w.put(t, fact{n: 1})
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	lock, err := w.db.read.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback()
	if _, err := lock.ExecContext(ctx, "LOCK TABLE events IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	w.Add(event(t, fact{n: 2}.document()))
	w.count.await(t, "a report", func() bool { return w.log.has("the database: is away since ") })
	w.keepOnce()
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	w.count.awaitStored(t, 2)
	w.count.await(t, "a report", func() bool { return w.log.has("the database: is back since ") })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{
		"removing old events: did not end within 200ms, it goes on in 10m0s (at ",
		"looking after the database: did not end within 200ms, it goes on in 10m0s (at ",
	} {
		if !w.log.has(what) {
			t.Errorf("%q is not in %q", what, w.log.all)
		}
	}
	if w.log.has("cannot be") {
		t.Errorf("%q", w.log.all)
	}
}
