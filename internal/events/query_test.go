package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostile are values that have a meaning to a database, a pattern or an encoding.
var hostile = []string{
	"'", `"`, "' OR 1=1 --", "'); DROP TABLE events; --", "%", "_", "\\", "?", "$1", ":a", "\x00", "a\x00b", "\xff\xfe", "\u2028",
	"\x1f", "NULL", strings.Repeat("é", 3000), "{a,b}", `{"a"}`, "İ", "ẞ",
	`\N`, `\.`, "\\.\n\\.", "a\tb\\", "a\r\nb", `\x41`, `\101`,
}

// TestHostile: whatever stands in an event, it is stored, and found by it.
func TestHostile(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		var facts []fact
		for n, h := range hostile {
			facts = append(facts, fact{
				n: n + 1, event: h, severity: h, reason: h, sender: h + "@" + h, recipient: h + "@" + h, messageID: h, queueID: h, mxHost: h,
				subject: h, list: h, tags: []string{"x", h},
			})
		}
		w.put(t, facts...)
		for n, h := range hostile {
			for _, f := range []Filter{
				Is{FieldEvent, []string{h}}, Is{FieldSeverity, []string{h}}, Is{FieldReason, []string{h}}, Is{FieldSender, []string{h + "@" + h}},
				Is{FieldRecipient, []string{h + "@" + h}}, Is{FieldMessageID, []string{h}}, Is{FieldQueueID, []string{h}}, Is{FieldSenderDomain, []string{h}},
				Is{FieldMXHost, []string{h}}, Is{FieldSubject, []string{h}}, Is{FieldList, []string{h}}, Is{FieldTags, []string{h}},
			} {
				got, _ := w.ask(t, Query{Filter: f})
				if !slices.Contains(strings.Fields(got), strconv.Itoa(n+1)) {
					t.Errorf("%.60q: found %q", fmt.Sprint(f), got)
				}
			}
			if _, err := w.Query(context.Background(), Query{Filter: Contains{FieldSubject, h}, Domains: []string{h}, After: &Cursor{1, h}}); err != nil {
				t.Errorf("%q: %v", h, err)
			}
		}
		_, p := w.ask(t, Query{Ascending: true})
		if len(p.Items) != len(hostile) {
			t.Fatalf("%d events", len(p.Items))
		}
		for i, f := range facts {
			if want := event(t, f.document()); string(p.Items[i]) != string(want.Document()) {
				t.Errorf("stored %s, want %s", p.Items[i], want.Document())
			}
		}
	})
}

// TestFilters compares what a database finds with what a plain reading of the
// filter does, for random filters over random events.
func TestFilters(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		r := rand.New(rand.NewPCG(1, 2))
		var facts []fact
		for n := range 200 {
			facts = append(facts, randomFact(r, n))
		}
		w.put(t, facts...)
		found := 0
		for range 300 {
			f := randomFilter(r, 0)
			var want []string
			for _, x := range facts {
				if len(want) < MaxLimit && holds(f, x) {
					want = append(want, strconv.Itoa(x.n))
				}
			}
			got, _ := w.ask(t, Query{Filter: f, Ascending: true})
			if got != strings.Join(want, " ") {
				t.Fatalf("%#v\n got %s\nwant %s", f, got, strings.Join(want, " "))
			}
			if 0 < len(want) && len(want) < len(facts) {
				found++
			}
		}
		if found < 100 {
			t.Errorf("only %d filters tell events apart", found)
		}
	})
}

