package events

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/status"
)

// TestAttempt: the store has exactly the line that the log has, and finds it.
func TestAttempt(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		a := attempt(1)
		w.Concluded(a, 0.1)
		w.count.awaitStored(t, 1)
		want := status.Append(nil, a, status.Options{Headers: status.HeaderNames("message-id", "subject")})
		for _, f := range []Filter{
			nil,
			Is{FieldRecipient, []string{"b@example.NET"}},
			Is{FieldSenderDomain, []string{"xn--bcher-kva.example"}},
			Is{FieldMessageID, []string{"x@example.com"}},
			Is{FieldSubject, []string{"hello"}},
			Is{FieldVerified, []string{"true"}},
			Is{FieldMXHost, []string{"mx1.example.net"}},
		} {
			got, p := w.ask(t, Query{Filter: f})
			if got != "1" || !bytes.Equal(p.Items[0], bytes.TrimSuffix(want, []byte("\n"))) {
				t.Errorf("%v: got %s\nwant %s", f, p.Items, want)
			}
		}
		if err := w.Ready(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestAccepted: an accepted event, and the whole story of its message.
func TestAccepted(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		e, err := Accepted{
			Time: epoch, QueueID: "7f3a9c1e", Sender: "a@bücher.example", Recipient: "b@example.net", Method: "http",
			Headers: map[string]string{"message-id": "x@example.com", "subject": "Hello\n\"<>"}, Size: 7, Tags: []string{"news", "two words"},
		}.Event()
		if err != nil {
			t.Fatal(err)
		}
		w.Concluded(attempt(1), 0)
		w.Add(e)
		w.count.awaitStored(t, 2)
		for _, id := range []string{"7f3a9c1e", "x@example.com", "X@EXAMPLE.com"} {
			for _, domains := range [][]string{nil, {"Bücher.example"}, {"xn--bcher-kva.example", "other.example"}} {
				story, err := w.Message(context.Background(), id, domains)
				if err != nil {
					t.Fatal(err)
				}
				if len(story) != 2 || !strings.Contains(string(story[0]), `"event":"accepted"`) || !strings.Contains(string(story[1]), `"event":"delivered"`) {
					t.Errorf("%s %q: %s", id, domains, story)
				}
			}
		}
		for _, id := range []string{"", "none", "%", "7f3a9c1e' OR '1'='1"} {
			if story, err := w.Message(context.Background(), id, nil); len(story) != 0 || err != nil {
				t.Errorf("%q: %s, %v", id, story, err)
			}
		}
		if story, err := w.Message(context.Background(), "7f3a9c1e", []string{"other.example"}); len(story) != 0 || err != nil {
			t.Errorf("another domain sees %s, %v", story, err)
		}
		p, err := w.Query(context.Background(), Query{Filter: Is{FieldTags, []string{"Two Words"}}})
		if err != nil || len(p.Items) != 2 {
			t.Errorf("by tag: %s, %v", p.Items, err)
		}
	})
}

// TestTwice: an event that comes again changes nothing.
func TestTwice(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 1, nothing: true}, fact{n: 2})
		for range 3 {
			w.Add(event(t, fact{n: 1, nothing: true}.document()))
			w.Add(event(t, fact{n: 2}.document()))
		}
		w.put(t, fact{n: 3})
		if got, _ := w.ask(t, Query{Ascending: true}); got != "1 2 3" {
			t.Errorf("got %s", got)
		}
	})
}

// TestRestart: what was stored stays, what waits follows.
func TestRestart(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 1})
		w.Add(event(t, fact{n: 2}.document()))
		w = w.again(t)
		w.Add(event(t, fact{n: 3}.document()))
		w.count.awaitStored(t, 1)
		w = w.again(t)
		w.put(t, fact{n: 4})
		if got, _ := w.ask(t, Query{Ascending: true}); got != "1 2 3 4" {
			t.Errorf("got %s", got)
		}
	})
}

