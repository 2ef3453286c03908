package tlsrpt

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// newRelays are relays that share a database, a clock, a resolver and an office.
// They upload and send when the test says so.
func newRelays(t *testing.T, n int) []*world {
	t.Helper()
	return relaysOf(t, pgtest.Shared(t).Database(t), n)
}

// newRelaysAlone are newRelays with a server that the test may stop.
func newRelaysAlone(t *testing.T, n int) (*pgtest.Cluster, []*world) {
	t.Helper()
	cluster := pgtest.New(t)
	return cluster, relaysOf(t, cluster.Database(t), n)
}

func relaysOf(t *testing.T, dsn string, n int) []*world {
	t.Helper()
	first := newWorld(t)
	var all []*world
	for i := range n {
		w := *first
		w.log = &lines{}
		w.cfg.Log = logTo(w.log)
		w.cfg.Dir = t.TempDir() + "/tlsrpt"
		w.cfg.Database, w.cfg.Relay = dsn, fmt.Sprintf("relay%d.example.org", i+1)
		w.cfg.uploadEvery, w.cfg.leaveWithin, w.cfg.database = 24*time.Hour, hang, w.clock.Now
		w.r = nil
		w.open()
		all = append(all, &w)
	}
	return all
}

// share brings to the database what a relay has counted.
func (w *world) share() error {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	return w.r.shared.upload(ctx, false)
}

func (w *world) mustShare() {
	w.Helper()
	if err := w.share(); err != nil {
		w.Fatal(err)
	}
}

// TestPooler: relays that come through PgBouncer, as docs/scale.md says, count together.
func TestPooler(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Shared(t)
	relays := relaysOf(t, cluster.Pooler(t, cluster.Database(t)), 2)
	for _, w := range relays {
		w.r.Record(session("example.net", ""))
		w.mustShare()
	}
	if got := counted(relays[0].read()); !maps.Equal(got, map[string][2]int64{"example.net": {2, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// files lists what is in the directory, but for lock and id.
func (w *world) files() (names []string) {
	w.Helper()
	entries, err := os.ReadDir(w.cfg.Dir)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "id" {
			names = append(names, e.Name())
		}
	}
	return names
}

// report is the only one that the office got.
func (o *office) report(t *testing.T) *mox.ReportJSON {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.mails) != 1 {
		t.Fatalf("%d mails", len(o.mails))
	}
	r, err := mox.ParseMessage(discard, strings.NewReader(string(o.mails[0].bytes(t))))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Several relays send one report about what all of them counted, whoever sends it,
// and however many try at once.
func TestOneReportOfAll(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 3)
	relays[0].dns.TXT("_smtp._tls.example.net", record)
	for i, w := range relays {
		for range i + 1 {
			w.r.Record(session("example.net", ""))
		}
		w.r.Record(session("example.net", mox.ResultCertificateExpired))
		w.mustShare()
		w.r.Record(session("example.net", "")) // in another part
		if i == 0 {
			w.r.Record(session("silent.example", ""))
		}
	}
	relays[0].clock.set(allDue)
	for _, w := range relays {
		w.mustShare()
		if files := w.files(); len(files) != 0 {
			t.Errorf("left in the directory: %v", files)
		}
	}
	want := map[string][2]int64{"example.net": {9, 3}, "silent.example": {1, 0}}
	for _, w := range relays {
		if got := counted(w.read()); !maps.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
	}
	for range 2 { // the second time nothing is due
		var all sync.WaitGroup
		for _, w := range relays {
			all.Go(func() { w.r.step(context.Background(), nil) })
		}
		all.Wait()
	}
	r := relays[0].office.report(t)
	if p := r.Policies[0]; p.Summary != (mox.SummaryJSON{TotalSuccessfulSessionCount: 9, TotalFailureSessionCount: 3}) || p.FailureDetails[0].FailedSessionCount != 3 {
		t.Errorf("report %+v", r)
	}
	docs := relays[2].read()
	if d := docs[0]; d.ReportID != r.ReportID || d.Done != doneAll || d.Told["mailto:a@example.net"] != resultSent {
		t.Errorf("%+v, of report %s", d, r.ReportID)
	}
	if d := docs[1]; d.Done != doneNoRecord {
		t.Errorf("%+v", d)
	}
}

// A report waits until every relay has told all of the day, but not for ever; a
// relay that was closed owes nothing.
func TestWaitForRelays(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 3)
	a, b, c := relays[0], relays[1], relays[2]
	a.dns.TXT("_smtp._tls.example.net", record)
	for _, w := range relays {
		w.r.Record(session("example.net", ""))
		w.mustShare()
	}
	c.close()
	a.clock.set(allDue)
	a.mustShare()
	a.step(allDue)
	if len(a.office.to()) != 0 || !a.log.has("TLS reports wait for what other relays have counted") || !a.log.has("relay2.example.org") || a.log.has("relay3.example.org") {
		t.Fatalf("mails to %v\n%s", a.office.to(), a.log.text.String())
	}
	late := midnight.Add(lateAfter)
	if a.step(late); len(a.office.to()) != 0 {
		t.Fatal("sent too early")
	}
	if a.step(late.Add(time.Second)); !a.log.has("TLS reports go out without what some relays have counted") {
		t.Error("not a word about what is missing")
	}
	if n := a.office.report(t).Policies[0].Summary.TotalSuccessfulSessionCount; n != 3 {
		t.Errorf("%d sessions", n)
	}

	// What comes after the report is not in it, nor in another one.
	a.clock.set(noon)
	b.r.Record(session("example.net", ""))
	b.r.Record(session("other.example", ""))
	a.clock.set(late.Add(time.Hour))
	b.mustShare()
	if !b.log.has("TLS report data came too late") {
		t.Error("not a word about what was too late")
	}
	if got := counted(a.read()); !maps.Equal(got, map[string][2]int64{"example.net": {3, 0}, "other.example": {1, 0}}) {
		t.Errorf("counted %v", got)
	}
	if b.step(late.Add(time.Hour)); len(a.office.to()) != 1 {
		t.Errorf("mails to %v", a.office.to())
	}
}

// A day waits for nobody who has told all of it.
func TestAllHaveTold(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	a.dns.TXT("_smtp._tls.example.net", record)
	a.r.Record(session("example.net", ""))
	a.mustShare()
	b.mustShare()
	// So soon after midnight the day before may still be written to.
	a.clock.set(midnight.Add(settled - 1))
	b.mustShare()
	if a.step(allDue); len(a.office.to()) != 0 {
		t.Fatal("sent although both have told nothing since midnight")
	}
	a.clock.set(midnight.Add(settled))
	a.mustShare()
	b.mustShare()
	if a.step(allDue); len(a.office.to()) != 1 {
		t.Error("not sent although both have told everything")
	}
}

// While the database is away counts wait in files, over restarts; nothing is
// counted twice, whenever the process dies.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	cluster, relays := newRelaysAlone(t, 2)
	a, b := relays[0], relays[1]
	a.dns.TXT("_smtp._tls.example.net", record)
	a.r.Record(session("example.net", ""))
	a.mustShare()
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		a.r.Record(session("example.net", ""))
		a.r.shared.tryUpload(context.Background())
		a.open()
	}
	if !a.log.has("TLS report data waits for the database") || a.log.has("data is lost") {
		t.Errorf("log\n%s", a.log.text.String())
	}
	if _, err := documents(a.cfg, noon); err == nil {
		t.Error("reports were read from a database that is away")
	}
	if a.step(allDue); !a.log.has(waiting) {
		t.Error("not a word about reports that wait")
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	a.r.shared.tryUpload(context.Background())
	b.mustShare()
	if got := counted(b.read()); !maps.Equal(got, map[string][2]int64{"example.net": {4, 0}}) {
		t.Errorf("counted %v", got)
	}
	b.step(allDue)
	if n := b.office.report(t).Policies[0].Summary.TotalSuccessfulSessionCount; n != 4 {
		t.Errorf("%d sessions", n)
	}
}

