package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/events"
	"tlscontrol/internal/policy"
)

// decisions say what each key gets of each route, asked for example.com. A route
// that is not here has not been decided about, and fails the test.
var decisions = map[string]statuses{
	// none, sends for example.com, reads it, reads example.org, opens everything
	"GET /healthz":                          {200, 200, 200, 200, 200},
	"GET /readyz":                           {200, 200, 200, 200, 200},
	"GET /openapi.json":                     {200, 200, 200, 200, 200},
	"GET /v3/domains":                       {401, 401, 200, 200, 200},
	"GET /v4/domains":                       {401, 401, 200, 200, 200},
	"GET /v3/domains/{domain}":              {401, 401, 200, 401, 200},
	"GET /v4/domains/{domain}":              {401, 401, 200, 401, 200},
	"PUT /v4/domains/{domain}":              {401, 401, 401, 401, 200},
	"GET /v3/domains/{domain}/connection":   {401, 401, 200, 401, 200},
	"PUT /v3/domains/{domain}/connection":   {401, 401, 401, 401, 200},
	"POST /v3/{domain}/messages":            {401, 200, 200, 401, 200},
	"POST /v3/{domain}/messages.mime":       {401, 200, 200, 401, 200},
	"GET /v3/{domain}/events":               {401, 401, 200, 401, 200},
	"GET /v3/{domain}/events/{page}":        {401, 401, 200, 401, 200},
	"POST /ui/data/login":                   {401, 401, 200, 200, 200},
	"POST /ui/data/logout":                  {401, 401, 200, 200, 200},
	"GET /ui/data/session":                  {401, 401, 200, 200, 200},
	"GET /ui/data/domains":                  {401, 401, 200, 200, 200},
	"GET /ui/data/domains/{domain}":         {401, 401, 200, 404, 200},
	"PUT /ui/data/domains/{domain}":         {401, 401, 401, 401, 200},
	"GET /ui/data/events":                   {401, 401, 200, 200, 200},
	"GET /ui/data/events?domain={domain}":   {401, 401, 200, 404, 200},
	"GET /ui/data/events/{page}":            {401, 401, 200, 200, 200},
	"GET /ui/data/events/{page}?domain=x.y": {401, 401, 404, 404, 200},
	"GET /ui/data/messages/{page}":          {401, 401, 200, 200, 200},
	"GET /ui/data/stats":                    {401, 401, 200, 200, 200},
	"GET /ui/data/stats?domain={domain}":    {401, 401, 200, 404, 200},
}

// statuses are what the keys get, in the order of callers.
type statuses [5]int

var callers = [5]string{"", domainKey, readKey, otherKey, fullKey}

// askAs asks a route with a key: the page with a session of the key, if it gets one.
func (w *world) askAs(route, key string) reply {
	w.Helper()
	method, path, _ := strings.Cut(route, " ")
	page := question{Limit: 1}.token(place{})
	if strings.Contains(path, "/messages/") {
		page = "q1"
	}
	q := request{method: method, path: strings.NewReplacer("{domain}", "example.com", "{page}", page).Replace(path)}
	if strings.HasSuffix(path, "/stats") {
		q.path += "?span=day"
	}
	q.path = strings.Replace(q.path, "/stats?domain", "/stats?span=day&domain", 1)
	switch {
	case strings.HasSuffix(path, "/messages"):
		q.form = letter()
	case strings.HasSuffix(path, ".mime"):
		q.form = url.Values{"to": {"b@example.net"}, "message": {"From: a@example.com\r\n\r\n"}}
	case strings.HasSuffix(path, "/login"):
		q.form = url.Values{"key": {key}}
	case method == "PUT":
		q.form = url.Values{"require_tls": {"yes"}}
	}
	if !strings.HasPrefix(path, uiPath) {
		q.key = key
		return w.do(q)
	}
	q.header = http.Header{tokenField: {"x"}}
	if in := w.login(key); in.status == 200 && !strings.HasSuffix(path, "/login") {
		cookie, _, _ := strings.Cut(in.header.Get("Set-Cookie"), ";")
		q.header = http.Header{"Cookie": {cookie}, http.CanonicalHeaderKey(tokenField): {decode[sessionAnswer](w.T, in).Token}}
	}
	return w.do(q)
}