var (
	words   = []string{"", "red", "Green", "BLUE", "blue sky"}
	left    = []string{"", "clear", "unverified", "verified"}
	domains = []string{"example.com", "Bücher.example", "xn--bcher-kva.example", "other.example"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomFact(r *rand.Rand, n int) fact {
	f := fact{
		n: n, event: pick(r, []string{"delivered", "failed", "accepted"}), sender: "a@" + pick(r, domains),
		recipient: pick(r, []string{"B@", "c@"}) + pick(r, domains), subject: pick(r, words), list: pick(r, words),
		tls: r.IntN(2) == 0, verified: r.IntN(2) == 0, nothing: r.IntN(3) == 0, size: r.Int64N(10), mxHost: pick(r, words), sent: pick(r, left),
	}
	for range r.IntN(3) {
		f.tags = append(f.tags, pick(r, words[1:]))
	}
	if f.event == "failed" {
		f.severity, f.reason = pick(r, []string{"temporary", "permanent"}), pick(r, words)
	}
	return f
}

func randomFilter(r *rand.Rand, depth int) Filter {
	some := func(from []string) (v []string) {
		for range r.IntN(3) {
			v = append(v, pick(r, from))
		}
		return v
	}
	if depth < 3 && r.IntN(2) == 0 {
		switch n := r.IntN(4); r.IntN(3) {
		case 0:
			return Not{randomFilter(r, depth+1)}
		case 1:
			var all And
			for range n {
				all = append(all, randomFilter(r, depth+1))
			}
			return all
		default:
			var all Or
			for range n {
				all = append(all, randomFilter(r, depth+1))
			}
			return all
		}
	}
	return pick(r, []Filter{
		nil,
		Is{FieldEvent, some([]string{"delivered", "FAILED", "accepted"})},
		Is{FieldSenderDomain, some(domains)},
		Is{FieldSent, some(append(left, "Clear"))}, Is{FieldSent, []string{"clear"}},
		Is{FieldRecipientDomain, some(domains)},
		Is{FieldRecipient, []string{"b@" + pick(r, domains)}},
		Is{FieldSubject, some(words)},
		Is{FieldTags, some(words)},
		Is{FieldList, some(words)},
		Is{FieldSeverity, some([]string{"", "temporary", "permanent"})},
		Is{FieldTLS, some([]string{"true", "FALSE", ""})},
		Is{FieldVerified, some([]string{"true", "false"})},
		Is{FieldSize, some([]string{"0", "5", "-1"})},
		Compare{FieldSize, pick(r, []Comparison{Less, Greater, AtMost, AtLeast}), r.Int64N(10)},
		Contains{FieldSubject, pick(r, []string{"", "E", "ue s", "%"})},
	})
}

// holds reads a filter as its comments say.
func holds(f Filter, x fact) bool {
	switch f := f.(type) {
	case And:
		return !slices.ContainsFunc(f, func(f Filter) bool { return !holds(f, x) })
	case Or:
		return slices.ContainsFunc(f, func(f Filter) bool { return holds(f, x) })
	case Not:
		return !holds(f.Filter, x)
	case Contains:
		return strings.Contains(strings.ToLower(x.subject), strings.ToLower(f.Text))
	case Compare:
		return map[Comparison]bool{Less: x.size < f.Value, Greater: x.size > f.Value, AtMost: x.size <= f.Value, AtLeast: x.size >= f.Value}[f.How]
	case Is:
		return slices.ContainsFunc(f.Values, func(v string) bool {
			return slices.ContainsFunc(said(f.Field, x), func(s string) bool { return plain(f.Field, s) == plain(f.Field, v) })
		})
	}
	return true
}

// said is what an event says about a field.
func said(f Field, x fact) []string {
	domain := func(a string) string { return a[strings.Index(a, "@")+1:] }
	known := func(b bool) string {
		if x.nothing {
			return ""
		}
		return strconv.FormatBool(b)
	}
	switch f {
	case FieldEvent:
		return []string{x.event}
	case FieldSenderDomain:
		return []string{domain(x.sender)}
	case FieldRecipientDomain:
		return []string{domain(x.recipient)}
	case FieldRecipient:
		return []string{x.recipient}
	case FieldSubject:
		return []string{x.subject}
	case FieldList:
		return []string{x.list}
	case FieldSeverity:
		return []string{x.severity}
	case FieldTLS:
		return []string{known(x.tls)}
	case FieldVerified:
		return []string{known(x.verified)}
	case FieldSize:
		return []string{strconv.FormatInt(x.size, 10)}
	case FieldSent:
		if x.nothing {
			return []string{""}
		}
		return []string{x.sent}
	case FieldTags:
		if len(x.tags) == 0 {
			return []string{""}
		}
		return x.tags
	}
	panic(f)
}

func plain(f Field, s string) string {
	s = strings.ToLower(s)
	if f == FieldSenderDomain || f == FieldRecipientDomain {
		return strings.ReplaceAll(s, "xn--bcher-kva", "bücher")
	}
	return s
}

// TestBadFilters are the asker's mistakes, and say so.
func TestBadFilters(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: t.TempDir() + "/events.db"})
	w.put(t, fact{})
	deep := Filter(Not{})
	for range maxDepth + 1 {
		deep = And{deep}
	}
	for want, f := range map[string]Filter{
		`filter: there is no field "colour"`:                                       Is{"colour", []string{"red"}},
		`filter: there is no field "1=1; --"`:                                      Is{"1=1; --", []string{"red"}},
		`filter: there is no field "colour" with text in it`:                       Contains{"colour", "red"},
		`filter: there is no field "size" with text in it`:                         Contains{FieldSize, "1"},
		`filter: there is no field "tls" with a number in it`:                      Compare{FieldTLS, Less, 1},
		`filter: unexpected "<>", expected <, >, <= or >=`:                         Compare{FieldSize, "<>", 1},
		`filter: size: unexpected "1k", expected a number`:                         Is{FieldSize, []string{"1k"}},
		`filter: tls: unexpected "maybe", expected true or false`:                  Is{FieldTLS, []string{"maybe"}},
		fmt.Sprintf("filter: more than %d conditions inside each other", maxDepth): deep,
		fmt.Sprintf("filter: more than %d values", maxValues):                      Or{Is{FieldID, make([]string, maxValues)}},
	} {
		_, err := w.Query(context.Background(), Query{Filter: f})
		if !errors.Is(err, ErrFilter) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	many := make([]string, maxScope+1)
	if _, err := w.Query(context.Background(), Query{Domains: many}); !errors.Is(err, ErrFilter) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Query(context.Background(), Query{Domains: many[1:]}); err != nil {
		t.Errorf("got %v", err)
	}
	if !FieldTLS.Known() || Field("colour").Known() {
		t.Error("Known")
	}
}

// TestScope: a question restricted to domains sees nothing else, whatever it asks.
func TestScope(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 1, sender: "a@one.example"}, fact{n: 2, sender: "a@two.example"}, fact{n: 3, sender: "a@sub.one.example"}, fact{n: 4, sender: "<>"})
		for _, c := range []struct {
			domains []string
			want    string
		}{
			{nil, "1 2 3 4"}, {[]string{}, ""}, {[]string{"ONE.example"}, "1"}, {[]string{"one.example", "two.example"}, "1 2"}, {[]string{"%"}, ""},
			{[]string{"*.ONE.example"}, "3"}, {[]string{"*.example"}, "1 2 3"}, {[]string{"*.one.example", "two.example", "x.example"}, "2 3"},
			{[]string{"*.two.example", "*.sub.one.example"}, ""}, {[]string{"*.%"}, ""}, {[]string{"*._ne.example"}, ""}, {[]string{"*.!"}, ""},
		} {
			for _, f := range []Filter{nil, Or{And{}}, Or{Not{Or{}}, Is{FieldSenderDomain, []string{"two.example"}}}, Not{Is{FieldID, []string{"x"}}}} {
				if got, _ := w.ask(t, Query{Domains: c.domains, Filter: f, Ascending: true}); got != c.want {
					t.Errorf("%q, %v: got %q, want %q", c.domains, f, got, c.want)
				}
			}
			st, err := w.Stats(context.Background(), epoch, epoch.Add(time.Hour), time.Hour, c.domains)
			if err != nil || st.Buckets[0].Plaintext != int64(len(strings.Fields(c.want))) {
				t.Errorf("%q: %+v, %v", c.domains, st, err)
			}
		}
	})
}

