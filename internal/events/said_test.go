package events

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// mail is a message of a test: what its form says, and where it goes.
type mail struct {
	id, domain string
	tags       []string
	files      []string
	variables  string
}

// accepted is the event of its acceptance for a recipient.
func (m mail) accepted(t testing.TB, at time.Time, recipient string) Event {
	t.Helper()
	a := Accepted{
		Time: at, QueueID: "q", Sender: "a@" + m.domain, Recipient: recipient, Headers: map[string]string{"message-id": m.id}, Tags: m.tags, Method: "http",
	}
	for _, name := range m.files {
		a.Attachments = append(a.Attachments, Attachment{name, "text/plain", 3})
	}
	if m.variables != "" {
		a.Variables = json.RawMessage(m.variables)
	}
	e, err := a.Event()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// attempts are events of a message, with numbers that follow n.
func (m mail) attempts(n int, events ...string) (all []fact) {
	for i, event := range events {
		all = append(all, fact{n: n + i, event: event, sender: "b@" + m.domain, messageID: m.id, recipient: fmt.Sprintf("r%d@example.net", i)})
	}
	return all
}

// add adds a message with its attempts and waits for all of it.
func (w *world) add(t testing.TB, m mail, form bool, attempts ...fact) {
	t.Helper()
	before, _ := w.count.numbers()
	n := int64(len(attempts))
	if form {
		for i := range 2 {
			n++
			w.Add(m.accepted(t, epoch.Add(time.Duration(attempts[0].n)*time.Second-time.Minute), fmt.Sprintf("r%d@example.net", i)))
		}
	}
	for _, f := range attempts {
		w.Add(event(t, strings.Replace(f.document(), `"message-id":" "`, `"message-id":""`, 1)))
	}
	w.count.awaitStored(t, before+n)
}

// TestSaid: deliveries tell tags and variables of the form that their message came
// by, and are found by them; those of another sender with the same message ID are
// not. What is stored stays as it came.
func TestSaid(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		tagged := mail{"m1@x", "one.example", []string{"Bills", "two words"}, []string{"Bill ü.pdf", "b"}, `{"order":"42"}`}
		plain := mail{id: "m2@x", domain: "one.example"}
		other := mail{id: "m1@x", domain: "two.example"}
		nobody := mail{id: "", domain: "one.example", tags: []string{"bills"}}
		w.add(t, tagged, true, tagged.attempts(1, "delivered", "failed")...)
		w.add(t, plain, true, plain.attempts(10, "delivered")...)
		w.add(t, other, true, other.attempts(20, "delivered")...)
		w.add(t, nobody, true, fact{n: 30, event: "delivered", sender: "a@one.example", messageID: " "})

		not := func(f Filter) Filter { return Not{f} }
		attempts := Is{FieldEvent, []string{"delivered", "failed"}}
		for _, tt := range []struct {
			filter Filter
			want   string
		}{
			{Is{FieldTags, []string{"bills"}}, "1 2"},
			{Is{FieldTags, []string{"none", "TWO WORDS"}}, "1 2"},
			{And{Is{FieldTags, []string{"bills"}}, Is{FieldTags, []string{"two words"}}}, "1 2"},
			{And{Is{FieldTags, []string{"bills"}}, not(Is{FieldTags, []string{"two words"}})}, ""},
			{not(Is{FieldTags, []string{"bills"}}), "10 20 30"},
			{Or{Is{FieldTags, []string{"none"}}, Is{FieldMessageID, []string{"m2@x"}}}, "10"},
			{Is{FieldTags, []string{""}}, "10 20 30"},
			{Is{FieldTags, []string{"b"}}, ""},
			{Is{FieldAttachment, []string{"BILL Ü.pdf"}}, "1 2"},
			{Is{FieldAttachment, []string{"bills"}}, ""},
			{Is{FieldAttachment, []string{"b"}}, "1 2"},
			{not(Is{FieldAttachment, []string{"b"}}), "10 20 30"},
			{Is{FieldAttachment, []string{""}}, "10 20 30"},
		} {
			for _, asked := range []Query{{}, {Domains: []string{"one.example", "two.example"}}, {Domains: []string{"*.example"}}} {
				asked.Ascending, asked.Filter = true, And{attempts, tt.filter}
				if got, _ := w.ask(t, asked); got != tt.want {
					t.Errorf("%v of %v: got %q, want %q", tt.filter, asked.Domains, got, tt.want)
				}
			}
			got, _ := w.ask(t, Query{Ascending: true, Filter: And{attempts, tt.filter}, Domains: []string{"two.example"}})
			if want := strings.Join(strings.Fields(strings.NewReplacer("1 2", "", "10", "", "30", "").Replace(tt.want)), " "); got != want {
				t.Errorf("%v of another domain: got %q, want %q", tt.filter, got, want)
			}
		}

		_, page := w.ask(t, Query{Ascending: true, Filter: attempts})
		story, err := w.Message(context.Background(), "m1@x", []string{"one.example"})
		if err != nil || len(story) != 4 {
			t.Fatalf("%d events, %v", len(story), err)
		}
		for i, documents := range [][]json.RawMessage{page.Items, story[2:]} {
			for k, document := range documents {
				var d struct {
					Tags      []string
					Variables map[string]string `json:"user-variables"`
				}
				if err := json.Unmarshal(document, &d); err != nil {
					t.Fatalf("%v: %s", err, document)
				}
				if got, want := fmt.Sprint(d.Tags, d.Variables), "[Bills two words] map[order:42]"; (got == want) != (k < 2) || got != want && got != "[] map[]" {
					t.Errorf("%d, %d: got %s", i, k, got)
				}
			}
		}
		var stored string
		if err := w.db.read.QueryRow("SELECT document FROM events WHERE message_id = 'm1@x' AND event = 'failed'").Scan(&stored); err != nil ||
			stored != tagged.attempts(1, "delivered", "failed")[1].document() {
			t.Errorf("stored %s, %v", stored, err)
		}
	})
}