// TestAddAfterClose loses, counts, and does not panic.
func TestAddAfterClose(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db")})
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.Add(event(t, fact{}.document()))
	w.Concluded(attempt(1), 0)
	if _, lost := w.count.numbers(); lost != 2 {
		t.Errorf("%d lost", lost)
	}
	if _, err := w.Query(context.Background(), Query{}); err == nil {
		t.Error("a closed store answers")
	}
}

// TestMany adds from many goroutines while others ask.
func TestMany(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 0})
		const adders, each = 4, 400
		var all sync.WaitGroup
		for i := range adders {
			all.Go(func() {
				for k := range each {
					w.Add(event(t, fact{n: 1 + i*each + k}.document()))
				}
			})
			all.Go(func() {
				for range 20 {
					w.ask(t, Query{Filter: Is{FieldRecipient, []string{"b@example.net"}}, Limit: 10})
					if _, err := w.Stats(context.Background(), epoch, epoch.Add(time.Hour), time.Hour, nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		w.count.awaitStored(t, 1+adders*each)
		st, err := w.Stats(context.Background(), epoch, epoch.Add(time.Hour), time.Hour, nil)
		if err != nil || st.Buckets[0].Plaintext != 1+adders*each {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// TestRetention: what is older than keep goes, in several batches.
func TestRetention(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		var facts []fact
		for n := range 2*keepBatch + 10 {
			facts = append(facts, fact{n: n})
		}
		w.put(t, facts...)
		const left = 3
		removed, err := w.expire(epoch.Add(time.Duration(len(facts)-left) * time.Second))
		if err != nil || removed != int64(len(facts)-left) {
			t.Errorf("%d removed, %v", removed, err)
		}
		if _, p := w.ask(t, Query{}); len(p.Items) != left {
			t.Errorf("%d left", len(p.Items))
		}
		w.keepOnce() // with the statements that help the planner
		if w.log.has("cannot") {
			t.Errorf("%q", w.log.all)
		}
	})
}

// TestWrongClock: a relay whose clock is wrong removes nothing before its time.
// SQLite has no clock but the machine's.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 1})
		ahead, behind := time.Now().Add(480*time.Hour+30*time.Minute), time.Now().Add(-480*time.Hour-30*time.Minute)
		got, err := w.earlier(ahead)
		if own := got.Equal(ahead); err != nil || own != (cfg.Driver == SQLite) {
			t.Errorf("ahead %s, got %s, %v", ahead, got, err)
		}
		if got.After(time.Now()) && cfg.Driver == Postgres {
			t.Errorf("%s is in the future", got)
		}
		if got, err := w.earlier(behind); err != nil || !got.Equal(behind) {
			t.Errorf("behind %s, got %s, %v", behind, got, err)
		}
		if cfg.Driver == Postgres {
			w.count.await(t, "a report", func() bool { return w.log.has("the clock: of this machine is 480h") })
		}
	})
}

// TestKilled: a process that ends in the middle of a batch. What the journal has
// comes again, and no event is there twice or missing.
func TestKilled(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		// The journal of a process that was killed after the database had taken the
		// first 300 of 700, and before the cursor was written. A line is cut off.
		dir := t.TempDir()
		j, err := journal.Open(journalConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		for n := range 700 {
			if err := j.Append(journal.AppendLine(nil, []byte(fact{n: n}.document()))); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
		f, err := os.OpenFile(filepath.Join(dir, "0000000000000001.journal"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, `12345678 {"event":"del`)
		f.Close()
		w := start(t, cfg)
		for n := range 300 {
			w.Add(event(t, fact{n: n}.document()))
		}
		w.count.awaitStored(t, 300)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}

		cfg.Journal.Dir = dir
		w = start(t, cfg)
		w.count.awaitStored(t, 400)
		w.put(t, fact{n: 700})
		var got []string
		for at := (*Cursor)(nil); ; {
			page, p := w.ask(t, Query{Ascending: true, After: at})
			if len(p.Items) == 0 {
				break
			}
			at = p.Last
			got = append(got, page)
		}
		var want []string
		for n := range 701 {
			want = append(want, fmt.Sprint(n))
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got %s", got)
		}
		if stored, lost := w.count.numbers(); stored != 401 || lost != 1 {
			t.Errorf("%d stored, %d lost; one line was cut off", stored, lost)
		}
	})
}

// TestNoJournal: a journal that cannot be had, as on a full disk, costs a line in
// the log. Events are stored all the same.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.Journal.Dir = filepath.Join(file, "journal")
		w := start(t, cfg)
		var facts []fact
		for n := range maxBatch + 100 {
			facts = append(facts, fact{n: n})
		}
		w.put(t, facts...)
		if got, _ := w.ask(t, Query{Limit: 1}); got != fmt.Sprint(maxBatch+99) {
			t.Errorf("got %s", got)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if !w.log.has("the journal cannot be opened") || w.log.has("takes events again") {
			t.Errorf("%q", w.log.all)
		}
	})
}

