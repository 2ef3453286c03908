package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const path = "/v3/domains/example.com/connection"
	get := func(want string) {
		t.Helper()
		got := w.do(request{method: "GET", path: path, key: fullKey})
		if got.status != 200 || got.body != want+"\n" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	get(`{"connection":{"require_tls":false,"skip_verification":false},"require_tls":false,"skip_verification":false}`)

	got := w.do(request{method: "PUT", path: path, key: fullKey, form: url.Values{"require_tls": {"TRUE"}}})
	if got.status != 200 || got.body != `{"message":"Domain connection settings have been updated","require_tls":true,"skip_verification":false,`+
		`"require-tls":true,"skip-verification":false}`+"\n" {
		t.Errorf("got %d %s", got.status, got.body)
	}
	// What is absent is kept; multipart is as good.
	w.want(w.do(request{method: "PUT", path: path, key: fullKey, parts: []formPart{{name: "skip_verification", data: "yes"}}}), 200, "")
	get(`{"connection":{"require_tls":true,"skip_verification":true},"require_tls":true,"skip_verification":true}`)
	w.want(w.do(request{method: "PUT", path: path, key: fullKey, form: url.Values{"require_tls": {"no"}, "skip_verification": {"false"}}}), 200, "")
	get(`{"connection":{"require_tls":false,"skip_verification":false},"require_tls":false,"skip_verification":false}`)

	if got := w.do(request{method: "GET", path: path + "?pretty=yes", key: fullKey}); !strings.Contains(got.body, "\n  \"connection\"") {
		t.Errorf("got %s", got.body)
	}
	if got := w.do(request{method: "HEAD", path: path, key: fullKey}); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

func TestRefusedChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	many := url.Values{}
	for range maxFields + 1 {
		many.Add("require_tls", "yes")
	}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for _, tt := range []struct {
		request
		status int
		want   string
	}{
		{request{form: url.Values{}}, 400, "require_tls or skip_verification parameter is missing"},
		{request{}, 400, "require_tls or skip_verification parameter is missing"},
		{request{form: url.Values{"require_tls": {"maybe"}}}, 400, `require_tls parameter: unexpected "maybe", expected yes, no, true or false`},
		{request{form: url.Values{"require_tls": {""}}}, 400, `require_tls parameter: unexpected "", expected yes, no, true or false`},
		{request{form: url.Values{"require_tls": {"yes", "no"}}}, 400, "require_tls parameter is there more than once"},
		{request{form: url.Values{"require-tls": {"yes"}}}, 400, "require-tls parameter is not supported, expected require_tls or skip_verification"},
		{request{form: url.Values{"require_tls": {"yes\r\nno"}}}, 400, "require_tls parameter has a line break or another control character in it"},
		{request{form: url.Values{"\xff": {"yes"}}}, 400, `The form has a field without a good name: "\xff"`},
		{request{form: url.Values{"a": {"\xff"}}}, 400, "a parameter is not valid UTF-8"},
		{request{form: many}, 400, "The form has more than 2000 fields"},
		{request{body: "a=%zz", header: form}, 400, "The form is malformed: expected %XX after a percent sign"},
		{request{body: strings.Repeat("x", maxForm+1), header: form}, 413, "The form is too large, expected at most 65536 octets"},
		{request{body: `{"require_tls":true}`, header: http.Header{"Content-Type": {"application/json"}}}, 415, "Content-Type is not supported"},
		{request{body: "require_tls=yes"}, 415, "Content-Type is not supported"},
		{request{body: "--y\r\n", header: http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}}, 400, "The request body cannot be read"},
		{request{body: "x", header: http.Header{"Content-Type": {"multipart/form-data"}}}, 415, "Content-Type is not supported"},
		{request{parts: []formPart{{name: "message", file: "x", data: "x"}}}, 400, "message parameter is not supported"},
		{request{path: "/v3/domains/example.com/connection?require_tls=yes", form: url.Values{}}, 400, "require_tls parameter is in the URL, expected in the body"},
		{request{path: "/v3/domains/fixed.example/connection", form: url.Values{"require_tls": {"yes"}}}, 409, "fixed.example is set at maddy.conf:7"},
		{request{path: "/v3/domains/broken.example/connection", form: url.Values{"require_tls": {"yes"}}}, 500, "Internal server error"},
		{request{path: "/v3/domains/a b/connection"}, 404, `Domain not found: a b`},
		{request{path: "/v3/domains/%0d%0aX:y/connection"}, 404, `Domain not found: "\r\nX:y"`},
		{request{path: "/v3/domains/example.com%2fconnection"}, 405, "Method not allowed, expected GET"},
	} {
		tt.method, tt.key = "PUT", fullKey
		if tt.path == "" {
			tt.path = "/v3/domains/example.com/connection"
		}
		w.want(w.do(tt.request), tt.status, tt.want)
	}
	if len(w.domains) != 0 {
		t.Errorf("changed: %v", w.domains)
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendingDomains = []string{"*.example", "listed.test"} })
	for _, name := range []string{"c.example", "a.example", "b.example", "*.example", "elsewhere.test"} {
		w.domains[name] = Change{}
	}
	type list struct {
		TotalCount int `json:"total_count"`
		Items      []struct {
			Name      string `json:"name"`
			CreatedAt string `json:"created_at"`
			State     string `json:"state"`
		}
	}
	names := func(query string) string {
		t.Helper()
		l := decode[list](t, w.do(request{method: "GET", path: "/v4/domains" + query, key: fullKey}))
		var all []string
		for _, item := range l.Items {
			all = append(all, item.Name)
		}
		b, _ := json.Marshal(l.TotalCount)
		return string(b) + " " + strings.Join(all, " ")
	}
	for query, want := range map[string]string{
		"":                 "4 a.example b.example c.example listed.test",
		"?limit=2":         "4 a.example b.example",
		"?limit=2&skip=3":  "4 listed.test",
		"?skip=1000000000": "4 ",
		"?search=B.":       "1 b.example",
	} {
		if got := names(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"?limit=0":         "limit parameter: unexpected 0, expected a number from 1 to 1000",
		"?limit=x":         "limit parameter: unexpected x, expected a number from 1 to 1000",
		"?skip=-1":         "skip parameter: unexpected -1, expected a number from 0 to 1073741824",
		"?limit=1&limit=2": "limit parameter is there more than once",
		"?authority=x":     "authority parameter is not supported, expected limit, skip or search",
	} {
		w.want(w.do(request{method: "GET", path: "/v3/domains" + query, key: fullKey}), 400, want)
	}

	got := w.do(request{method: "PUT", path: "/v4/domains/a.example", key: fullKey, parts: []formPart{{name: "require_tls", data: "true"}}})
	w.want(got, 200, "Domain has been updated")
	got = w.do(request{method: "GET", path: "/v3/domains/a.example?h:extended=false&h:with_dns=true", key: fullKey})
	if got.status != 200 || !strings.Contains(got.body, `"require_tls":true`) || !strings.Contains(got.body, `"sending_dns_records":[]`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	w.want(w.do(request{method: "GET", path: "/v3/domains/a.example?x=1", key: fullKey}), 400, "x parameter is not supported")
}

// What cannot be read in a URL is refused as what is not known there: it may have been
// meant to ask for TLS.
func TestMalformedParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, q := range []request{
		{method: "POST", path: messagesPath, form: letter()},
		{method: "PUT", path: "/v3/domains/example.com/connection", form: url.Values{"require_tls": {"yes"}}},
		{method: "GET", path: "/v3/domains/example.com/connection"},
		{method: "GET", path: "/v3/domains/example.com"},
		{method: "GET", path: "/v4/domains"},
		{method: "GET", path: "/v3/example.com/events"},
	} {
		for _, parameters := range []string{"?o:require-tls=%zz", "?o:require-tls=yes;x"} {
			again := q
			again.path, again.key = q.path+parameters, fullKey
			w.want(w.do(again), 400, "The parameters are malformed: expected %XX after a percent sign, and & between them")
		}
	}
	if len(w.sent) > 0 {
		t.Error("a message was sent")
	}
}
