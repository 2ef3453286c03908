package api

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestWhoGetsIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		authorization string
		status        int
	}{
		{basic("api:" + fullKey), 200},
		{"Bearer " + fullKey, 200},
		{"bearer " + fullKey, 200},
		{"", 401},
		{basic("api:"), 401},
		{basic("api"), 401},
		{basic("API:" + fullKey), 401},
		{basic("root:" + fullKey), 401},
		{basic("api:wrong"), 401},
		{basic("api:" + strings.Repeat("x", 300)), 401},
		{basic("api:" + domainKey), 401}, // may only send
		{"Bearer", 401},
		{"Bearer wrong", 401},
		{"Digest " + fullKey, 401},
	} {
		got := w.do(request{method: "GET", path: "/v3/domains/example.com/connection",
			header: http.Header{"Authorization": {tt.authorization}}})
		if got.status != tt.status {
			t.Errorf("%q: %d %s", tt.authorization, got.status, got.body)
		}
		if tt.status == 401 && (got.body != `{"message":"Invalid private key"}`+"\n" || got.header.Get("WWW-Authenticate") == "") {
			t.Errorf("%q: %v %s", tt.authorization, got.header, got.body)
		}
	}
	for _, line := range w.log {
		if strings.Contains(line, "wrong") || strings.Contains(line, fullKey) || strings.Contains(line, domainKey) {
			t.Errorf("a key in the log: %s", line)
		}
	}
}

// A domain's key sends for its domain, and learns nothing of others, not even
// which there are.
func TestKeysOfOneDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendingDomains = []string{"example.com", "example.org"} })
	for _, tt := range []struct {
		domain string
		status int
	}{
		{"example.com", 200}, {"EXAMPLE.com", 200}, {"example.com.", 200},
		{"example.org", 401}, {"sub.example.com", 401}, {"unknown.example", 401}, {"com", 401}, {"%2e%2e", 404}, {"a%20b", 401}, {"%00", 401},
	} {
		got := w.do(request{method: "POST", path: "/v3/" + tt.domain + "/messages", key: domainKey, form: letter()})
		if got.status != tt.status {
			t.Errorf("%s: %d %s", tt.domain, got.status, got.body)
		}
		if tt.status == 401 && (got.body != "Forbidden" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain")) {
			t.Errorf("%s: %v %q", tt.domain, got.header, got.body)
		}
	}
	for _, path := range []string{"/v3/domains", "/v4/domains", "/v3/domains/example.com", "/v3/domains/example.com/connection",
		"/v3/example.com/events", "/v3/example.com/events/eyJsIjoxfQ"} {
		w.want(w.do(request{method: "GET", path: path, key: domainKey}), 401, "Invalid private key")
	}
	w.want(w.do(request{method: "PUT", path: "/v3/domains/example.com/connection", key: domainKey, form: map[string][]string{"require_tls": {"no"}}}),
		401, "Invalid private key")
}

// A page of another site cannot use the key that a browser keeps.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, h := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.example"}}} {
		w.want(w.do(request{method: "POST", path: messagesPath, key: fullKey, form: letter(), header: h}), 403, "Requests of other sites' pages are not taken")
	}
	for _, h := range []http.Header{{"Sec-Fetch-Site": {"same-origin"}}, {"Origin": {w.srv.URL}}} {
		w.want(w.do(request{method: "POST", path: messagesPath, key: fullKey, form: letter(), header: h}), 200, "")
	}
}

func TestKeysCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keysErr = errors.New("password=secret refused")
	got := w.do(request{method: "GET", path: "/v3/domains", key: fullKey})
	w.want(got, 503, "Keys cannot be looked up now, try again later")
	if got.header.Get("Retry-After") == "" || strings.Contains(got.body, "secret") {
		t.Errorf("got %v %s", got.header, got.body)
	}
}

// Addresses that send wrong keys are not asked for them any more, before anything
// is looked up; those of this machine are proxies.
func TestGuesses(t *testing.T) {
	t.Parallel()
	g := newGuesses()
	ask := func(s string) bool { return g.wait(netip.MustParseAddr(s)) == 0 }
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"} {
		for range guessBurst + 1 {
			g.wrong(netip.MustParseAddr(s))
		}
	}
	for s, want := range map[string]bool{
		"192.0.2.1": false, "192.0.2.2": true, "2001:db8::1": false, "2001:db8::ffff": false, "2001:db8:0:1::1": true,
		"127.0.0.1": true, "::1": true,
	} {
		if got := ask(s); got != want {
			t.Errorf("%s is asked: %v", s, got)
		}
	}
	g.wrong(netip.Addr{}) // a Unix socket
	if g.wait(netip.Addr{}) != 0 {
		t.Error("a Unix socket is held back")
	}
}

// Behind a balancer everybody has its address: whoever has a good key does not wait
// for what strangers try, until it is good no more.
func TestGuessesOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask := func(key string) int {
		r := httptest.NewRequest("GET", "/v3/domains", nil) // from 192.0.2.1
		r.SetBasicAuth("api", key)
		got := httptest.NewRecorder()
		w.api.ServeHTTP(got, r)
		return got.Code
	}
	expect := func(key string, want int) {
		t.Helper()
		if got := ask(key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	expect(fullKey, 200)
	for range guessBurst {
		expect("wrong", 401)
	}
	expect("wrong", 429)
	expect(otherKey, 429) // may be anything
	expect(fullKey, 200)
	w.setKeys(nil, true)
	expect(fullKey, 401)
	asked := w.asked
	expect(fullKey, 429)
	if w.asked != asked {
		t.Error("a key that was revoked is looked up for ever")
	}
}

func TestDomainsThatTheAPIKnows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendingDomains = []string{"Example.com", "*.bücher.example"} })
	for name, known := range map[string]bool{
		"example.com": true, "a.example.com": false, "a.xn--bcher-kva.example": true, "xn--bcher-kva.example": false, "notexample.com": false,
	} {
		got := w.do(request{method: "GET", path: "/v3/domains/" + name + "/connection", key: fullKey})
		if known != (got.status == 200) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if !known {
			w.want(got, 404, "Domain not found: "+name)
		}
	}
	if _, err := New(Config{Keys: w, Mail: w, Domains: domainsOf{w}, SendingDomains: []string{"a b"}}); err == nil {
		t.Error("a bad name was taken")
	}
}