// TestSaidInSteps: a page that is put together of several steps is the one that a
// plain reading gives, in both directions and from any place.
func TestSaidInSteps(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		r := rand.New(rand.NewPCG(1, 2))
		var has []bool
		before, _ := w.count.numbers()
		stored := int64(0)
		messages := make([]mail, 400)
		for i := range messages {
			messages[i] = mail{id: fmt.Sprintf("m%d@x", i), domain: "one.example"}
			if r.IntN(20) == 0 {
				messages[i].tags = []string{"news"}
			}
			w.Add(messages[i].accepted(t, epoch.Add(-time.Hour), "r@example.net"))
			stored++
		}
		for n := range steps[0] + 2500 {
			m := messages[r.IntN(len(messages))]
			w.Add(event(t, fact{n: n, sender: "a@one.example", messageID: m.id}.document()))
			stored++
			has = append(has, m.tags != nil)
		}
		w.count.awaitStored(t, before+stored)
		all := Query{Domains: []string{"one.example"}, Filter: And{Is{FieldEvent, []string{"delivered"}}, Is{FieldTags, []string{"news"}}}}
		for _, q := range []Query{
			all, {Ascending: true}, {Limit: 7}, {Limit: 7, Ascending: true}, {After: place(3000)}, {After: place(100), Ascending: true, Limit: 200},
			{Before: place(4000)}, {Before: place(4000), Ascending: true}, {Begin: epoch.Add(50 * time.Second), End: epoch.Add(4000 * time.Second)},
		} {
			q.Domains, q.Filter = all.Domains, all.Filter
			got, _ := w.ask(t, q)
			if want := strings.Join(plainly(q, has), " "); got != want {
				t.Errorf("%+v\n got %s\nwant %s", q, got, want)
			}
		}
	})
}

// plainly reads a question as its comments say, of deliveries with numbers of which
// some are tagged.
func plainly(q Query, tagged []bool) (page []string) {
	limit := q.Limit
	if limit == 0 {
		limit = MaxLimit
	}
	var all []int
	for n, ok := range tagged {
		at := epoch.Add(time.Duration(n) * time.Second)
		if ok && !at.Before(q.Begin) && (q.End.IsZero() || at.Before(q.End)) {
			all = append(all, n)
		}
	}
	if !q.Ascending {
		slices.Reverse(all)
	}
	// A place of the tests is before the event of its number.
	behind := func(n int, c *Cursor) bool { return (n >= int(c.Micros/1e6-epoch.Unix())) == q.Ascending }
	all = slices.DeleteFunc(all, func(n int) bool {
		return q.After != nil && !behind(n, q.After) || q.Before != nil && behind(n, q.Before)
	})
	if q.Before != nil {
		all = all[max(0, len(all)-limit):]
	}
	for _, n := range all[:min(limit, len(all))] {
		page = append(page, fmt.Sprint(n))
	}
	return page
}

// BenchmarkSaid asks for deliveries by the tags of their messages, of which every
// other has a common one, and every thousandth a rare one.
func BenchmarkSaid(b *testing.B) {
	benchmarkOn(b, func(b *testing.B, cfg Config) {
		w := start(b, cfg)
		r := traffic{rand.New(rand.NewPCG(1, 2))}
		for n := 0; n < *amount; n += 2 {
			a := r.attempt(n)
			a.Sender = fmt.Sprintf("a@customer%d.example", r.IntN(5))
			m := mail{id: strings.Trim(a.Header.Get("Message-ID"), "<>"), domain: domainOf(a.Sender), variables: `{"order":"42"}`}
			if n%4 == 0 {
				m.tags = []string{"common"}
			}
			if n%1000 == 0 {
				m.tags = []string{"rare"}
			}
			for w.queue.size() > maxQueue/2 {
				time.Sleep(time.Millisecond)
			}
			w.Add(m.accepted(b, a.Concluded.Add(-time.Second), a.Recipient))
			w.Concluded(a, 0)
		}
		w.count.awaitStored(b, int64(*amount))
		w.keepOnce()
		for name, f := range map[string]Filter{
			"no-tag": nil, "common": Is{FieldTags, []string{"common"}}, "not-common": Not{Is{FieldTags, []string{"common"}}},
			"rare": Is{FieldTags, []string{"rare"}}, "none": Is{FieldTags, []string{"none"}},
			"none-of-a-recipient": And{Is{FieldTags, []string{"none"}}, Is{FieldRecipient, []string{"user7@large1.example"}}},
		} {
			for _, ascending := range []bool{false, true} {
				q := Query{Domains: []string{"customer1.example"}, Ascending: ascending, Filter: And{Is{FieldEvent, []string{"delivered", "failed"}}, f}}
				b.Run(fmt.Sprintf("%s/ascending=%v", name, ascending), func(b *testing.B) {
					w.benchmark(b, func() error { _, err := w.Query(context.Background(), q); return err })
				})
			}
		}
	})
}
