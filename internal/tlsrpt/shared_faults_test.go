package tlsrpt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"
)

// cutting ends connections to a database again and again until the function that
// it returns is called. That returns when the server's processes for them are gone:
// one that is told to end does so when it gets round to it, and what it is sent
// meanwhile is lost.
func cutting(t *testing.T, dsn string) (stop func()) {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	quit := make(chan struct{})
	var cut []int
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(time.Duration(rand.IntN(10)) * time.Millisecond):
			}
			pids, err := cutSome(db)
			if err != nil {
				t.Error(err)
			}
			cut = append(cut, pids...)
		}
	})
	return func() {
		close(quit)
		running.Wait()
		db.Close()
		for _, pid := range cut {
			for end := time.Now().Add(hang); !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("process %d of the server does not end", pid)
				}
			}
		}
	}
}

// cutSome ends about a third of the connections to a database, and returns the
// server's processes for them.
func cutSome(db *sql.DB) (pids []int, err error) {
	rows, err := db.Query("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.3")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		var told bool // false if it had ended
		if err := rows.Scan(&pid, &told); err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, rows.Err()
}

// Whatever is cut while relays upload the same domains and send at the same time:
// every session is counted once, and every endpoint gets one report about all.
func TestStress(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 4)
	first := relays[0]
	const domains = 12
	name := func(i int) string { return fmt.Sprintf("d%02d.example", i) }
	for i := range domains {
		first.dns.TXT("_smtp._tls."+name(i), "v=TLSRPTv1; rua=mailto:a@"+name(i)+",mailto:b@"+name(i))
	}
	for _, w := range relays {
		w.mustShare() // the tables are made in peace
	}
	var mu sync.Mutex
	want := make(map[string][2]int64)
	record := func(w *world) {
		for range 20 {
			domain, failure := name(rand.IntN(domains)), mox.ResultType("")
			if rand.IntN(3) == 0 {
				failure = mox.ResultCertificateExpired
			}
			s := session(domain, failure)
			s.Verdicts[0].Policy.Strings = []string{fmt.Sprint(rand.IntN(30))}
			w.r.Record(s)
			mu.Lock()
			n := want[domain]
			if failure == "" {
				n[0]++
			} else {
				n[1]++
			}
			want[domain] = n
			mu.Unlock()
		}
	}
	each := func(do func(w *world)) {
		var all sync.WaitGroup
		for _, w := range relays {
			all.Go(func() { do(w) })
		}
		all.Wait()
	}

	stop := cutting(t, first.cfg.Database)
	each(func(w *world) {
		for i := range 25 {
			record(w)
			_ = w.share() // what is cut comes with the next
			if i == 10 {
				w.open()
			}
		}
	})
	stop()
	first.clock.set(allDue)
	each(func(w *world) { w.mustShare() })
	if got := counted(first.read()); !maps.Equal(got, want) {
		t.Fatalf("counted\n%v, want\n%v", got, want)
	}

	stop = cutting(t, first.cfg.Database)
	for now := allDue; now.Before(midnight.Add(24 * time.Hour)); now = now.Add(time.Hour) {
		if now.Equal(allDue.Add(10 * time.Hour)) {
			stop() // the last attempts are made in peace
		}
		first.clock.set(now)
		each(func(w *world) {
			w.r.Record(session(name(rand.IntN(domains)), "")) // of the next day
			_ = w.share()
			w.r.step(context.Background(), nil)
		})
	}
	got := make(map[string]int)
	for _, m := range first.office.mails {
		got[m.to]++
		r, err := mox.ParseMessage(discard, strings.NewReader(string(m.bytes(t))))
		if err != nil {
			t.Fatal(err)
		}
		var n [2]int64
		for _, p := range r.Policies {
			n[0] += p.Summary.TotalSuccessfulSessionCount
			n[1] += p.Summary.TotalFailureSessionCount
		}
		if domain := m.to[strings.IndexByte(m.to, '@')+1:]; n != want[domain] {
			t.Errorf("%s was told of %v, not %v", m.to, n, want[domain])
		}
	}
	for i := range domains {
		for _, to := range []string{"a@" + name(i), "b@" + name(i)} {
			if got[to] != 1 {
				t.Errorf("%s got %d reports", to, got[to])
			}
		}
	}
}