func TestEveryRouteForEveryKey(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	w.story = []json.RawMessage{json.RawMessage(`{}`)}
	for _, rt := range slices.Concat(w.api.routes, w.api.uiRoutes) {
		if _, ok := decisions[rt.String()]; !ok {
			t.Errorf("%s: nobody has decided who may", &rt)
		}
		if rt.access == readers && !strings.Contains(rt.path, "{domain}") && !strings.HasPrefix(rt.path, uiData) && !strings.HasSuffix(rt.path, "/domains") {
			t.Errorf("%s: whose domain?", &rt)
		}
	}
	for route, want := range decisions {
		var got statuses
		for i, key := range callers {
			before := len(w.domains)
			got[i] = w.askAs(route, key).status
			if key != fullKey && len(w.domains) != before {
				t.Errorf("%s: %q has changed settings", route, key)
			}
			delete(w.domains, "example.com")
		}
		if got != want {
			t.Errorf("%s: got %v, want %v", route, got, want)
		}
	}
}

// Whatever a reading key asks for, the question that reaches the store is about
// its own domain, in whatever spelling it was written, and nothing is asked about
// others.
func TestReadingKeyAsksAboutItsOwnDomain(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	w.became = map[string]Key{readKey: {ID: "reads", Domain: "bücher.example", Reads: true}}
	w.domains["secret.example"], w.domains["bücher.example"] = Change{}, Change{RequireTLS: policy.Yes}
	foreign := question{Limit: 1, Filters: map[string]string{"from": "NOT (a@bücher.example OR secret.example)"}}.token(place{behind, 5, "x"})
	v := w.enterWith(readKey)
	var listed []string
	for _, name := range []string{"xn--bcher-kva.example", "XN--BCHER-KVA.Example.", "b%C3%BCcher.example", "B%C3%9CCHER.EXAMPLE", "bu%CC%88cher.example"} {
		for _, path := range []string{"/v3/" + name + "/events", "/v3/" + name + "/events/" + foreign, "/v3/" + name + "/events?from=secret.example%20OR%20NOT%20x",
			"/v3/domains/" + name, "/v4/domains/" + name, "/v3/domains/" + name + "/connection", "/v3/domains", "/v4/domains?search=b"} {
			got := w.do(request{method: "GET", path: path, key: readKey})
			w.want(got, 200, "")
			listed = append(listed, got.body)
		}
		for _, path := range []string{"events", "events?domain=" + name, "events/" + foreign, "events/" + foreign + "?domain=" + name, "messages/q2", "messages/q2?pretty=yes",
			"stats?span=day", "stats?span=day&domain=" + name, "domains", "domains?search=secret", "domains/" + name} {
			listed = append(listed, v.do("GET", "/ui/data/"+path, nil).body)
			if strings.HasPrefix(path, "events") && !slices.Equal(w.query.Domains, []string{"bücher.example"}) {
				t.Errorf("%s asked for events of %q", path, w.query.Domains)
			}
			if (strings.HasPrefix(path, "messages") || strings.HasPrefix(path, "stats")) && !slices.Equal(w.scope, []string{"bücher.example"}) {
				t.Errorf("%s asked for %q", path, w.scope)
			}
			w.query, w.scope = Query{}, nil
		}
	}
	if all := strings.Join(listed, ""); strings.Contains(all, "secret.example\"") {
		t.Errorf("another domain is in %s", all)
	}
	if w.listed != 0 {
		t.Error("all domains were asked for, which takes longer the more there are")
	}
	got := decode[domainsAnswer](t, w.do(request{method: "GET", path: "/v4/domains", key: readKey}))
	if got.TotalCount != 1 || len(got.Items) != 1 || got.Items[0].Name != "bücher.example" || !got.Items[0].RequireTLS {
		t.Errorf("got %+v", got)
	}
	for _, query := range []string{"search=secret", "skip=1"} {
		if got := decode[domainsAnswer](t, w.do(request{method: "GET", path: "/v4/domains?" + query, key: readKey})); len(got.Items) != 0 {
			t.Errorf("%s: got %+v", query, got)
		}
	}
}

// enterWith logs in with a key.
func (w *world) enterWith(key string) *visit {
	w.Helper()
	got := w.login(key)
	if got.status != 200 {
		w.Fatalf("login: %d %s", got.status, got.body)
	}
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	return &visit{w, cookie, decode[sessionAnswer](w.T, got).Token}
}

