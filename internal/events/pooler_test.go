package events

import (
	"context"
	"testing"

	"tlscontrol/internal/pgtest"
)

// TestPooler: PgBouncer may stand before the database, as docs/scale.md says.
func TestPooler(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Shared(t)
	w := start(t, Config{Driver: Postgres, DSN: cluster.Pooler(t, cluster.Database(t))})
	w.put(t, fact{n: 1}, fact{n: 2, recipient: "b@other.example"})
	if got, _ := w.ask(t, Query{Filter: Is{FieldRecipient, []string{"b@other.example"}}}); got != "2" {
		t.Errorf("got %s", got)
	}
	if err := w.Ready(context.Background()); err != nil {
		t.Error(err)
	}
	w = w.again(t) // by connections that others have used
	w.put(t, fact{n: 3})
	if got, _ := w.ask(t, Query{Ascending: true}); got != "1 2 3" {
		t.Errorf("got %s", got)
	}
	w.keepOnce()
	if w.log.has("cannot") {
		t.Errorf("%q", w.log.all)
	}
}
