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

// TestSaidInAnyOrder: what the form said is told of deliveries that were stored
// before the acceptance of their message, in one batch with it, and after it, also
// by another process.
func TestSaidInAnyOrder(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		m := mail{id: "m1@x", domain: "one.example", tags: []string{"news"}}
		early := fact{n: 1, event: "delivered", sender: "a@one.example", messageID: m.id}
		others := fact{n: 2, event: "delivered", sender: "a@two.example", messageID: m.id}
		w.Add(event(t, early.document()))
		w.Add(event(t, others.document()))
		w.count.awaitStored(t, 2)
		w.Add(m.accepted(t, epoch, "r@example.net"))
		w.Add(event(t, fact{n: 3, event: "delivered", sender: "a@one.example", messageID: m.id}.document()))
		w.count.awaitStored(t, 4)
		w = w.again(t)
		w.Add(event(t, fact{n: 4, event: "failed", sender: "a@one.example", messageID: m.id}.document()))
		w.count.awaitStored(t, 1)
		if got, _ := w.ask(t, Query{Ascending: true, Filter: And{Is{FieldEvent, []string{"delivered", "failed"}}, Is{FieldTags, []string{"news"}}}}); got != "1 3 4" {
			t.Errorf("got %q", got)
		}
	})
}

// TestSaidTwice: of two forms with one message ID the later one counts, in what is
// found and in what is read; a later acceptance whose form says nothing stays so, and
// deliveries of long before are about something else.
func TestSaidTwice(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		a, b := mail{id: "m@x", domain: "one.example", tags: []string{"a"}}, mail{id: "m@x", domain: "one.example", tags: []string{"b"}}
		nothing := mail{id: "m@x", domain: "one.example"}
		delivery := func(n int) Event {
			return event(t, fact{n: n, event: "delivered", sender: "a@one.example", messageID: "m@x"}.document())
		}
		stored := int64(0)
		add := func(events ...Event) {
			t.Helper()
			for _, e := range events {
				w.Add(e)
				stored++
			}
			w.count.awaitStored(t, stored)
		}
		hour := int(overtaken / time.Second)
		at := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
		add(delivery(0), delivery(hour))
		add(a.accepted(t, at(hour+100), "r@example.net"))
		add(delivery(hour + 200))
		add(b.accepted(t, at(hour+300), "r@example.net"), nothing.accepted(t, at(hour+400), "r@example.net"))
		add(delivery(hour + 500))
		delivered := Is{FieldEvent, []string{"delivered"}}
		for tag, want := range map[string]string{"a": fmt.Sprint(hour, " ", hour+200), "b": fmt.Sprint(hour + 500), "": "0"} {
			if got, _ := w.ask(t, Query{Ascending: true, Filter: And{delivered, Is{FieldTags, []string{tag}}}}); got != want {
				t.Errorf("tag %q: got %q, want %q", tag, got, want)
			}
		}
		accepted := Is{FieldEvent, []string{"accepted"}}
		if p, err := w.Query(context.Background(), Query{Filter: And{accepted, Is{FieldTags, []string{""}}}}); err != nil || len(p.Items) != 1 {
			t.Errorf("%d acceptances say nothing, %v", len(p.Items), err)
		}
		_, page := w.ask(t, Query{Filter: delivered, Limit: 1})
		if !strings.Contains(string(page.Items[0]), `"tags":["b"]`) {
			t.Errorf("got %s", page.Items[0])
		}
	})
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

// TestSaidAfterRetention: deliveries are told what their form said, also where all
// events from before have been removed, with the parts that they were in.
func TestSaidAfterRetention(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		var old []fact
		for n := range 30 {
			old = append(old, fact{n: n})
		}
		for some := range slices.Chunk(old, 5) { // a batch begins one part at most
			w.put(t, some...)
		}
		if _, err := w.expire(epoch.Add(29 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for _, sql := range w.db.upkeep {
			if err := w.exec(sql); err != nil {
				t.Fatal(err)
			}
		}
		m := mail{id: "m@x", domain: "one.example", tags: []string{"a"}}
		w.put(t, m.attempts(30, "delivered")...)
		before, _ := w.count.numbers()
		w.Add(m.accepted(t, epoch.Add(31*time.Second), "r@example.net"))
		w.count.awaitStored(t, before+1)
		if got, _ := w.ask(t, Query{Filter: And{Is{FieldEvent, []string{"delivered"}}, Is{FieldTags, []string{"a"}}}}); got != "30" {
			t.Errorf("got %q", got)
		}
	})
}

// TestSaidIsBounded: what a form said is not repeated without end.
func TestSaidIsBounded(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		m := mail{id: "m@x", domain: "one.example", variables: fmt.Sprintf(`{"x":%q}`, strings.Repeat("y", 16<<10))}
		w.Add(m.accepted(t, epoch, "r@example.net"))
		w.count.awaitStored(t, 1)
		rows := make([]row, maxStory)
		for i := range rows {
			rows[i] = row{event: "delivered", message: messageOf{m.id, m.domain}, document: []byte(`{"event":"delivered"}`)}
		}
		if err := w.tellSaid(context.Background(), rows); err != nil {
			t.Fatal(err)
		}
		size := 0
		for i := range rows {
			size += len(rows[i].document)
		}
		if len(rows[0].document) < 16<<10 || size > maxTold+len(rows[0].document)+100*len(rows) {
			t.Errorf("%d octets, of which the first has %d", size, len(rows[0].document))
		}
	})
}
