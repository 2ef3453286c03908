package events

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// numbersOf asks page after page, both ways, and returns the numbers of all facts
// that a filter finds, oldest first.
func (w *world) numbersOf(t *testing.T, f Filter) string {
	t.Helper()
	var ways [2][]string
	for i, ascending := range []bool{true, false} {
		for at := (*Cursor)(nil); ; {
			page, p := w.ask(t, Query{Filter: f, Ascending: ascending, After: at, Limit: 3})
			if len(p.Items) == 0 {
				break
			}
			ways[i] = append(ways[i], strings.Fields(page)...)
			at = p.Last
		}
	}
	slices.Reverse(ways[1])
	if !slices.Equal(ways[0], ways[1]) {
		t.Errorf("%v: %q, from the end %q", f, ways[0], ways[1])
	}
	return strings.Join(ways[0], " ")
}

// number returns the answer to a statement that asks for one number.
func (w *world) number(t *testing.T, sql string) (n int64) {
	t.Helper()
	if err := w.db.read.QueryRow(sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// store stores facts in one transaction, past the journal.
func (w *world) store(t *testing.T, facts ...fact) {
	t.Helper()
	if err := w.db.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows []columnsAndDocument
	for _, f := range facts {
		e := event(t, f.document())
		rows = append(rows, columnsAndDocument{e.columns, e.document})
	}
	if _, err := w.db.store(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
}

// misplaced counts events that are not in the part of their time.
const misplaced = "SELECT count(*) FROM events WHERE part <> coalesce(" +
	"(SELECT number FROM events_parts WHERE begins <= ts ORDER BY begins DESC LIMIT 1), " +
	"(SELECT number FROM events_parts ORDER BY begins LIMIT 1))"

// TestParts: events that come in order, late, and with a time in the future are
// found in their order, in as many parts as they fill. Retention removes parts.
func TestParts(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db"), partSize: 200})
	even := Is{FieldRecipient, []string{"even@example.net"}}
	var evens []int
	put := func(from, to int) {
		var facts []fact
		for n := from; n < to; n++ {
			f := fact{n: n}
			if n%2 == 0 {
				f.recipient = "even@example.net"
				evens = append(evens, n)
			}
			facts = append(facts, f)
		}
		slices.Sort(evens)
		for some := range slices.Chunk(facts, 50) {
			w.store(t, some...)
		}
	}
	parts := func() int64 { return w.number(t, "SELECT count(*) FROM events_parts") }
	check := func() {
		t.Helper()
		want := strings.Trim(fmt.Sprint(evens), "[]")
		if got := w.numbersOf(t, even); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		both := Or{even, Is{FieldRecipientDomain, []string{"none.example"}}}
		if got := w.numbersOf(t, both); got != want {
			t.Errorf("%v: got %s", both, got)
		}
		if n := w.number(t, misplaced); n != 0 {
			t.Errorf("%d events are in the wrong part", n)
		}
	}
	put(100_000, 100_001) // from a clock that is wrong
	put(1000, 1800)
	put(200_000, 200_001)
	for n := 950; n >= 600; n -= 50 {
		put(n, n+50)
	}
	put(1800, 2400)
	check()
	filled := parts()
	if filled < 8 || filled > 11 {
		t.Errorf("%d parts for 1802 events", filled)
	}

	if n, err := w.expire(epoch.Add(1500 * time.Second)); n != 900 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	evens = slices.DeleteFunc(evens, func(n int) bool { return n < 1500 })
	w.keepOnce()
	if n := parts(); n > filled-3 {
		t.Errorf("%d parts, %d after half of the events have gone", filled, n)
	}
	check()
	put(500, 600) // too late
	put(2400, 2700)
	check()

	w = w.again(t)
	put(2700, 2800)
	check()
	if _, err := w.expire(epoch.Add(1e6 * time.Hour)); err != nil {
		t.Error(err)
	}
	w.keepOnce()
	evens = nil
	put(3000, 3300)
	check()
	if w.log.has("cannot") {
		t.Errorf("%q", w.log.all)
	}
}

// TestTwoParts: a batch that ends two parts at once.
func TestTwoParts(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db"), partSize: 200})
	facts := func(from, n int) (all []fact) {
		for i := range n {
			all = append(all, fact{n: from + i})
		}
		return all
	}
	w.store(t, facts(1000, 200)...) // part 0 ends
	w.store(t, append(facts(0, 200), facts(2000, 200)...)...)
	if n, of := w.number(t, "SELECT count(DISTINCT number) FROM events_parts"), w.number(t, "SELECT count(*) FROM events_parts"); n != 4 || of != 4 {
		t.Errorf("%d numbers of %d parts, expected 4 of 4", n, of)
	}
	w.store(t, facts(3000, 5)...)
	if n := w.number(t, misplaced); n != 0 {
		t.Errorf("%d events are in the wrong part", n)
	}
	if got := strings.Fields(w.numbersOf(t, Is{FieldRecipient, []string{"b@example.net"}})); len(got) != 605 || !slices.IsSortedFunc(got, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) }) {
		t.Errorf("got %s", got)
	}
}

// TestUpgrade: a file that the first version wrote has all its events afterwards,
// and what comes then is in order with them.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	const old = 300
	oldFile(t, path, old)
	w := start(t, Config{Driver: SQLite, DSN: path, partSize: 100})
	var facts []fact
	for n := range 100 {
		facts = append(facts, fact{n: old - 20 + n}) // some come again
	}
	facts = append(facts, fact{n: 2*old + 1, queueID: "q7"})
	for _, f := range facts {
		w.Add(event(t, f.document()))
	}
	w.count.awaitStored(t, 81)
	w.keepOnce()
	if w.log.has("cannot") {
		t.Errorf("%q", w.log.all)
	}
	var want []string
	for n := range old + 80 {
		want = append(want, fmt.Sprint(n))
	}
	want = append(want, fmt.Sprint(2*old+1))
	for _, f := range []Filter{nil, Is{FieldRecipient, []string{"b@example.net"}}, Is{FieldRecipientDomain, []string{"example.net"}}} {
		if got := w.numbersOf(t, f); got != strings.Join(want, " ") {
			t.Errorf("%v: got %s", f, got)
		}
	}
	story, err := w.Message(context.Background(), "q7", nil)
	if got := numbers(t, story); got != fmt.Sprint("7 ", 2*old+1) || err != nil {
		t.Errorf("the story is %s, %v", got, err)
	}
	if n := w.number(t, misplaced); n != 0 {
		t.Errorf("%d events are in the wrong part", n)
	}
	if n := w.number(t, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'"); n != 0 {
		t.Error("the statistics of the first version are still there")
	}
	if n := w.number(t, "SELECT count(*) FROM events WHERE part = 0"); n != old {
		t.Errorf("%d events in the part of the old ones", n)
	}
}

