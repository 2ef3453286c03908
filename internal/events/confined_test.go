package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two domains that differ behind the first 255 octets of their U-labels only, and
// are valid: 249 octets in A-labels at most.
var (
	longLabels = strings.Repeat(strings.Repeat("\U0002070e", 45)+".", 3)
	longMine   = longLabels + "mine.example"
	longOther  = longLabels + "other.example"
)

// neighbours are senders whose events a question about mine.example must never
// find, whatever else is in it.
var neighbours = []string{
	"a@other.example", "a@sub.mine.example", "a@example", "a@xmine.example", "a@mine.example.other.example", "a@mine-example", "a@minexexample",
	"mine.example@other.example", `"a@mine.example"@other.example`, "a@mine.example@other.example", "", "<>", "mine.example", "a@mine.example%other.example",
	"a@*", "a@mine.example' OR '1'='1", "a@*.mine.example", "a@%", "a@mıne.example", "a@MİNE.EXAMPLE", "a@STRAẞE.example",
	"a@strasse.example", "a@" + longOther,
}

// crafted are filters that try to get out of the scope.
var crafted = []Filter{
	nil,
	Not{nil}, Not{And{}}, Not{Or{}}, Or{And{}, Not{And{}}}, And{Or{And{}, And{}}, Not{Or{}}}, Not{Not{Not{Or{}}}},
	Or{Is{FieldSenderDomain, []string{"other.example"}}, Not{Is{FieldSenderDomain, []string{"other.example"}}}},
	Not{Is{FieldSenderDomain, []string{"mine.example"}}},
	Is{FieldSender, neighbours},
	Or{Is{FieldSender, []string{"a@other.example"}}, Is{FieldEvent, []string{"delivered", "failed", "accepted"}}},
	Contains{FieldSender, "other"}, Not{Contains{FieldSender, "mine"}}, Contains{FieldSender, ""},
	Is{FieldRecipient, []string{"shared@example.net"}}, Not{Is{FieldRecipient, []string{"shared@example.net"}}},
	Is{FieldMessageID, []string{"shared@example.com"}}, Is{FieldQueueID, []string{"shared"}},
	Is{FieldSender, []string{`') OR 1=1 --`, `" OR ""="`, "x) OR (1=1", "\x00", "%", "*"}},
	Contains{FieldSubject, `') > 0 OR 1=1 --`}, Is{FieldTags, []string{"shared", "", "\x1f", "%"}}, Not{Is{FieldTags, []string{"shared"}}},
	Compare{FieldSize, AtLeast, 0}, Not{Compare{FieldSize, Less, 0}}, Is{FieldTLS, []string{"true", "false", ""}},
	Is{FieldSent, []string{"clear"}}, Not{Is{FieldSent, []string{"clear"}}}, Is{FieldSent, []string{"clear", "x') OR 1=1 --"}},
}

// A question about one domain finds events of that domain and no others: by
// filters, cursors, spellings, ids and in charts. The domain is part of the
// statement; none of it is done afterwards.
func TestConfined(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		shared := func(n int, sender string) fact {
			return fact{n: n, sender: sender, recipient: "shared@example.net", messageID: "shared@example.com", queueID: "shared",
				subject: "shared", tags: []string{"shared"}, list: "shared", size: 5, sent: "clear", mxHost: fmt.Sprintf("mx%d.example.net", n)}
		}
		facts := []fact{shared(100, "a@mine.example"), shared(101, "B@MINE.Example"), shared(102, "a@"+longMine), shared(103, "a@Straße.example")}
		facts[1].event, facts[1].severity, facts[1].reason = "failed", "temporary", "timeout"
		for i, sender := range neighbours {
			f := shared(i+1, sender)
			if f.sender == "" {
				f.sender = "<>"
			}
			f.reason, f.severity = "connect", ""
			facts = append(facts, f)
			f.n, f.event, f.severity = 200+i, "failed", "permanent"
			facts = append(facts, f)
		}
		w.put(t, facts...)
		for domain, own := range map[string][]string{
			"mine.example": {"100", "101"}, "Mine.EXAMPLE.": {"100", "101"}, longMine: {"102"},
			"straße.example": {"103"}, "xn--strae-oqa.EXAMPLE": {"103"},
		} {
			w.confined(t, domain, own)
		}
		// Names that are close to one, or are no names at all.
		for _, odd := range []string{"", "*", "%", "_", ".mine.example", " mine.example", "mine.example\x00", "mine_example", "mine.exampl"} {
			if found, _ := w.ask(t, Query{Domains: []string{odd}, Filter: Is{FieldSender, []string{"a@mine.example", "a@other.example"}}}); found != "" {
				t.Errorf("%q finds %s", odd, found)
			}
		}
	})
}