// A crash between the commit and the removal of the part adds nothing a second
// time.
func TestPartOnce(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.Record(session("example.net", ""))
	w.r.flush()
	parts, err := w.r.shared.cut()
	if err != nil || len(parts) != 1 || !slices.Equal(w.files(), parts) {
		t.Fatalf("parts %v of %v, %v", parts, w.files(), err)
	}
	text, err := os.ReadFile(w.cfg.Dir + "/" + parts[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.mustShare()
		w.write(parts[0], string(text)) // as if it had never been removed
	}
	w.r.Record(session("example.net", ""))
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {2, 0}}) {
		t.Errorf("counted %v", got)
	}
}

// Of several endpoints each gets the report once, whichever relay makes the
// attempt, and a relay that was lost in one does not keep it from being made
// again.
func TestSharedRetry(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	h := a.serve(mailtest.Good)
	b.cfg.Roots = a.cfg.Roots
	b.cfg.AllowPrivate = a.cfg.AllowPrivate
	b.open()
	a.dns.TXT("_smtp._tls.example.net", record+","+h.uri())
	a.office.setFail(errLater)
	a.r.Record(session("example.net", ""))
	a.clock.set(allDue)
	a.mustShare()
	b.mustShare()
	a.step(allDue)
	b.step(allDue)
	a.office.setFail(nil)
	if b.step(allDue.Add(firstPause - time.Second)); len(a.office.to()) != 0 {
		t.Fatal("tried again too early")
	}
	// It began its attempt and was never heard of again.
	again := allDue.Add(firstPause)
	a.clock.set(again)
	tasks, err := a.r.shared.due(context.Background(), again)
	if err != nil || len(tasks) != 1 {
		t.Fatal(tasks, err)
	}
	for i, want := range []bool{true, false} {
		if ours, err := a.r.shared.begin(context.Background(), tasks[0], again, again.Add(pause(2))); ours != want || err != nil {
			t.Errorf("begin %d: %v, %v", i, ours, err)
		}
	}
	if b.step(again); len(a.office.to()) != 0 {
		t.Error("tried while another relay does")
	}
	b.step(again.Add(pause(2)))
	a.step(again.Add(pause(2)))
	if to := a.office.to(); len(to) != 1 || len(h.got()) != 1 {
		t.Errorf("mails to %v, %d posts", to, len(h.got()))
	}
}

