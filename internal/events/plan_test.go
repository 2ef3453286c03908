package events

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPlans: SQLite answers questions of these kinds by the index that is meant
// for them, part after part, and sorts no more than a part. It does so without
// statistics, and with those that somebody made.
func TestPlans(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db"), partSize: 500})
	is := func(f Field, values ...string) Filter { return Is{f, values} }
	recipient, domain := is(FieldRecipient, "b1@d1.example"), is(FieldRecipientDomain, "d1.example")
	at := &Cursor{epoch.Add(1000 * time.Second).UnixMicro(), "x"}
	const (
		inPart  = "SCAN events_parts\nSEARCH events USING INDEX "
		inTime  = " events USING INDEX events_time"
		tie     = "USE TEMP B-TREE FOR LAST TERM OF ORDER BY" // of events with the same time
		onePart = "USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY"
		either  = "SCAN events_parts\nMULTI-INDEX OR\n"
	)
	questions := []struct {
		q    Query
		want []string // in the plan
		sort string   // what is sorted
	}{
		{Query{}, []string{inTime}, ""},
		{Query{Begin: epoch, Ascending: true}, []string{inTime + " (ts>?)"}, ""},
		{Query{Filter: Not{recipient}}, []string{inTime}, ""},
		{Query{Filter: Or{recipient, is(FieldEvent, "failed")}}, []string{inTime}, ""},
		{Query{Domains: []string{"c1.example"}}, []string{"INDEX events_sender_domain (sender_domain=?)"}, tie},
		{Query{Domains: []string{"c1.example", "c2.example"}}, []string{inTime}, ""},
		{Query{Filter: recipient}, []string{inPart + "events_recipient (part=? AND recipient=?)"}, tie},
		{Query{Filter: recipient, Before: at}, []string{inPart + "events_recipient (part=? AND recipient=? AND ts>?)"}, tie},
		{Query{Filter: recipient, After: at}, []string{inPart + "events_recipient (part=? AND recipient=? AND ts<?)"}, tie},
		{Query{Filter: recipient, Domains: []string{"c1.example", "c2.example"}}, []string{inPart + "events_recipient ("}, tie},
		{Query{Filter: recipient, Domains: []string{"c1.example"}}, []string{inPart + "events_sender_domain_recipient (part=? AND sender_domain=? AND recipient=?)"}, tie},
		{Query{Filter: domain, Domains: []string{"c1.example"}}, []string{"INDEX events_sender_domain (sender_domain=?)"}, tie},
		{Query{Filter: recipient, Domains: []string{"c1.example", "*.c2.example"}}, []string{inPart + "events_recipient ("}, tie},
		{Query{Filter: domain, Begin: epoch, End: epoch.Add(time.Hour)}, []string{inPart + "events_recipient_domain (part=? AND recipient_domain=? AND ts>? AND ts<?)"}, tie},
		{Query{Filter: And{is(FieldEvent, "failed"), domain}}, []string{inPart + "events_recipient_domain ("}, tie},
		{Query{Filter: is(FieldRecipient, "x", "y")}, []string{inPart + "events_recipient ("}, onePart},
		{Query{Filter: is(FieldMessageID, "x")}, []string{inPart + "events_message_id (part=? AND message_id=?)"}, onePart},
		{Query{Filter: is(FieldQueueID, "x")}, []string{inPart + "events_queue_id (part=? AND queue_id=?)"}, onePart},
		{Query{Filter: is(FieldTags, "x"), Domains: []string{"c1.example"}}, []string{"INDEX events_tagged (sender_domain=?)"}, tie},
		{Query{Filter: And{is(FieldEvent, "failed"), is(FieldAttachment, "x", "y")}, Domains: []string{"c1.example"}, Begin: epoch}, []string{"INDEX events_tagged (sender_domain=? AND ts>?)"}, tie},
		{Query{Filter: is(FieldSent, "clear")}, []string{"INDEX events_clear"}, ""},
		{Query{Filter: is(FieldSent, "Clear"), Before: at}, []string{"INDEX events_clear (ts>?)"}, ""},
		{Query{Filter: And{is(FieldSent, "clear"), is(FieldEvent, "failed")}, Domains: []string{"c1.example", "c2.example"}}, []string{"INDEX events_clear"}, ""},
		{Query{Filter: is(FieldSent, "clear"), Domains: []string{"c1.example"}, Begin: epoch}, []string{"INDEX events_sender_domain_clear (sender_domain=? AND ts>?)"}, ""},
		{Query{Filter: And{recipient, is(FieldSent, "clear")}}, []string{inPart + "events_recipient (part=? AND recipient=?)"}, tie},
		{Query{Filter: is(FieldSent, "clear", "unverified")}, []string{inTime}, ""},
		{Query{Filter: And{recipient, is(FieldTags, "x")}}, []string{inPart + "events_recipient (part=? AND recipient=?)"}, tie},
		{Query{Filter: Or{recipient, domain}}, []string{either, "INDEX events_recipient (part=? AND", "INDEX events_recipient_domain (part=? AND"}, "USE TEMP B-TREE FOR ORDER BY"},
	}
	check := func(when string) {
		t.Helper()
		for _, c := range questions {
			c.q.Limit = 100
			b, err := w.page(&c.q, c.q.Ascending != (c.q.Before != nil))
			if err != nil {
				t.Fatal(err)
			}
			w.planned(t, when, b, c.sort, c.want...)
		}
		b, err := w.story("x", nil)
		if err != nil {
			t.Fatal(err)
		}
		w.planned(t, when, b, "USE TEMP B-TREE FOR ORDER BY", either, "INDEX events_queue_id (part=? AND", "INDEX events_message_id (part=? AND")
		m := messageOf{"m", "c1.example"}
		w.planned(t, when, w.db.ask(anySaid), "", "INDEX events_said")
		w.planned(t, when, w.db.tagEarlier(m, "x", 1), "", "INDEX events_message_id (part=? AND message_id=? AND sender_domain=?")
		w.planned(t, when, w.db.untagged([]string{"m", "n"}, 1), "", "INDEX events_message_id (part=? AND message_id=?")
		w.planned(t, when, w.db.latestOf("tags", []messageOf{m, m}), "", "INDEX events_said (message_id=? AND sender_domain=?)")
	}
	w.store(t, fact{n: 1}, fact{n: 2})
	check("among two events")
	for at := range 4 {
		var facts []fact
		for n := range 500 {
			n += at * 500
			facts = append(facts, fact{n: n, recipient: fmt.Sprintf("b%d@d%d.example", n%100, n%10), sender: fmt.Sprintf("a@c%d.example", n%3)})
		}
		w.store(t, facts...)
	}
	check("among many")
	if err := w.exec("ANALYZE"); err != nil {
		t.Fatal(err)
	}
	// Connections that are open do not look for statistics again.
	w = w.again(t)
	w.store(t, fact{n: 5000})
	check("with statistics")
}

// planned checks that SQLite would answer in a way with all of want, and sort
// nothing but what is said.
func (w *world) planned(t *testing.T, when string, b *builder, sort string, want ...string) {
	t.Helper()
	plan := w.explain(t, b)
	for _, part := range want {
		if !strings.Contains(plan, part) {
			t.Errorf("%s: %s\n%swant %s", when, b.sql.String(), plan, part)
		}
	}
	if _, sorted, _ := strings.Cut(plan, "USE TEMP"); strings.TrimPrefix(sort, "USE TEMP") != strings.TrimSuffix(sorted, "\n") {
		t.Errorf("%s: %s\n%swant sorted: %q", when, b.sql.String(), plan, sort)
	}
}

// explain returns how SQLite would answer.
func (w *world) explain(t *testing.T, b *builder) string {
	t.Helper()
	rows, err := w.db.read.Query("EXPLAIN QUERY PLAN "+b.sql.String(), b.args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
