package events

import (
	"testing"

	"tlscontrol/internal/pgtest"
)

// TestHalves: PostgreSQL stores a large batch in two transactions. All of it is
// there once, and a document that it refuses costs no other one.
func TestHalves(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: Postgres, DSN: pgtest.Shared(t).Database(t)})
	if err := w.db.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 2 * enoughForTwo
	var rows []columnsAndDocument
	for i := range n + 500 { // the last come twice, far from each other
		e := event(t, fact{n: (i * 7) % n}.document())
		rows = append(rows, columnsAndDocument{e.columns, e.document})
	}
	rows[3].document = []byte("\xff")
	half, err := w.db.store(t.Context(), rows)
	if err == nil || !w.db.badDocument(err) || half == 0 || half == n {
		t.Errorf("with a bad document: %d stored, %v", half, err)
	}
	for i := range rows {
		if len(rows[i].document) == 1 {
			rows[i].document = []byte(fact{n: 21}.document())
		}
	}
	if rest, err := w.db.store(t.Context(), rows); half+rest != n || err != nil {
		t.Errorf("%d stored, then %d, %v", half, rest, err)
	}
	if stored, err := w.db.store(t.Context(), rows); stored != 0 || err != nil {
		t.Errorf("again: %d stored, %v", stored, err)
	}
	if got, _ := w.ask(t, Query{Ascending: true, Limit: 3}); got != "0 1 2" {
		t.Errorf("got %s", got)
	}
	var there int
	if err := w.db.read.QueryRow("SELECT count(*) FROM events").Scan(&there); err != nil || there != n {
		t.Errorf("%d are there, %v", there, err)
	}
}
