package tlsrpt

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/exterrors"
	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/mailtest"
)

const record = "v=TLSRPTv1; rua=mailto:a@example.net"

// A report goes out once: not before its day is over, not again after a restart,
// and not for a domain that does not ask for it.
func TestOncePerDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.dns.TXT("_smtp._tls.two.example", record, "v=spf1 -all")
	for _, domain := range []string{"example.net", "silent.example", "two.example"} {
		w.r.Record(session(domain, ""))
	}
	for _, early := range []time.Time{noon, midnight.Add(-1), midnight, midnight.Add(firstReport - 1)} {
		if w.step(early); len(w.office.to()) != 0 {
			t.Fatalf("sent at %v", early)
		}
	}
	w.step(allDue)
	if to := w.office.to(); !slices.Equal(to, []string{"a@example.net"}) {
		t.Fatalf("mails to %v", to)
	}
	queries := len(w.dns.Queries())
	w.step(allDue.Add(giveUp))
	w.open()
	w.step(allDue.Add(giveUp))
	if to := w.office.to(); len(to) != 1 || len(w.dns.Queries()) != queries {
		t.Fatalf("after a restart: mails to %v, asked %v", to, w.dns.Queries()[queries:])
	}

	// The next day is another report.
	w.r.Record(session("example.net", "")) // at allDue plus a day
	w.step(allDue.Add(48 * time.Hour))
	if to := w.office.to(); len(to) != 2 {
		t.Errorf("mails to %v", to)
	}
}

// Old days go, with all their files.
func TestForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.step(allDue)
	w.write(theDay+".jsonl.damaged", "whatever")
	w.write(theDay+".jsonl.new", "whatever") // a crash while it was compacted
	w.write(theDay+".X.part", "whatever")    // of a time with a database
	w.step(midnight.Add(keepDays))
	if len(w.r.days()) != 1 {
		t.Error("gone too early")
	}
	w.step(midnight.Add(keepDays + 1))
	entries, err := os.ReadDir(w.cfg.Dir)
	if err != nil || len(entries) != 2 { // lock and id
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Reports are spread over hours, and each keeps its place after a restart.
func TestSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 200
	due := func() (all []time.Time) {
		for i := range n {
			all = append(all, dueFirst(w.r.id, theDay, fmt.Sprintf("d%d.example", i)))
		}
		return all
	}
	first := due()
	hours := make(map[time.Duration]int)
	for _, at := range first {
		if at.Before(midnight.Add(firstReport)) || !at.Before(allDue) {
			t.Errorf("due at %v", at)
		}
		hours[at.Sub(midnight)/time.Hour]++
	}
	for h := range time.Duration(4) {
		if hours[h] < n/16 {
			t.Errorf("hour %d: %d of %d", h, hours[h], n)
		}
	}
	w.open()
	if !slices.Equal(first, due()) {
		t.Error("after a restart everything is due at another time")
	}
}

// Of several endpoints each gets the report once, whatever happens to the others
// and whenever the process is restarted; after a day it is enough.
func TestRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serve(mailtest.Good)
	w.dns.TXT("_smtp._tls.example.net", record+","+h.uri())
	w.office.setFail(errLater)
	w.r.Record(session("example.net", mox.ResultCertificateExpired))
	w.step(allDue)
	if len(h.got()) != 1 {
		t.Fatalf("posts %v", h.got())
	}
	w.step(allDue.Add(firstPause - 1)) // not yet
	w.open()
	w.step(allDue.Add(firstPause - 1))
	w.office.setFail(nil)
	w.step(allDue.Add(firstPause - 1))
	if len(w.office.to()) != 0 {
		t.Error("tried again too early")
	}
	w.open()
	w.step(allDue.Add(firstPause))
	if len(w.office.to()) != 1 || len(h.got()) != 1 {
		t.Errorf("mails to %v, %d posts", w.office.to(), len(h.got()))
	}
	w.step(allDue.Add(2 * firstPause))
	if len(w.office.to()) != 1 || len(h.got()) != 1 {
		t.Error("sent again")
	}
	// Mail has only been taken on its way; who knows when it arrives.
	mail, post := "mailto:"+w.office.to()[0], h.uri()
	for line, want := range map[string]bool{
		"TLS report queued\" domain=example.net day=" + theDay + " to=" + mail: true,
		"TLS report sent\" domain=example.net day=" + theDay + " to=" + post:   true,
		"TLS report sent\" domain=example.net day=" + theDay + " to=" + mail:   false,
	} {
		if w.log.has(line) != want {
			t.Errorf("%q is in the log: %v", line, !want)
		}
	}
	for to, want := range map[string]string{mail: "queued", post: "sent"} {
		b, err := loadBatch(w.cfg.Dir, theDay)
		if err != nil {
			t.Fatal(err)
		}
		if noted := b.of("example.net").told[to]; noted != resultSent || Outcome(to, noted) != want || Outcome(to, resultRefused) != resultRefused {
			t.Errorf("%s: noted %q, told %q", to, noted, Outcome(to, noted))
		}
	}
}