// A day is as large as it may be: new counts find no room, known ones go on.
func TestSharedIsBounded(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	w.r.Record(session("example.net", ""))
	w.mustShare()
	fill(t, w.cfg.Database, "INSERT INTO tlsrpt_counts SELECT 'relay.example.org', '"+theDay+"', int8send(n), 'other.example', '{}', '', 1 "+
		"FROM generate_series(1, 100) n")
	w.r.shared.maxRows = 101
	w.r.Record(session("example.net", ""))
	w.r.Record(session("new.example", ""))
	w.mustShare()
	_, got, err := w.r.shared.counts(context.Background(), task{day: theDay, domain: "example.net"})
	if err != nil || got.results()[0].Summary.TotalSuccessfulSessionCount != 2 || !w.log.has(errSharedFull.Error()) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, _, err := w.r.shared.counts(context.Background(), task{day: theDay, domain: "new.example"}); err == nil {
		t.Error("there was room for new.example")
	}
}

func fill(t *testing.T, dsn, statement string) {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// Relays that report for different submitters share a database and nothing else.
func TestSubmittersApart(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 2)
	a, b := relays[0], relays[1]
	b.cfg.Sender.From = "reports@other.example.org"
	b.open()
	for _, w := range relays {
		w.r.Record(session("example.net", ""))
		w.mustShare()
	}
	docs, err := documents(b.cfg, noon)
	if err != nil || !maps.Equal(counted(docs), map[string][2]int64{"example.net": {1, 0}}) {
		t.Errorf("%v, %v", docs, err)
	}
	if other := a.read(); len(other) != 1 || other[0].ReportID == docs[0].ReportID {
		t.Errorf("%v", other)
	}
}

// A relay that reported for itself until now ends what it has begun, and brings
// the rest.
func TestBeginToShare(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	database := w.cfg.Database
	w.cfg.Database = ""
	w.open()
	w.dns.TXT("_smtp._tls.example.net", record)
	w.office.setFail(errLater)
	w.r.Record(session("example.net", ""))
	w.step(allDue)
	w.r.Record(session("example.net", "")) // of the next day
	w.cfg.Database = database
	w.open()
	w.mustShare()
	if files := w.files(); !slices.Equal(files, []string{theDay + ".jsonl", theDay + ".sent"}) {
		t.Errorf("left in the directory: %v", files)
	}
	w.office.setFail(nil)
	w.step(allDue.Add(firstPause))
	first := w.office.report(t)
	w.clock.set(allDue.Add(24 * time.Hour))
	w.mustShare()
	w.step(allDue.Add(24 * time.Hour))
	if len(w.office.to()) != 2 || first.Policies[0].Summary.TotalSuccessfulSessionCount != 1 {
		t.Errorf("mails to %v, the first %+v", w.office.to(), first)
	}
}

// Old days go, from the database and from the directory.
func TestSharedForget(t *testing.T) {
	t.Parallel()
	cluster, relays := newRelaysAlone(t, 2)
	a, b := relays[0], relays[1]
	for _, w := range relays {
		w.r.Record(session("example.net", ""))
	}
	a.mustShare()
	if err := cluster.Stop(); err != nil {
		t.Fatal(err)
	}
	if b.share() == nil {
		t.Fatal("uploaded to a database that is away")
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".jsonl.new", ".jsonl.damaged", ".X.part.damaged"} {
		b.write(theDay+name, "whatever")
	}
	old := midnight.Add(keepDays + 24*time.Hour)
	a.clock.set(old)
	b.step(old)
	a.step(old) // finds that its connections were cut
	a.step(old)
	b.mustShare()
	if files := b.files(); len(files) != 0 || !b.log.has("could not be brought to the database in time") {
		t.Errorf("left in the directory: %v", files)
	}
	if docs, err := documents(a.cfg, noon); err != nil || len(docs) != 0 {
		t.Errorf("%v, %v", docs, err)
	}
}

// The tables may be taken away; nothing is counted before there are relays.
func TestNoTables(t *testing.T) {
	t.Parallel()
	relays := newRelays(t, 1)
	w := relays[0]
	if docs, err := documents(w.cfg, noon); err != nil || len(docs) != 0 {
		t.Errorf("%v, %v", docs, err)
	}
	w.r.Record(session("example.net", ""))
	w.mustShare()
	fill(t, w.cfg.Database, "DROP TABLE tlsrpt_told, tlsrpt_reports, tlsrpt_counts, tlsrpt_parts, tlsrpt_relays, tlsrpt_submitters, tlsrpt_schema")
	w.r.Record(session("example.net", ""))
	if w.share() == nil {
		t.Error("uploaded to tables that are not there")
	}
	w.mustShare()
	if got := counted(w.read()); !maps.Equal(got, map[string][2]int64{"example.net": {1, 0}}) {
		t.Errorf("counted %v", got)
	}
}