// TestPaging walks to the end and back while events come in before, between and
// after: nothing that was there is missed or seen twice.
func TestPaging(t *testing.T) {
	t.Parallel()
	for _, ascending := range []bool{true, false} {
		on(t, func(t *testing.T, cfg Config) {
			w := start(t, cfg)
			const sender = "a@one.example"
			domains := []string{"one.example"}
			next := 1000
			insert := func(at int) {
				next++
				// The same moment as another event, and another id.
				d := strings.Replace(fact{n: at, sender: sender}.document(), fmt.Sprintf("%032x", at), fmt.Sprintf("%032x", next), 1)
				before, _ := w.count.numbers()
				w.Add(event(t, d))
				w.count.awaitStored(t, before+1)
			}
			var facts []fact
			for n := range 50 {
				facts = append(facts, fact{n: n, sender: sender})
			}
			w.put(t, facts...)
			var seen []string
			q := Query{Domains: domains, Ascending: ascending, Limit: 7}
			for {
				got, p := w.ask(t, q)
				if got == "" {
					if *p.Last != *q.After || *p.First != *q.After {
						t.Errorf("an empty page is at %v, want %v", p.Last, q.After)
					}
					break
				}
				seen = append(seen, strings.Fields(got)...)
				q.After = p.Last
				insert(25)
				insert(0)
			}
			inOrder(t, seen, ascending)
			end := q.After
			seen = nil
			for q = (Query{Domains: domains, Ascending: ascending, Limit: 7, Before: end}); ; {
				got, p := w.ask(t, q)
				if got == "" {
					break
				}
				seen = append(strings.Fields(got), seen...)
				q.Before = p.First
				insert(25)
			}
			// The place itself is on neither side.
			last := strconv.FormatInt(end.Micros/1e6-epoch.Unix(), 10)
			if n, _ := strconv.ParseInt(end.ID, 16, 64); n < 1000 {
				inOrder(t, append(seen, last), ascending)
			}
			want := "30 31 32 33"
			between := Query{Domains: domains, Ascending: true, After: place(30), Before: place(34)}
			if !ascending {
				want = "33 32 31 30"
				between = Query{Domains: domains, After: place(34), Before: place(30)}
			}
			if got, _ := w.ask(t, between); got != want {
				t.Errorf("between two places: %s", got)
			}
			if got, _ := w.ask(t, Query{Domains: domains, Ascending: ascending, Begin: epoch.Add(30 * time.Second), End: epoch.Add(34 * time.Second)}); got != want {
				t.Errorf("got %s", got)
			}
			// What comes in after the end is found from there on.
			if ascending {
				w.put(t, fact{n: 60, sender: sender})
				if got, _ := w.ask(t, Query{Domains: domains, Ascending: true, After: end}); !strings.HasSuffix(got, "60") {
					t.Errorf("polling: %s", got)
				}
			}
		})
	}
}

