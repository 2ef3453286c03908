package api

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// eventsPage is a page of events as clients read it.
type eventsPage struct {
	Items  []json.RawMessage
	Paging map[string]string
}

// ask gets a page, by its path with parameters or by its URL.
func (w *world) ask(path string) eventsPage {
	w.Helper()
	got := w.do(request{method: "GET", path: strings.TrimPrefix(path, w.srv.URL), key: fullKey})
	if got.status != 200 {
		w.Fatalf("%s: %d %s", path, got.status, got.body)
	}
	p := decode[eventsPage](w.T, got)
	for _, name := range []string{"first", "last", "next", "previous"} {
		u, err := url.Parse(p.Paging[name])
		if err != nil || !strings.HasPrefix(p.Paging[name], w.srv.URL+"/v3/example.com/events/") || strings.Count(u.Path, "/") != 4 || u.RawQuery != "" {
			w.Errorf("%s: %q, %v", name, p.Paging[name], err)
		}
	}
	return p
}

func TestTimeRange(t *testing.T) {
	t.Parallel()
	const first, last = "1760378520.5", "Mon, 13 Oct 2025 18:02:02 +0000"
	from, to := time.UnixMicro(1760378520_500000), time.UnixMicro(1760378522_000000)
	const µs = time.Microsecond
	var zero time.Time
	w := newWorld(t)
	for _, tt := range []struct {
		begin, end, ascending string
		from, to              time.Time
		up                    bool
	}{
		{"", "", "", zero, zero, false},
		{"", "", "no", zero, zero, false},
		{"", "", "yes", zero, zero, true},
		{first, "", "", from, zero, true},
		{first, "", "yes", from, zero, true},
		{last, "", "no", zero, to.Add(µs), false},
		{"Mon, 13 Oct 2025 11:02:02 PDT", "", "no", zero, to.Add(µs), false},
		{first, last, "", from, to.Add(µs), true},
		{last, first, "", from, to.Add(µs), false},
		{first, last, "no", from, to.Add(µs), false},
		{last, first, "yes", from, to.Add(µs), true},
		{first, first, "", from, from.Add(µs), true},
	} {
		v := url.Values{}
		for name, value := range map[string]string{"begin": tt.begin, "end": tt.end, "ascending": tt.ascending} {
			if value != "" {
				v.Set(name, value)
			}
		}
		p := w.ask("/v3/example.com/events?" + v.Encode())
		for range 2 { // the second time by the token
			q := w.query
			if !q.Begin.Equal(tt.from) || !q.End.Equal(tt.to) || q.Ascending != tt.up || q.Limit != 100 || !slices.Equal(q.Domains, []string{"example.com"}) {
				t.Errorf("%s: %+v", v.Encode(), q)
			}
			if q.After != nil || q.Before != nil || text(q.Filter) != "(event=accepted,delivered,failed)" {
				t.Errorf("%s: %+v %s", v.Encode(), q, text(q.Filter))
			}
			w.ask(p.Paging["first"])
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cursor := func(c *Cursor) Cursor {
		if c == nil {
			return Cursor{}
		}
		return *c
	}
	expect := func(after, before Cursor) {
		t.Helper()
		if q := w.query; cursor(q.After) != after || cursor(q.Before) != before || q.Limit != 2 || !q.Ascending ||
			text(q.Filter) != "(event=accepted,delivered,failed & recipient=b@example.net & tls=true)" {
			t.Errorf("got %+v, %v, %v, %s", q, q.After, q.Before, text(q.Filter))
		}
	}
	none := Cursor{}
	w.events = Page{Items: []json.RawMessage{[]byte(`{"id":"a"}`), []byte(`{"id":"b"}`)}, First: &Cursor{1, "a"}, Last: &Cursor{2, "b"}}
	p := w.ask("/v3/example.com/events?ascending=yes&limit=2&recipient=b@example.net&tls=yes")
	expect(none, none)
	if len(p.Items) != 2 || string(p.Items[1]) != `{"id":"b"}` {
		t.Errorf("items %s", p.Items)
	}
	first := p

	w.events = Page{}
	for range 2 { // the next page of an empty one is the same one: clients poll
		p = w.ask(p.Paging["next"])
		expect(Cursor{2, "b"}, none)
		if p.Items == nil || len(p.Items) != 0 {
			t.Errorf("items %s", p.Items)
		}
	}
	w.ask(p.Paging["previous"]) // ends with the last event, not before it
	expect(none, Cursor{Micros: math.MaxInt64})

	p = first
	for range 2 {
		p = w.ask(p.Paging["previous"])
		expect(none, Cursor{1, "a"})
	}
	w.ask(p.Paging["next"]) // begins with the first event, not behind it
	expect(none, none)
	w.ask(p.Paging["last"])
	expect(none, Cursor{Micros: math.MaxInt64})
	w.ask(p.Paging["first"])
	expect(none, none)

	got := w.do(request{method: "GET", path: strings.TrimPrefix(first.Paging["next"], w.srv.URL) + "?limit=3", key: fullKey})
	if got.status != 200 || w.query.Limit != 3 {
		t.Errorf("%d, limit %d", got.status, w.query.Limit)
	}
}

// mailgun.js sends the parameters of the question again where its user does (Ghost),
// with the page beside them.
func TestPagesWithTheirParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events = Page{Items: []json.RawMessage{[]byte(`{"id":"a"}`)}, First: &Cursor{1, "a"}, Last: &Cursor{1, "a"}}
	const query = "?limit=300&event=delivered+OR+opened+OR+failed+OR+unsubscribed+OR+complained&tags=bulk-email&begin=1760378520.5&end=1760378620&ascending=yes"
	p := w.ask("/v3/example.com/events" + query)
	p = w.ask(p.Paging["next"] + query)
	w.ask(p.Paging["next"] + query)
	if q := w.query; q.Limit != 300 || !q.Ascending || q.After == nil || *q.After != (Cursor{1, "a"}) || !strings.Contains(text(q.Filter), "tags=bulk-email") {
		t.Errorf("%+v", w.query)
	}
	w.ask(p.Paging["next"] + "?tags=bulk-email&pretty=yes")
}

func TestRefusedQuestions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", maxExpression)
	for query, want := range map[string]string{
		"end=1":   "begin parameter is missing",
		"begin=x": "begin parameter: unexpected x, expected seconds since 1970 or a date as in Thu, 13 Oct 2011 18:02:00 +0000",
		"begin=" + url.QueryEscape("Thu, 26 Nov 2026 18:10:00 CET"): "begin parameter: unexpected zone CET, expected an offset as +0100, or one of UTC, GMT, EST,",
		"begin=NaN":            "begin parameter: unexpected NaN, expected seconds",
		"begin=1e300":          "begin parameter: 1e300 is out of range",
		"begin=0x1p4":          "begin parameter: unexpected 0x1p4, expected seconds",
		"ascending=up":         `ascending parameter: unexpected "up", expected yes, no, true or false`,
		"limit=301":            "limit parameter: unexpected 301, expected a number from 1 to 300",
		"limit=0":              "limit parameter: unexpected 0, expected a number from 1 to 300",
		"event=failed&event=x": "event parameter is there more than once",
		"recipients=(":         "recipients parameter: the expression ends where a word is expected",
		"domain=x": "domain parameter is not supported, expected begin, end, ascending, limit, attachment, certificate-verified, content-sent, event, from, list, " +
			"message-id, mx-host, reason, recipient, recipients, severity, size, subject, tags, tls or to",
		"a;b": "The parameters are malformed: expected %XX after a percent sign, and & between them",
		"%zz": "The parameters are malformed",
		"subject=" + long + "&from=" + long + "&to=" + long + "&list=" + long + "&tags=" + long: "The expressions are too long together",
	} {
		w.want(w.do(request{method: "GET", path: "/v3/example.com/events?" + query, key: fullKey}), 400, want)
	}
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, token := range []string{
		"x", "eyJ", encode("{}"), encode("null"), encode(`{"l":1} `), encode(`{"l":1}{}`), encode(`{"l":301}`), encode(`{"l":1,"x":1}`),
		encode(`{"l":1,"b":9223372036854775807}`), encode(`{"l":1,"s":"x"}`), encode(`{"l":1,"t":5}`), encode(`{"l":1,"f":{"x":"y"}}`),
		encode(`{"l":1,"f":{"subject":"("}}`), encode(`{"l":1,"s":"n","i":"` + strings.Repeat("x", 129) + `"}`), encode(`{"l":1,"s":"n","i":"\n"}`),
		encode(`{"l":1,"s":"n","t":9223372036854775807}`), strings.Repeat("A", maxToken+1), "' OR 1=1 --", "..%2f..%2fetc",
	} {
		w.want(w.do(request{method: "GET", path: "/v3/example.com/events/" + url.PathEscape(token), key: fullKey}), 400, "The page token is malformed")
	}
	w.want(w.do(request{method: "GET", path: "/v3/example.com/events/" + encode(`{"l":1}`) + "?event=failed", key: fullKey}), 400, "event parameter is not that of the page: take page URLs as they are")
	w.want(w.do(request{method: "GET", path: "/v3/example.com/events/" + encode(`{"l":1}`) + "?begin=5", key: fullKey}), 400, "begin, end and ascending parameters are not those of the page")
	w.want(w.do(request{method: "GET", path: "/v3/example.com/events/" + encode(`{"l":1}`) + "?x=5", key: fullKey}), 400, "x parameter is not supported")
	w.eventErr = &Error{Status: 503, Text: "later", RetryAfter: 1}
	w.want(w.do(request{method: "GET", path: "/v3/example.com/events", key: fullKey}), 503, "later")

	bare := newWorld(t, func(c *Config) { c.Events = nil })
	bare.want(bare.do(request{method: "GET", path: "/v3/example.com/events", key: fullKey}), 404, "Nothing keeps events here: the http_api block has no store")
	bare.send(letter())
}