// TestSlowDatabase: a batch that takes the database too long comes to it in pieces,
// whole and in order.
func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		cfg.storeTimeout = time.Second
		w := start(t, cfg)
		insert := w.db.insert
		var inTime, tooLong atomic.Int64
		w.db.insert = func(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) (int64, error) {
			if len(rows) > 50 {
				tooLong.Add(1)
				<-ctx.Done()
				return 0, ctx.Err()
			}
			inTime.Add(1)
			return insert(ctx, tx, rows)
		}
		var facts []fact
		for n := range 300 {
			facts = append(facts, fact{n: n})
		}
		w.put(t, facts...)
		if p, err := w.Query(context.Background(), Query{Ascending: true}); err != nil || len(p.Items) != 300 {
			t.Errorf("%d events, %v", len(p.Items), err)
		}
		if _, lost := w.count.numbers(); lost != 0 || tooLong.Load() == 0 || inTime.Load() < 6 {
			t.Errorf("%d lost, %d times too long, %d pieces", lost, tooLong.Load(), inTime.Load())
		}
	})
}

// TestJournalIsBack: a journal that could not be written, and can be again, is told
// of, too.
func TestJournalIsBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "journal")
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db"), Journal: journalConfig(dir)})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	w.put(t, fact{n: 1}, fact{n: 2})
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	w.put(t, fact{n: 3})
	if got, _ := w.ask(t, Query{Ascending: true}); got != "1 2 3" {
		t.Errorf("got %s", got)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.log.has("the journal cannot be written: ") || !w.log.has("the journal: takes events again") {
		t.Errorf("%q", w.log.all)
	}
}

// TestFullJournal: what a journal cannot take while the database is away is lost,
// counted and told. The rest follows.
func TestFullJournal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	document := fact{n: 1}.document()
	w := start(t, Config{
		Driver: SQLite, DSN: filepath.Join(dir, "events.db"),
		Journal: journal.Config{Dir: t.TempDir(), MaxBytes: int64(len(document)) * 3},
	})
	for n := range 50 {
		w.Add(event(t, fact{n: n}.document()))
		w.count.await(t, "an empty queue", func() bool { return w.queue.size() == 0 && w.count.backlog+w.count.lost > 0 })
	}
	w.count.await(t, "a loss", func() bool { return w.count.lost > 0 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	// Only an empty journal has room for more.
	w.count.await(t, "the rest", func() bool {
		return w.count.stored > 0 && w.count.stored+w.count.lost == 50 && w.count.backlog == 0
	})
	w.put(t, fact{n: 100})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !w.log.has("lost: the journal is full") || !w.log.has("the journal: takes events again") {
		t.Errorf("%q", w.log.all)
	}
}

// TestNoDocument: what is no document in the journal costs itself only.
func TestNoDocument(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		dir := t.TempDir()
		j, err := journal.Open(journalConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"", "{", "null", `{"event":"x","id":"y"}`, fact{n: 1}.document()} {
			if err := j.Append(journal.AppendLine(nil, []byte(text))); err != nil {
				t.Fatal(err)
			}
		}
		j.Close()
		cfg.Journal.Dir = dir
		w := start(t, cfg)
		w.put(t, fact{n: 2})
		if got, _ := w.ask(t, Query{}); got != "2 1" {
			t.Errorf("got %s", got)
		}
		if _, lost := w.count.numbers(); lost != 4 {
			t.Errorf("%d lost", lost)
		}
	})
}