// place is just before the event with a number.
func place(n int) *Cursor {
	return &Cursor{epoch.Add(time.Duration(n) * time.Second).UnixMicro(), ""}
}

// inOrder checks that the first 50 events are all there, once and in order.
func inOrder(t *testing.T, seen []string, ascending bool) {
	t.Helper()
	var old []int
	for _, s := range seen {
		if n, _ := strconv.Atoi(s); n < 1000 {
			old = append(old, n)
		}
	}
	if !ascending {
		slices.Reverse(old)
	}
	want := make([]int, 50)
	for i := range want {
		want[i] = i
	}
	if !slices.Equal(old, want) {
		t.Errorf("ascending %v: got %v", ascending, old)
	}
}

// TestFirstPage: without a place there is none on an empty page.
func TestFirstPage(t *testing.T) {
	t.Parallel()
	w := start(t, Config{Driver: SQLite, DSN: t.TempDir() + "/events.db"})
	w.put(t, fact{})
	_, p := w.ask(t, Query{Filter: Or{}})
	if p.First != nil || p.Last != nil || len(p.Items) != 0 {
		t.Errorf("%+v", p)
	}
}

// TestLargeDocuments: what hostile servers wrote into the log does not fill the
// memory. A page of it has fewer events, and the next one goes on behind them.
func TestLargeDocuments(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		for n := range 13 {
			w.put(t, fact{n: n, subject: strings.Repeat("x", 1000<<10)})
		}
		for _, q := range []Query{{Ascending: true}, {Ascending: true, Before: place(13)}, {After: place(13)}, {Before: place(0)}} {
			var seen []string
			for pages := 0; ; pages++ {
				got, p := w.ask(t, q)
				if got == "" {
					if pages < 2 {
						t.Errorf("%+v: %d pages", q, pages)
					}
					break
				}
				if n := len(seen) + len(strings.Fields(got)); p.More != (n < 13) {
					t.Errorf("%+v: %d events, more %v", q, n, p.More)
				}
				if q.Before != nil {
					seen = append(strings.Fields(got), seen...)
					q.Before = p.First
				} else {
					seen = append(seen, strings.Fields(got)...)
					q.After = p.Last
				}
			}
			if !q.Ascending {
				slices.Reverse(seen)
			}
			if got := strings.Join(seen, " "); got != "0 1 2 3 4 5 6 7 8 9 10 11 12" {
				t.Errorf("%+v: got %s", q, got)
			}
		}
	})
}

