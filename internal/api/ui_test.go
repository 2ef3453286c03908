package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// newPage is newWorld with a page.
func newPage(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	return newWorld(t, append([]func(*Config){func(c *Config) {
		c.UI = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })
	}}, change...)...)
}

// visit is a browser that has logged in.
type visit struct {
	*world
	cookie, token string
}

// login logs in with a key.
func (w *world) login(key string) reply {
	w.Helper()
	return w.do(request{method: "POST", path: "/ui/data/login", form: url.Values{"key": {key}}, header: http.Header{"X-Csrf-Token": {"login"}}})
}

func (w *world) enter() *visit {
	w.Helper()
	got := w.login(fullKey)
	if got.status != 200 {
		w.Fatalf("login: %d %s", got.status, got.body)
	}
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	return &visit{w, cookie, decode[sessionAnswer](w.T, got).Token}
}

// do sends a request as the page does, with more header fields.
func (v *visit) do(method, path string, form url.Values, header ...string) reply {
	v.Helper()
	h := http.Header{"Cookie": {v.cookie}}
	if method != "GET" {
		h.Set(tokenField, v.token)
	}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return v.world.do(request{method: method, path: path, form: form, header: h})
}

func TestUILogin(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	for key, text := range map[string]string{
		"": "Invalid private key", "wrong": "Invalid private key", strings.Repeat("x", 1000): "Invalid private key",
		domainKey: "Invalid private key: this one can only send mail of its domain",
	} {
		got := w.login(key)
		w.want(got, 401, text)
		if got.header.Get("Set-Cookie") != "" || got.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%q: %v", key, got.header)
		}
	}
	got := w.login(fullKey)
	cookie := got.header.Get("Set-Cookie")
	for _, want := range []string{"ui_session=", "; Path=/ui/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("no %s in %s", want, cookie)
		}
	}
	if strings.Contains(cookie, "Secure") || strings.Contains(cookie+got.body, fullKey) {
		t.Errorf("got %s %s", cookie, got.body)
	}
	w.want(w.do(request{method: "POST", path: "/ui/data/login", form: url.Values{"key": {fullKey}, "more": {"x"}}, header: http.Header{"X-Csrf-Token": {"x"}}}),
		400, "more parameter is not supported, expected key")
	for _, line := range w.log {
		if strings.Contains(line, "wrong") || strings.Contains(line, fullKey) {
			t.Errorf("a key is in the log: %s", line)
		}
	}
}

// Over TLS, also that of a proxy, the cookie must not leave in clear.
func TestUICookieIsSecure(t *testing.T) {
	t.Parallel()
	w := newPage(t, func(c *Config) { c.PublicURL = "https://api.example.org/relay/" })
	if cookie := w.login(fullKey).header.Get("Set-Cookie"); !strings.Contains(cookie, "; Path=/relay/ui/; ") || !strings.Contains(cookie, "; Secure") {
		t.Errorf("got %s", cookie)
	}
}

func TestUICookieIsSecureOverTLS(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	secure := httptest.NewTLSServer(w.api)
	t.Cleanup(secure.Close)
	r, err := http.NewRequest("POST", secure.URL+"/ui/data/login", strings.NewReader("key="+fullKey))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Csrf-Token": {"login"}}
	res, err := secure.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if c := res.Cookies(); len(c) != 1 || !c[0].Secure || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode || c[0].Path != "/ui/" {
		t.Errorf("got %v", c)
	}
}

func TestUINeedsLogin(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	for _, rt := range w.api.uiRoutes {
		if rt.access == anybody {
			continue
		}
		path := strings.NewReplacer("{domain}", "example.com", "{page}", "x").Replace(rt.path)
		for _, cookie := range []string{"", "ui_session=", "ui_session=AAAAAAAAAAAAAAAAAAAAAAAAAA", "ui_session=" + fullKey} {
			got := w.do(request{method: rt.method, path: path, key: fullKey, header: http.Header{"Cookie": {cookie}, "X-Csrf-Token": {"x"}}})
			w.want(got, 401, "Log in first")
			if got.header.Get("WWW-Authenticate") != "" {
				t.Error("a browser would ask for a password")
			}
		}
	}
	v := w.enter()
	w.want(v.do("GET", "/v3/domains", nil), 401, "Invalid private key") // the cookie is for the page alone
}