// TestUpgradeEmpty: one that has the first schema and no events.
func TestUpgradeEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	oldFile(t, path, 0)
	w := start(t, Config{Driver: SQLite, DSN: path, partSize: 2})
	for n := range 5 {
		w.put(t, fact{n: n})
	}
	if got := w.numbersOf(t, Is{FieldRecipient, []string{"b@example.net"}}); got != "0 1 2 3 4" {
		t.Errorf("got %s", got)
	}
}

// oldFile makes a file as the first version did, with n facts and statistics.
func oldFile(t *testing.T, path string, n int) {
	t.Helper()
	db := sql.OpenDB(&sqliteConnector{path, sqlitePragmas})
	defer db.Close()
	folder, err := fs.Sub(migrations, sqliteDialect.migrations)
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	// All columns but content_sent, the last but one, which came later.
	names := strings.Replace(columnNames, "content_sent, ", "", 1)
	insert := "INSERT INTO events (" + names + ") VALUES (?" + strings.Repeat(",?", columnCount-2) + ")"
	for i := range n {
		e := event(t, fact{n: i}.document())
		r := columnsAndDocument{e.columns, e.document}
		args := r.appendArgs(nil)
		if _, err := db.Exec(insert, slices.Delete(args, len(args)-2, len(args)-1)...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Exec("ANALYZE"); err != nil {
		t.Fatal(err)
	}
}