// confined asks about one domain in many ways.
func (w *world) confined(t *testing.T, domain string, own []string) {
	t.Helper()
	only := func(what, found string) {
		t.Helper()
		for _, n := range strings.Fields(found) {
			if !slices.Contains(own, n) {
				t.Errorf("%.30s, %s finds %s", domain, what, found)
				return
			}
		}
	}
	scope := []string{domain}
	all, _ := w.ask(t, Query{Domains: scope, Ascending: true})
	if all != strings.Join(own, " ") {
		t.Errorf("%.30s: found %s, want %v", domain, all, own)
	}
	for _, f := range crafted {
		for _, at := range []*Cursor{nil, {Micros: 0}, {Micros: epoch.Add(5 * time.Second).UnixMicro(), ID: fmt.Sprintf("%032x", 5)}, {Micros: 1 << 62, ID: "') OR 1=1 --"}, {Micros: -1 << 62}} {
			for _, q := range []Query{{After: at}, {Before: at}, {After: at, Ascending: true}, {Before: at, Ascending: true}} {
				q.Domains, q.Filter = scope, f
				found, page := w.ask(t, q)
				only(fmt.Sprintf("%#v at %v", f, at), found)
				// A page without events tells no place of somebody else's.
				if found == "" && page.First != nil && *page.First != *at {
					t.Errorf("%#v: an empty page begins at %v", f, page.First)
				}
			}
		}
	}
	for _, id := range []string{"shared", "shared@example.com", "%", "", "' OR '1'='1", "SHARED"} {
		story, err := w.Message(context.Background(), id, scope)
		if err != nil {
			t.Fatal(err)
		}
		only("message "+id, numbers(t, story))
	}
	st, err := w.Stats(context.Background(), epoch, epoch.Add(time.Hour), time.Minute, scope)
	if err != nil {
		t.Fatal(err)
	}
	var counted int64
	for _, b := range st.Buckets {
		counted += b.Verified + b.Unverified + b.Plaintext + b.Temporary + b.Permanent + b.Accepted
	}
	if counted != int64(len(own)) {
		t.Errorf("%.30s: %d events in the chart, want %d", domain, counted, len(own))
	}
	for _, f := range st.Failures {
		if f.Reason != "timeout" {
			t.Errorf("%.30s: failures %+v", domain, st.Failures)
		}
	}
	for _, h := range st.Hosts {
		if n := strings.TrimSuffix(strings.TrimPrefix(h.Name, "mx"), ".example.net"); !slices.Contains(own, n) {
			t.Errorf("%.30s: hosts %+v", domain, st.Hosts)
		}
	}
}

// What a question about one domain reads is found by its domain, so that how long it
// takes says nothing about what others have sent to whom.
func TestConfinedByIndex(t *testing.T) {
	t.Parallel()
	for _, analysed := range []bool{false, true} {
		w := start(t, Config{Driver: SQLite, DSN: t.TempDir() + "/events.db"})
		var facts []fact
		for n := range 2000 {
			facts = append(facts, fact{n: n, sender: "a@other.example", recipient: "boss@example.net", messageID: "m", queueID: "q"})
		}
		w.put(t, append(facts, fact{n: 3000, sender: "a@mine.example"})...)
		if analysed {
			if err := w.exec("ANALYZE"); err != nil {
				t.Fatal(err)
			}
			w.keepOnce()
		}
		page := func(q Query) func() (*builder, error) {
			q.Domains = []string{"mine.example"}
			return func() (*builder, error) { return w.page(&q, q.Ascending) }
		}
		boss := Is{FieldRecipient, []string{"boss@example.net"}}
		for name, build := range map[string]func() (*builder, error){
			"recipient":        page(Query{Filter: boss}),
			"message id":       page(Query{Filter: And{Is{FieldEvent, []string{"delivered"}}, Is{FieldMessageID, []string{"m"}}}}),
			"recipient domain": page(Query{Filter: Is{FieldRecipientDomain, []string{"example.net"}}}),
			"several":          page(Query{Filter: Or{boss, Is{FieldQueueID, []string{"q"}}}}),
			"all":              page(Query{Filter: And{boss, Is{FieldRecipientDomain, []string{"example.net"}}, Is{FieldQueueID, []string{"q"}}}}),
			"nothing":          page(Query{Begin: epoch, Ascending: true}),
			"a place":          page(Query{After: &Cursor{Micros: 5, ID: "x"}, Ascending: true}),
			"subject":          page(Query{Filter: Not{Contains{FieldSubject, "x"}}}),
			"chart": func() (*builder, error) {
				b := w.Store.ask("SELECT ts, id, document FROM events WHERE ")
				c := chart{begin: epoch, end: epoch.Add(time.Hour), domains: []string{"mine.example"}}
				err := c.where(b)
				b.text(" GROUP BY event")
				return b, err
			},
			"story":              func() (*builder, error) { return w.story("q", []string{"mine.example"}) },
			"tag":                page(Query{Filter: Is{FieldTags, []string{"x"}}}),
			"tag of a recipient": page(Query{Filter: And{boss, Is{FieldTags, []string{"x"}}}}),
			"forms": func() (*builder, error) {
				return w.db.latestOf("document", []messageOf{{"m", "mine.example"}, {"n", "mine.example"}}), nil
			},
		} {
			asked, err := build()
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Split(strings.TrimSpace(w.explain(t, asked)), "\n")
			if err := foundByDomain(plan); err != nil {
				t.Errorf("%s, analysed %v: %v: %q", name, analysed, err, plan)
			}
		}
	}
}

func foundByDomain(plan []string) error {
	searches := 0
	for _, step := range plan {
		switch {
		case step == "SCAN events_parts": // some rows, the same for everybody
		case step == "SCAN asked", strings.HasSuffix(step, "VALUES CLAUSE"): // what was asked for, or found
		case strings.HasPrefix(step, "SCAN"):
			return errors.New("all events are read")
		case strings.HasPrefix(step, "SEARCH") && !strings.Contains(step, "sender_domain=?"):
			return errors.New("events of other domains are read")
		case strings.HasPrefix(step, "SEARCH"):
			searches++
		}
	}
	if searches == 0 {
		return errors.New("it is not known how events are found")
	}
	return nil
}