// Attempts become rare, and end.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.office.setFail(errLater)
	now := allDue
	for range 120 {
		w.step(now)
		now = now.Add(firstPause)
	}
	if w.office.tries < 8 || w.office.tries > 12 || !w.log.has(doneTooLate) {
		t.Errorf("%d attempts in 30 hours", w.office.tries)
	}
	w.office.setFail(nil)
	if w.step(now.Add(giveUp)); len(w.office.to()) != 0 {
		t.Error("tried again after giving up")
	}
}

// A record that cannot be looked up now is looked up later.
func TestLookupFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.Drop("_smtp._tls.example.net")
	w.r.Record(session("example.net", ""))
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // as if it had taken too long
	w.clock.set(allDue)
	w.r.flush()
	b, err := w.r.local.batch(theDay)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.r.report(ctx, w.r.local, task{day: theDay, domain: "example.net"}); err != nil {
		t.Error(err)
	}
	if p := b.snapshot("example.net"); p.done != "" || p.try != 1 {
		t.Errorf("%+v", p)
	}
	w.dns.Remove("_smtp._tls.example.net")
	w.dns.TXT("_smtp._tls.example.net", record)
	w.step(allDue.Add(firstPause))
	if len(w.office.to()) != 1 {
		t.Error("not sent when the record could be found")
	}
}

// A refusal is final.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.office.setFail(exterrors.WithTemporary(errLater, false))
	w.r.Record(session("example.net", ""))
	w.step(allDue)
	w.office.setFail(nil)
	w.step(allDue.Add(maxPause))
	if len(w.office.to()) != 0 || !w.log.has("TLS report refused") {
		t.Errorf("mails to %v", w.office.to())
	}
}

// What cannot be written down is not sent: it would be sent again.
func TestProgressInTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.r.flush()
	if err := os.Mkdir(progressPath(w.cfg.Dir, theDay)+".damaged", 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(theDay+".sent", "nonsense\n") // cannot be renamed aside
	w.step(allDue)
	if len(w.office.to()) != 0 {
		t.Error("sent without a note")
	}
	if err := os.Remove(progressPath(w.cfg.Dir, theDay) + ".damaged"); err != nil {
		t.Fatal(err)
	}
	w.step(allDue.Add(maxPause))
	if len(w.office.to()) != 1 {
		t.Error("not sent when it could")
	}
}

// The operator may want one way only.
func TestOneWay(t *testing.T) {
	t.Parallel()
	for _, byMail := range []bool{false, true} {
		w := newWorld(t)
		h := w.serve(mailtest.Good)
		w.cfg.Mail, w.cfg.HTTPS = byMail, !byMail
		w.open()
		w.dns.TXT("_smtp._tls.example.net", record+","+h.uri())
		w.r.Record(session("example.net", ""))
		w.step(allDue)
		if (len(w.office.to()) == 1) != byMail || (len(h.got()) == 1) == byMail {
			t.Errorf("by mail %v: %v, %v", byMail, w.office.to(), h.got())
		}
	}
}

// So many reports in a day, and no more.
func TestTooMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.r.flush()
	b, err := w.r.local.batch(theDay)
	if err != nil {
		t.Fatal(err)
	}
	b.sent = maxReports
	w.step(allDue)
	if len(w.office.to()) != 0 || !w.log.has(doneTooMany) {
		t.Errorf("mails to %v", w.office.to())
	}
}

// A Mailer that panics costs that report, and others go out.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.r.mailer = nil
	w.step(allDue)
	if !w.log.has("panic in sending a TLS report") {
		t.Error("no panic in the log")
	}
	w.r.mailer = w.office
	w.step(allDue.Add(firstPause))
	if len(w.office.to()) != 1 {
		t.Error("not sent afterwards")
	}
}

// Who takes reports may be getting ready: until that is over nothing is handed in,
// and Close does not wait for it.
func TestSettle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.close()
	w.clock.set(allDue)
	w.cfg.Settle = time.Hour
	w.r = mustOpen(t, w.cfg)
	w.r.Start(w.office)
	w.close()
	if to := w.office.to(); len(to) != 0 {
		t.Errorf("handed in at once: %v", to)
	}
	if documents, err := documents(w.cfg, midnight.Add(-time.Hour)); err != nil || len(documents) != 1 || documents[0].Done != "" {
		t.Errorf("%+v, %v", documents, err)
	}
}

// Start sends what is due by itself, and Close ends it.
func TestStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.TXT("_smtp._tls.example.net", record)
	w.r.Record(session("example.net", ""))
	w.close()
	w.clock.set(allDue)
	sent := make(chan struct{})
	w.r = mustOpen(t, w.cfg)
	w.r.Start(mailerFunc(func() error { close(sent); return nil }))
	select {
	case <-sent:
	case <-time.After(hang):
		t.Error("nothing was sent")
	}
	w.close()
	w.close() // twice is fine
}