// TestQueryTimeout: a question that takes too long ends.
func TestQueryTimeout(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		cfg.QueryTimeout = time.Nanosecond
		w := start(t, cfg)
		w.put(t, fact{})
		if _, err := w.Query(context.Background(), Query{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStats(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		hour := epoch.UTC().Truncate(time.Hour).Add(time.Hour)
		at := func(d time.Duration) int { return int(hour.Add(d).Sub(epoch) / time.Second) }
		w.put(t,
			fact{n: at(-time.Second), tls: true, verified: true, mxHost: "good.example"}, // before
			fact{n: at(0), tls: true, verified: true, mxHost: "good.example"},
			fact{n: at(time.Minute), tls: true, mxHost: "Bad.example"},
			fact{n: at(59 * time.Minute), mxHost: "bad.example"},
			fact{n: at(60 * time.Minute), mxHost: "worse.example", sender: "a@other.example"},
			fact{n: at(121 * time.Minute), event: "failed", severity: "temporary", reason: "connect", nothing: true},
			fact{n: at(122 * time.Minute), event: "failed", severity: "permanent", reason: "connect", nothing: true},
			fact{n: at(123 * time.Minute), event: "failed", severity: "permanent", reason: "rcpt-rejected", tls: true},
			fact{n: at(124 * time.Minute), event: "accepted", nothing: true},
			fact{n: at(3 * time.Hour)}, // after
		)
		st, err := w.Stats(context.Background(), hour, hour.Add(3*time.Hour), time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := Stats{
			Buckets: []Bucket{
				{Start: hour, Verified: 1, Unverified: 1, Plaintext: 1},
				{Start: hour.Add(time.Hour), Plaintext: 1},
				{Start: hour.Add(2 * time.Hour), Temporary: 1, Permanent: 2, Accepted: 1},
			},
			Failures: []Failures{{"connect", 1, 1}, {"rcpt-rejected", 0, 1}},
			Hosts:    []Host{{"bad.example", 2, 1, 1}, {"worse.example", 1, 0, 1}},
		}
		if fmt.Sprint(st) != fmt.Sprint(want) {
			t.Errorf("\n got %v\nwant %v", st, want)
		}
		for _, c := range [][3]any{{hour, hour, time.Hour}, {hour, hour.Add(time.Hour), time.Duration(0)}, {hour, hour.Add(1e5 * time.Hour), time.Hour}} {
			if _, err := w.Stats(context.Background(), c[0].(time.Time), c[1].(time.Time), c[2].(time.Duration), nil); !errors.Is(err, ErrFilter) {
				t.Errorf("%v: %v", c, err)
			}
		}
	})
}

// As many domains as a question may have can all be ones of which those below count.
func TestManyWildcards(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, cfg Config) {
		w := start(t, cfg)
		w.put(t, fact{n: 1, sender: "a@sub.d0.example"}, fact{n: 2, sender: "a@exact.example"}, fact{n: 3, sender: "a@other.example"})
		domains := []string{"exact.example"}
		for i := range maxScope - 1 {
			domains = append(domains, fmt.Sprintf("*.d%d.example", i))
		}
		if got, _ := w.ask(t, Query{Domains: domains, Ascending: true}); got != "1 2" {
			t.Errorf("got %q", got)
		}
	})
}

// The story of a message to as many as the API allows tells what became of it.
func TestStoryOfManyRecipients(t *testing.T) {
	t.Parallel()
	const recipients = 1000
	on(t, func(t *testing.T, cfg Config) {
		cfg.partSize = 0
		w := start(t, cfg)
		var facts []fact
		for n := range 2 * recipients {
			f := fact{n: n, messageID: "m@example.com", recipient: fmt.Sprintf("b%d@example.net", n%recipients)}
			if n < recipients {
				f.event, f.nothing = EventAccepted, true
			}
			facts = append(facts, f)
		}
		w.put(t, facts...)
		story, err := w.Message(context.Background(), "m@example.com", nil)
		if err != nil || len(story) != len(facts) {
			t.Errorf("%d of %d events, %v", len(story), len(facts), err)
		}
	})
}
