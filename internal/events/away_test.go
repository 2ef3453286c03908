package events

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tlscontrol/internal/pgtest"
)

// TestSQLiteAwayAtStart: a store starts without its database, and events that
// come meanwhile follow.
func TestSQLiteAwayAtStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(dir, "events.db")})
	w.Add(event(t, fact{n: 1}.document()))
	w.count.await(t, "the journal", func() bool { return w.count.backlog > 0 })
	if _, err := w.Query(context.Background(), Query{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a question is answered with %v", err)
	}
	if err := w.Ready(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	w = w.again(t) // still away; the journal has it
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.put(t, fact{n: 2})
	w.count.awaitStored(t, 2)
	if got, _ := w.ask(t, Query{Ascending: true}); got != "1 2" {
		t.Errorf("got %s", got)
	}
	w.count.await(t, "an empty journal", func() bool { return w.count.backlog == 0 })
}

// TestSQLiteGarbage: a file that is no database keeps nobody from starting, and
// is not written to.
func TestSQLiteGarbage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	const garbage = "this is somebody's shopping list, and it is longer than a header"
	if err := os.WriteFile(file, []byte(garbage), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, Config{Driver: SQLite, DSN: file})
	w.Add(event(t, fact{n: 1}.document()))
	w.count.await(t, "a report", func() bool {
		return w.log.has("the database: is away since 2") && w.log.has("Z, events wait in the journal: ")
	})
	if text, err := os.ReadFile(file); string(text) != garbage || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.count.awaitStored(t, 1)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.log.has("the database: is back") {
		t.Errorf("%q", w.log.all)
	}
}

// TestSQLiteRemoved: with its file removed, or another one in its place, a store
// does not write to what nobody can open again.
func TestSQLiteRemoved(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	w := start(t, Config{Driver: SQLite, DSN: file})
	w.put(t, fact{n: 1})
	if got, _ := w.ask(t, Query{}); got != "1" {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{file, file + "-wal", file + "-shm"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Ready(context.Background()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	w.put(t, fact{n: 2})
	if got, _ := w.ask(t, Query{}); got != "2" {
		t.Errorf("got %s", got)
	}
	if err := os.Rename(file, file+".old"); err != nil { // the others stay
		t.Fatal(err)
	}
	w.put(t, fact{n: 3})
	if got, _ := w.ask(t, Query{}); got != "3" {
		t.Errorf("got %s", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if !w.log.has("the database file: was removed or replaced, what comes from now on goes to " + file) {
		t.Errorf("%q", w.log.all)
	}
}

// TestPostgresAwayAndBack: the server goes while events come, and comes back.
func TestPostgresAwayAndBack(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	w := start(t, Config{Driver: Postgres, DSN: c.Database(t)})
	w.put(t, fact{n: 1})
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 1500; n++ {
		w.Add(event(t, fact{n: n}.document()))
	}
	w.count.await(t, "the journal", func() bool { return w.count.backlog > 1000*100 })
	if _, err := w.Query(context.Background(), Query{}); err == nil {
		t.Error("a server that is away answers")
	}
	w = w.again(t) // a restart meanwhile
	w.Add(event(t, fact{n: 1500}.document()))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.count.awaitStored(t, 1499)
	if _, lost := w.count.numbers(); lost != 0 {
		t.Errorf("%d lost", lost)
	}
	st, err := w.Stats(context.Background(), epoch, epoch.Add(10000e9), 10000e9, nil)
	if err != nil || len(st.Buckets) == 0 {
		t.Fatal(err)
	}
	var n int64
	for _, b := range st.Buckets {
		n += b.Plaintext
	}
	if n != 1500 {
		t.Errorf("%d of 1500", n)
	}
}

// TestSeveralRelays: stores that start at once share one database.
func TestSeveralRelays(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).Database(t)
	var all []*world
	for range 4 {
		all = append(all, start(t, Config{Driver: Postgres, DSN: dsn}))
	}
	for i, w := range all {
		w.put(t, fact{n: i}, fact{n: 10 + i})
	}
	for _, w := range all {
		if got, _ := w.ask(t, Query{Ascending: true}); got != "0 1 2 3 10 11 12 13" {
			t.Errorf("got %s", got)
		}
	}
}