// To a reading key, names that are not its own are all alike: one with settings,
// one that the API is for, one that it is not for, one that is below or above its
// own, and one that is none.
func TestReadingKeyCannotTellOthersApart(t *testing.T) {
	t.Parallel()
	w := newPage(t, func(c *Config) { c.SendingDomains = []string{"example.com", "example.org", "*.example.net"} })
	w.domains["example.org"] = Change{RequireTLS: policy.Yes}
	v := w.enterWith(readKey)
	others := []string{"example.org", "a.example.net", "unknown.example", "sub.example.com", "com", "*.example.com", "%2A", "a%20b", "%00", "example.com%00",
		"example.com%2Fexample.org", "xn--a", "-", "example.com%0d%0a", "example%2ecom%2eexample.org", strings.Repeat("a.", 500) + "a"}
	for _, template := range []string{"GET /v3/%/events", "GET /v3/%/events/eyJsIjoxfQ", "GET /v3/domains/%", "GET /v4/domains/%", "GET /v3/domains/%/connection",
		"PUT /v3/domains/%/connection", "POST /v3/%/messages", "GET /ui/data/domains/%", "PUT /ui/data/domains/%", "GET /ui/data/events?domain=%",
		"GET /ui/data/events/eyJsIjoxfQ?domain=%", "GET /ui/data/stats?span=day&domain=%", "GET /ui/data/messages/q1?domain=%"} {
		var first reply
		for i, name := range others {
			method, path, _ := strings.Cut(strings.Replace(template, "%", name, 1), " ")
			var form url.Values
			if method != "GET" {
				form = url.Values{"require_tls": {"no"}}
			}
			got := w.do(request{method: method, path: path, key: readKey, form: form})
			if strings.HasPrefix(path, uiPath) {
				got = v.do(method, path, form)
			}
			// What differs is what the client has sent itself.
			if _, said, ok := strings.Cut(got.body, "Domain not found: "); ok {
				got.body = strings.Replace(got.body, said, "", 1)
			}
			got.header.Del("Date")
			got.header.Del("Content-Length")
			if i == 0 {
				first = got
			}
			if got.status != first.status || got.body != first.body || len(got.header) != len(first.header) || got.status < 400 {
				t.Errorf("%s: %d %s %v, %s: %d %s %v", template, got.status, got.body, got.header, others[0], first.status, first.body, first.header)
			}
		}
	}
	if w.query.Domains != nil || w.scope != nil || w.listed != 0 {
		t.Errorf("the store was asked for %v %v", w.query.Domains, w.scope)
	}
	// Its own one is like them where the API is not for it.
	w.became = map[string]Key{readKey: {ID: "reads", Domain: "gone.example", Reads: true}}
	v = w.enterWith(readKey)
	w.want(w.do(request{method: "GET", path: "/v3/gone.example/events", key: readKey}), 404, "Domain not found: gone.example")
	w.want(v.do("GET", "/ui/data/events", nil), 404, "Domain not found: gone.example")
	w.want(v.do("GET", "/ui/data/domains", nil), 200, "")
}

// A session is that of the key as it was: of one that was changed meanwhile it ends.
func TestUISessionEndsWithItsKey(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	for _, key := range []string{readKey, fullKey} {
		for name, now := range map[string]Key{
			"sends now": {ID: "reads", Domain: "example.com"}, "reads another now": {ID: "reads", Domain: "example.org", Reads: true},
			"opens everything now": {ID: "reads"},
		} {
			w.became = nil
			v := w.enterWith(key)
			w.want(v.do("GET", "/ui/data/session", nil), 200, v.token)
			w.became = map[string]Key{key: now}
			w.want(v.do("GET", "/ui/data/events", nil), 401, "Log in first")
			w.became = nil
			if got := v.do("GET", "/ui/data/session", nil); got.status != 401 {
				t.Errorf("%s: %d: the session is back with its key", name, got.status)
			}
		}
	}
	if got := decode[sessionAnswer](t, w.login(readKey)); got.Domain != "example.com" {
		t.Errorf("got %+v", got)
	}
	if got := decode[sessionAnswer](t, w.login(fullKey)); got.Domain != "" {
		t.Errorf("got %+v", got)
	}
}