// Relays that find the day full wait for each other in order, and count what is
// known.
func TestFullTogether(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 4)
	const kinds = 300
	record := func(w *world) {
		for i := range kinds {
			w.r.Record(session(fmt.Sprintf("d%d.example", i), ""))
		}
	}
	record(relays[0])
	relays[0].mustShare()
	var all sync.WaitGroup
	for i, w := range relays {
		if i%2 == 0 {
			w.r.shared.maxRows = 1
		}
		all.Go(func() {
			for range 8 {
				record(w)
				if err := w.share(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for domain, n := range counted(relays[0].read()) {
		if n != [2]int64{1 + 4*8, 0} {
			t.Errorf("%s: %v", domain, n)
		}
	}
}

// A report that waits long for its turn is not begun by a second relay while the
// first one is at it.
func TestLongRound(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	a.dns.TXT("_smtp._tls.example.net", record)
	a.r.Record(session("example.net", ""))
	a.clock.set(allDue)
	a.mustShare()
	b.mustShare()
	tasks, err := a.r.shared.due(context.Background(), allDue)
	if err != nil || len(tasks) != 1 {
		t.Fatal(tasks, err)
	}
	later := allDue.Add(time.Hour) // when the round of relay a comes to it
	a.clock.set(later)
	a.r.mailer = mailerFunc(func() error {
		b.r.step(context.Background(), nil)
		return nil
	})
	if err := a.r.report(context.Background(), a.r.shared, tasks[0]); err != nil {
		t.Fatal(err)
	}
	if to := a.office.to(); len(to) != 0 {
		t.Errorf("while one relay sent a report, the other one sent it too: %v", to)
	}
}

// What arrived in the last moment of an attempt is noted as sent.
func TestNotedAtTheEnd(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.clock.set(allDue)
	w.mustShare()
	ctx, cancel := context.WithCancel(context.Background())
	w.r.mailer = mailerFunc(func() error {
		cancel()
		return nil
	})
	w.r.step(ctx, nil)
	if d := w.read(); len(d) != 1 || d[0].Told["mailto:a@example.net"] != resultSent || d[0].Done != doneAll {
		t.Errorf("%+v", d)
	}
}

// A relay is found out to be a copy of another one, with its directory, and does
// not speak for it any more.
func TestCopiedRelay(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	id, err := os.ReadFile(idPath(a.cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	b.write("id", string(id))
	b.open()
	for range 2 {
		a.mustShare()
		b.mustShare()
	}
	const found = "another relay counts TLS reports under the id of this one"
	if !a.log.has(found) || b.log.has(found) {
		t.Errorf("the copy is not noticed, or twice\n%s\n%s", a.log.text.String(), b.log.text.String())
	}
	b.r.Record(session("example.net", ""))
	b.mustShare()
	a.clock.set(allDue)
	a.mustShare()
	if a.step(allDue); !a.log.has("TLS reports wait for what other relays have counted") {
		t.Error("a relay spoke for its copy")
	}
	a.open() // a restart is no copy
	a.mustShare()
	a.mustShare()
	if strings.Count(a.log.text.String(), found) != 1 {
		t.Errorf("log\n%s", a.log.text.String())
	}
}

// A relay that stops soon after it came back from a crash owes nothing.
func TestLeaveAfterCrash(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	a.dns.TXT("_smtp._tls.example.net", record)
	a.mustShare()
	b.mustShare()
	fill(t, a.cfg.Database, "UPDATE tlsrpt_relays SET process = 'that crashed' WHERE name = 'relay2.example.org'")
	b.open() // does not remove a row that is not its own
	b.r.Record(session("example.net", ""))
	b.close()
	a.clock.set(allDue)
	a.mustShare()
	if a.step(allDue); len(a.office.to()) != 1 {
		t.Errorf("mails to %v\n%s", a.office.to(), a.log.text.String())
	}
}

// An upload ends, although a busy relay has always counted something more.
func TestUploadEnds(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.Record(session("example.net", ""))
	quit := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for !over(quit) {
			w.r.Record(session("example.net", ""))
			w.r.flush()
		}
	})
	err := w.share()
	close(quit)
	busy.Wait()
	if err != nil {
		t.Error(err)
	}
}

// Files are compacted and cut at the same time, and nothing is lost or doubled.
func TestCompactAndCut(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.files.Lock()
	w.r.maxDayBytes = 4000 // some ten lines
	w.r.files.Unlock()
	const n = 300
	var counting sync.WaitGroup
	counting.Go(func() {
		for range n {
			w.r.Record(session("example.net", ""))
			w.r.flush()
		}
	})
	for range 20 {
		w.mustShare()
	}
	counting.Wait()
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {n, 0}}) || w.log.has("lost") {
		t.Errorf("counted %v\n%s", got, w.log.text.String())
	}
}

// A part that cannot be read keeps no other day back; the relay does not say that
// all has been told.
func TestPartInTrouble(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	if err := os.Mkdir(w.cfg.Dir+"/2026-11-25.X.part", 0o700); err != nil {
		t.Fatal(err)
	}
	w.r.Record(session("example.net", ""))
	if w.share() == nil {
		t.Error("all is well with a part that cannot be read")
	}
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {1, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// A directory that somebody removes is made again, and the relay goes on.
func TestDirectoryRemoved(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.Record(session("example.net", ""))
	w.mustShare()
	if err := os.RemoveAll(w.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	w.mustShare()
	w.r.Record(session("example.net", ""))
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {2, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// Old counts that cannot be removed keep no report back.
func TestForgetFails(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.clock.set(allDue)
	w.mustShare()
	fill(t, w.cfg.Database, "DROP TABLE tlsrpt_parts")
	if w.step(allDue); len(w.office.to()) != 1 || !w.log.has("tlsrpt_parts") {
		t.Errorf("mails to %v\n%s", w.office.to(), w.log.text.String())
	}
}

// What the server or the role have as defaults changes nothing.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	cluster, relays := newRelaysAlone(t, 1)
	first := relays[0]
	first.dns.TXT("_smtp._tls.example.net", record)
	for i, options := range []string{
		"ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
		"ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
	} {
		dsn := cluster.Database(t)
		name := fmt.Sprintf("other%d", i)
		fill(t, dsn, "CREATE DATABASE "+name+" TEMPLATE template0 "+options)
		for _, setting := range []string{
			"timezone = 'Pacific/Auckland'", "datestyle = 'German'", "intervalstyle = 'iso_8601'",
			"default_transaction_isolation = 'serializable'", "standard_conforming_strings = off", "bytea_output = 'escape'",
		} {
			fill(t, dsn, "ALTER DATABASE "+name+" SET "+setting)
		}
		w := *first
		w.r = nil
		w.office = &office{}
		w.cfg.Dir = t.TempDir()
		w.cfg.Database = dsn[:strings.Index(dsn, " dbname=")] + " sslmode=disable dbname=" + name
		w.cfg.Relay = "mx\u00f6\xff\x00.example.org"
		w.clock.set(midnight.Add(-time.Second))
		w.open()
		s := session("example.net", mox.ResultCertificateExpired)
		s.Helo, s.Verdicts[0].Reason = "\x00\xff\u00f6", strings.Repeat("\u20ac", 1000)
		s.Verdicts[0].Policy.Strings = []string{"\x00\xff\u00f6\u20ac"}
		w.r.Record(s)
		w.mustShare()
		if d, err := documents(w.cfg, noon); err != nil || len(d) != 1 {
			t.Fatalf("%s: %v, %v", options, d, err)
		}
		w.clock.set(allDue)
		w.mustShare()
		for range 3 {
			w.step(allDue)
		}
		if r := w.office.report(t); r.DateRange.Start != midnight.Add(-24*time.Hour) {
			t.Errorf("%s: %v", options, r.DateRange)
		}
	}
}

// A database that is emptied, or lacks what a role may do, is used again once it can be.
func TestDatabaseEmptied(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.Record(session("example.net", ""))
	w.mustShare()
	fill(t, w.cfg.Database, "TRUNCATE tlsrpt_submitters, tlsrpt_relays, tlsrpt_parts, tlsrpt_counts, tlsrpt_reports")
	w.r.Record(session("example.net", ""))
	if w.share() == nil {
		t.Error("a report without a salt")
	}
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {1, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// Who may only read, or not make tables, is told, and loses nothing; a role that
// may not make tables can use those that are there.
func TestPermissions(t *testing.T) {
	t.Parallel()
	_, relays := newRelaysAlone(t, 1) // roles are of a whole server
	w := relays[0]
	admin := w.cfg.Database
	fill(t, admin, "CREATE ROLE reporter LOGIN")
	fill(t, admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	w.cfg.Database = strings.Replace(admin, "user=postgres", "user=reporter", 1)
	w.open()
	w.r.Record(session("example.net", ""))
	if err := w.share(); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Error(err)
	}
	owner := mustOpen(t, Config{Dir: t.TempDir(), Sender: us, Database: admin, Resolver: w.cfg.Resolver, Now: w.clock.Now, leaveWithin: hang})
	if err := owner.Close(); err != nil { // makes the tables
		t.Error(err)
	}
	fill(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reporter")
	w.mustShare()
	fill(t, admin, "ALTER ROLE reporter SET default_transaction_read_only = on")
	w.r.Record(session("example.net", ""))
	w.open() // with new connections; leaving went by the old ones
	w.r.Record(session("example.net", ""))
	if w.share() == nil {
		t.Error("written where nothing can be")
	}
	fill(t, admin, "ALTER ROLE reporter RESET default_transaction_read_only")
	w.open()
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {3, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// Close returns, whatever the database does.
func TestCloseWithSilentDatabase(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts: the system does
	w := newWorld(t)
	w.close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	w.cfg.Database = "host=127.0.0.1 port=" + port + " user=u dbname=d sslmode=disable"
	w.cfg.uploadEvery = time.Millisecond
	w.r = nil
	w.open()
	w.r.Start(w.office)
	w.r.Record(session("example.net", ""))
	ended := make(chan error, 1)
	go func() { ended <- w.r.Close() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hang):
		t.Fatal("Close hangs")
	}
	if files := w.files(); len(files) != 1 || !strings.HasPrefix(files[0], theDay) {
		t.Errorf("left in the directory: %v", files)
	}
	if !w.log.has("TLS report data stays here until the next start") {
		t.Error("not a word about counts that stay")
	}
}

// A relay whose clock is wrong neither brings what it has counted, nor removes what
// others have, nor reports a day that goes on, nor takes an attempt of another one
// for over; the log says what is wrong.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{20 * 24 * time.Hour, 24 * time.Hour, time.Hour, -time.Hour, -20 * 24 * time.Hour} {
		t.Run(wrong.String(), func(t *testing.T) {
			t.Parallel()
			relays := newRelays(t, 2)
			a, b := relays[0], relays[1]
			b.cfg.Now = func() time.Time { return b.clock.Now().Add(wrong) }
			b.open()
			a.dns.TXT("_smtp._tls.example.net", record)
			a.r.Record(session("example.net", ""))
			a.mustShare()
			const apart = "the clock of this machine is not that of the database"
			b.r.Record(session("example.net", ""))
			if err := b.share(); err == nil || !strings.Contains(err.Error(), apart) || len(b.files()) == 0 {
				t.Errorf("brought what it counted on a wrong day: %v", err)
			}
			if b.step(noon); len(a.office.to()) != 0 || !b.log.has(apart) || a.log.has(apart) {
				t.Errorf("mails to %v at noon\n%s", a.office.to(), b.log.text.String())
			}
			a.clock.set(allDue)
			a.mustShare()
			a.r.mailer = mailerFunc(func() error {
				b.step(allDue)
				b.step(allDue.Add(firstPause - time.Minute))
				return nil
			})
			a.step(allDue)
			if d := a.read(); len(d) != 1 || d[0].Done != doneAll || len(a.office.to()) != 0 {
				t.Errorf("%+v, and from the other relay mails to %v", d, a.office.to())
			}
		})
	}
}

// The time is the database's.
func TestDatabaseTime(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.cfg.database, w.cfg.Now = nil, nil
	w.open()
	before := time.Now().Add(-clocksApart)
	now, err := w.r.shared.now(context.Background())
	if err != nil || now.Before(before) || now.After(time.Now().Add(clocksApart)) {
		t.Errorf("%v, %v", now, err)
	}
}