// Page URLs are under the name by which the client came, or the configured one.
func TestPageURLs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ public, host, want string }{
		{"", "api.example.com:8443", "http://api.example.com:8443/v3/example.com/events/"},
		{"", `evil"><script>`, "http://localhost/v3/example.com/events/"},
		{"", "", "http://localhost/v3/example.com/events/"},
		{"https://mail.example.com/relay/", "x", "https://mail.example.com/relay/v3/example.com/events/"},
	} {
		w := newWorld(t, func(c *Config) { c.PublicURL = tt.public })
		r := httptest.NewRequest("GET", "/v3/example.com/events", nil)
		r.Host = tt.host
		r.SetBasicAuth("api", fullKey)
		got := httptest.NewRecorder()
		w.api.ServeHTTP(got, r)
		p := decode[eventsPage](t, reply{body: got.Body.String()})
		if got.Code != http.StatusOK || !strings.HasPrefix(p.Paging["next"], tt.want) {
			t.Errorf("%q: %d %s", tt.host, got.Code, p.Paging["next"])
		}
	}
}

// A token that is taken is one that would have been made.
func FuzzToken(f *testing.F) {
	seed := func(s string) { f.Add(base64.RawURLEncoding.EncodeToString([]byte(s))) }
	seed(`{"b":1,"e":2,"a":true,"l":100,"f":{"event":"failed"},"s":"n","t":5,"i":"x"}`)
	seed(`{"l":1,"s":"l"}`)
	seed(`{"L":1}`)
	f.Add("e30")
	f.Fuzz(func(t *testing.T, s string) {
		q, at, err := parseToken(s)
		if err != nil {
			return
		}
		made := q.token(at)
		if len(made) > 2*maxToken || strings.ContainsAny(made, "/?#%+") {
			t.Errorf("made %q", made)
		}
		again, there, err := parseToken(made)
		if err != nil || again.token(there) != made {
			t.Errorf("%q became %q: %v", s, made, err)
		}
	})
}

// Whatever the parameters, there is an answer, and what is asked of the store is
// within bounds.
func FuzzQuestion(f *testing.F) {
	f.Add("begin=1&end=Thu,+13+Oct+2011+18:02:00+%2B0000&ascending=no&limit=300&event=failed+OR+accepted&size=%3E5")
	f.Add("begin=-1.5e9&recipients=%22a")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := readQuestion(raw, time.Now())
		if err != nil {
			if len(err.Error()) > 600 || strings.ContainsFunc(err.Error(), control) {
				t.Errorf("error %q", err)
			}
			return
		}
		if _, _, err := parseToken(q.token(place{behind, maxMicros, strings.Repeat("<", maxEventID)})); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