// Who is refused is in the log, without the key.
func TestUIRefusesSettingsToReadingKey(t *testing.T) {
	t.Parallel()
	w := newPage(t)
	v := w.enterWith(readKey)
	w.want(v.do("PUT", "/ui/data/domains/example.com", url.Values{"require_tls": {"no"}}), 401, "Invalid private key")
	w.want(v.do("GET", "/ui/data/session", nil), 200, "") // it goes on
	if len(w.domains) != 0 {
		t.Errorf("changed: %v", w.domains)
	}
	if !slices.ContainsFunc(w.log, func(s string) bool { return strings.Contains(s, "key refused keyreads") }) {
		t.Errorf("log %q", w.log)
	}
	for _, line := range w.log {
		if strings.Contains(line, readKey) {
			t.Errorf("a key is in the log: %s", line)
		}
	}
}

// The document names the keys that each route is for.
func TestDescribedRoles(t *testing.T) {
	t.Parallel()
	w, d := newWorld(t), describe(t)
	roles := map[access][]any{full: {"full"}, readers: {"reading", "full"}, senders: {"sending", "reading", "full"}}
	for _, rt := range w.api.routes {
		if got, _ := d.at("paths", rt.path, strings.ToLower(rt.method), "x-roles").([]any); !slices.Equal(got, roles[rt.access]) {
			t.Errorf("%s: described for %v, is for %v", &rt, got, roles[rt.access])
		}
	}
}

// All keys that read one domain together leave a question of the store to those who
// look after the relay.
func TestTurnsOfAllReadingKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, read := httptest.NewRequest("GET", "/v3/example.com/events", nil), &route{access: readers}
	ask := func(ctx context.Context, key Key) (leave func(), err error) {
		return (&call{key: key, budget: w.api.budgets.of(key.ID)}).turn(r.WithContext(ctx), read)
	}
	reads := func(n int) Key { return Key{ID: fmt.Sprint("reads", n), Domain: "example.com", Reads: true} }
	var leave []func()
	for n := range events.MaxReaders - 1 {
		done, err := ask(t.Context(), reads(n))
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, done)
	}
	one := reads(events.MaxReaders)
	turns := w.api.budgets.of(one.ID).turns
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error)
		go func() {
			_, err := ask(ctx, one)
			waited <- err
		}()
		for deadline := time.Now().Add(hang); turns.TryAcquire(ownTurns); time.Sleep(time.Millisecond) { // until it waits
			turns.Release(ownTurns)
			if time.Now().After(deadline) {
				t.Fatal("it does not wait")
			}
		}
		cancel()
		var e *Error
		if err := <-waited; !errors.As(err, &e) || e.Status != 503 || e.RetryAfter == 0 {
			t.Errorf("one more: %v", err)
		}
	}
	if !turns.TryAcquire(ownTurns) {
		t.Error("a turn was not given back")
	}
	turns.Release(ownTurns)
	if _, err := ask(t.Context(), Key{ID: "full"}); err != nil {
		t.Errorf("a full key: %v", err)
	}
	leave[0]()
	if _, err := ask(t.Context(), one); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// A key that reads one domain has two questions at a time, and leaves the rest to
// others.
func TestTurnsOfReadingKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for long
	r := httptest.NewRequest("GET", "/v3/example.com/events", nil).WithContext(ctx)
	read, send := &route{access: readers}, &route{access: senders}
	key := Key{ID: "reads", Domain: "example.com", Reads: true}
	var leave []func()
	for range ownTurns {
		c := call{key: key, budget: w.api.budgets.of(key.ID)}
		done, err := c.turn(r.WithContext(context.Background()), read)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, done)
	}
	c := call{key: key, budget: w.api.budgets.of(key.ID)}
	var e *Error
	if _, err := c.turn(r, read); !errors.As(err, &e) || e.Status != 429 || e.RetryAfter == 0 {
		t.Errorf("one more: %v", err)
	}
	if _, err := c.turn(r, send); err != nil {
		t.Errorf("sending: %v", err)
	}
	for _, other := range []Key{{ID: "full"}, {ID: "other", Domain: "example.com", Reads: true}} {
		c := call{key: other, budget: w.api.budgets.of(other.ID)}
		if _, err := c.turn(r.WithContext(context.Background()), read); err != nil {
			t.Errorf("%+v: %v", other, err)
		}
	}
	leave[0]()
	if _, err := c.turn(r.WithContext(context.Background()), read); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}