// Every change needs the session's token, and must not come from another site.
func TestUIRefusesForgery(t *testing.T) {
	t.Parallel()
	w := newPage(t, func(c *Config) { c.PublicURL = "https://api.example.org" })
	v, other := w.enter(), w.enter()
	const path = "/ui/data/domains/example.com"
	form := url.Values{"require_tls": {"yes"}}
	for _, header := range [][]string{
		{tokenField, ""}, {tokenField, "login"}, {tokenField, other.token},
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.test"}, {"Origin", "null"},
	} {
		for _, to := range []string{path, "/ui/data/logout"} {
			method := "PUT"
			if to != path {
				method = "POST"
			}
			w.want(v.do(method, to, form, header...), 403, "The request does not come from this page")
		}
	}
	w.want(w.do(request{method: "POST", path: "/ui/data/login", form: url.Values{"key": {fullKey}}}), 403, "The request does not come from this page")
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} { // no write by another method
		v.do(method, path+"?require_tls=yes", nil)
	}
	w.want(v.do("GET", "/ui/data/logout", nil), 405, "expected POST")
	if len(w.domains) != 0 {
		t.Fatalf("something was changed: %v", w.domains)
	}
	w.want(v.do("PUT", path, form), 200, "Domain has been updated")
	w.want(v.do("PUT", path, form, "Origin", "https://api.example.org"), 200, "")
	w.want(v.do("PUT", "/ui/data/domains/fixed.example", form), 409, "fixed.example is set at maddy.conf:7")
	if !slices.ContainsFunc(w.log, func(s string) bool { return strings.Contains(s, "domain settings changed keyfull") }) {
		t.Errorf("who changed something is not in the log: %v", w.log)
	}
}

// A session ends by logout, by a key that is revoked, and by time; a key table
// that is away does not end it.
func TestUISessionEnds(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	now := time.Now()
	w.api.sessions.now = func() time.Time { return now }
	v := w.enter()
	w.want(v.do("GET", "/ui/data/session", nil), 200, v.token)
	got := v.do("POST", "/ui/data/logout", nil)
	w.want(got, 200, "Logged out")
	if !strings.Contains(got.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("the cookie stays: %v", got.header)
	}
	w.want(v.do("GET", "/ui/data/session", nil), 401, "Log in first")

	v = w.enter()
	now = now.Add(sessionIdle - 1)
	w.want(v.do("GET", "/ui/data/session", nil), 200, "")
	now = now.Add(sessionIdle)
	w.want(v.do("GET", "/ui/data/session", nil), 401, "Log in first")

	v = w.enter()
	for range 2 * sessionLife / sessionIdle {
		now = now.Add(sessionIdle/2 - 1)
		w.want(v.do("GET", "/ui/data/session", nil), 200, "")
	}
	now = now.Add(sessionIdle / 2)
	w.want(v.do("GET", "/ui/data/session", nil), 401, "Log in first")

	v = w.enter()
	w.setKeys(errors.New("away"), false)
	w.want(v.do("GET", "/ui/data/session", nil), 503, "Keys cannot be looked up now")
	w.setKeys(nil, true)
	w.want(v.do("GET", "/ui/data/session", nil), 401, "Log in first")
	w.setKeys(nil, false)
	w.want(v.do("GET", "/ui/data/session", nil), 401, "Log in first") // not back with its key
}

func (w *world) setKeys(err error, revoked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keysErr, w.revoked = err, revoked
}

func TestUISessionsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newSessions(func() time.Time { return now })
	first, _ := s.open("a", Key{})
	for range maxSessions - 1 {
		now = now.Add(time.Millisecond)
		s.open("b", Key{})
	}
	now = now.Add(time.Millisecond)
	s.find(first) // in use
	second, _ := s.open("c", Key{})
	if len(s.all) != maxSessions {
		t.Errorf("%d sessions", len(s.all))
	}
	for _, cookie := range []string{first, second} {
		if _, ok := s.find(cookie); !ok {
			t.Error("the wrong one made room")
		}
	}
	now = now.Add(sessionIdle)
	s.open("d", Key{})
	if len(s.all) != 1 {
		t.Errorf("%d sessions after a long time", len(s.all))
	}
}

// Whoever logs in again and again logs nobody out but those with the same key.
func TestUISessionsOfOthers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := newSessions(func() time.Time { return now })
	operator, _ := s.open("a", Key{ID: "full"})
	mine, _ := s.open("b", Key{ID: "reads", Domain: "example.com", Reads: true})
	for range 2 * maxSessions {
		now = now.Add(time.Millisecond)
		s.open("b", Key{ID: "reads", Domain: "example.com", Reads: true})
	}
	if _, ok := s.find(operator); !ok {
		t.Error("another key's session made room")
	}
	if _, ok := s.find(mine); ok || len(s.all) != maxSessions {
		t.Errorf("%d sessions, the oldest of them: %v", len(s.all), ok)
	}
}

// Who tries keys at the login has to wait as one at the API does.
func TestUIGuesses(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	for range guessBurst {
		got := w.from("192.0.2.1", "wrong")
		w.want(got, 401, "Invalid private key")
	}
	w.want(w.from("192.0.2.1", fullKey), 429, "Too many requests with wrong keys")
	w.want(w.from("192.0.2.2", fullKey), 200, "")
}

// from logs in with a key from an address.
func (w *world) from(address, key string) reply {
	r := httptest.NewRequest("POST", "/ui/data/login", strings.NewReader(url.Values{"key": {key}}.Encode()))
	r.RemoteAddr = address + ":1234"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set(tokenField, "login")
	got := httptest.NewRecorder()
	w.api.ServeHTTP(got, r)
	return reply{got.Code, got.Header(), got.Body.String()}
}

// Every answer confines the page, errors too.
func TestUIHeaders(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	v := w.enter()
	w.events = Page{Items: []json.RawMessage{json.RawMessage(`{"event":"<script>alert(1)</script>"}`)}}
	for _, path := range []string{
		"/ui", "/ui/", "/ui/x", "/ui/../ui/", "/ui/data/", "/ui/data/x", "/ui/data/login", "/ui/data/session", "/ui/data/domains",
		"/ui/data/domains/%00", "/ui/data/events", "/ui/data/events/x", "/ui/data/events?x=y", "/ui/data/messages/x", "/ui/data/stats",
	} {
		for _, got := range []reply{v.do("GET", path, nil), v.do("POST", path, url.Values{}), w.do(request{method: "GET", path: path})} {
			if csp := got.header.Get("Content-Security-Policy"); csp != uiPolicy {
				t.Errorf("%s: %d, policy %q", path, got.status, csp)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
				if got.header.Get(name) != want {
					t.Errorf("%s: %s is %q", path, name, got.header.Get(name))
				}
			}
			if strings.Contains(got.body, "<") && got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s as %s", path, got.body, got.header.Get("Content-Type"))
			}
		}
	}
}

func TestUIEvents(t *testing.T) {
	t.Parallel()
	w := newPage(t, func(c *Config) { c.SendingDomains = []string{"example.com", "*.example.org"} })
	v := w.enter()
	w.events = Page{Items: []json.RawMessage{json.RawMessage(`{"id":"1"}`)}, First: &Cursor{1, "1"}, Last: &Cursor{1, "1"}}
	for query, want := range map[string][]string{
		"tls=no&reason=connect": {"example.com", "*.example.org"},
		"domain=a.Example.org":  {"a.example.org"},
	} {
		got := v.do("GET", "/ui/data/events?"+query, nil)
		w.want(got, 200, "")
		if !slices.Equal(w.query.Domains, want) {
			t.Errorf("%s: asked for %v", query, w.query.Domains)
		}
		if w.events.More = !w.events.More; !strings.Contains(got.body, fmt.Sprintf(`"more":%v`, !w.events.More)) {
			t.Errorf("whether there is more: %s", got.body)
		}
		next := decode[eventsAnswer](t, got).Paging.Next
		w.want(v.do("GET", "/ui/data/events/"+next+"?domain=example.com", nil), 200, "")
		if !slices.Equal(w.query.Domains, []string{"example.com"}) || w.query.After == nil {
			t.Errorf("the next page: %+v", w.query)
		}
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"events?domain=other.test":           {404, "Domain not found: other.test"},
		"events?domain=example.com&tls=what": {400, "tls parameter: unexpected what"},
		"events/x":                           {400, "The page token is malformed"},
		"messages/q2":                        {404, "Nothing is known of message q2"},
		"messages/%3Cq1%3E":                  {200, `"id":"1"`},
		"stats?span=year":                    {400, "span parameter: unexpected year"},
		"stats?span=day&domain=other.test":   {404, "Domain not found"},
		"stats?span=week":                    {200, "part-seconds"},
		"domains/other.test":                 {404, "Domain not found"},
	} {
		w.story = []json.RawMessage{json.RawMessage(`{"id":"1"}`)}
		if got := v.do("GET", "/ui/data/"+path, nil); got.status != want.status || !strings.Contains(got.body, want.text) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if !slices.Equal(w.scope, []string{"example.com", "*.example.org"}) {
		t.Errorf("the rest asked for %v", w.scope)
	}
}

func TestUIStatsCoverTheTime(t *testing.T) {
	t.Parallel()
	v := newPage(t).enter()
	for name, span := range spans {
		got := decode[statsAnswer](t, v.do("GET", "/ui/data/stats?span="+name, nil))
		if len(got.Buckets) != int(span.length/span.part) || got.End.Sub(got.Begin) != span.length || !got.Buckets[0].Start.Equal(got.Begin) {
			t.Errorf("%s: %d parts from %v to %v", name, len(got.Buckets), got.Begin, got.End)
		}
	}
}

// Without a store the page is about domains alone.
func TestUIWithoutStore(t *testing.T) {
	t.Parallel()
	v := newPage(t, func(c *Config) { c.Events = nil }).enter()
	for _, path := range []string{"events", "messages/q1", "stats?span=day"} {
		v.want(v.do("GET", "/ui/data/"+path, nil), 404, "Nothing keeps events here")
	}
	v.want(v.do("GET", "/ui/data/session", nil), 200, "")
	if got := v.do("GET", "/ui/data/session", nil); decode[sessionAnswer](t, got).Events {
		t.Error("events are promised")
	}
}
