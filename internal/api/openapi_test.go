package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// described is what the OpenAPI document says.
type described struct {
	t      *testing.T
	doc    map[string]any
	schema *jsonschema.Compiler
}

func describe(t *testing.T) *described {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPIDocument))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("https://api.test/openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return &described{t, doc.(map[string]any), c}
}

// at returns what is at a place of the document, following a reference.
func (d *described) at(path ...string) any {
	var v any = d.doc
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
		if m, ok := v.(map[string]any); ok {
			if ref, ok := m["$ref"].(string); ok {
				v = d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
		}
	}
	return v
}

// operations are the methods and paths of the document.
func (d *described) operations() []string {
	var all []string
	for path, item := range d.at("paths").(map[string]any) {
		for method := range item.(map[string]any) {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// check holds a reply against the document.
func (d *described) check(method, path string, got reply) {
	d.t.Helper()
	where := []string{"paths", path, strings.ToLower(method), "responses", strconv.Itoa(got.status), "content"}
	content, ok := d.at(where...).(map[string]any)
	if !ok {
		d.t.Errorf("%s %s: %d is not described: %s", method, path, got.status, got.body)
		return
	}
	kind, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	media, ok := content[kind].(map[string]any)
	if !ok {
		d.t.Errorf("%s %s: %d is not described as %s", method, path, got.status, kind)
		return
	}
	var body any = got.body
	if kind == "application/json" {
		var err error
		if body, err = jsonschema.UnmarshalJSON(strings.NewReader(got.body)); err != nil {
			d.t.Errorf("%s %s: %q: %v", method, path, got.body, err)
			return
		}
	}
	// A schema of its own, that refers to those of the document.
	text, err := json.Marshal(media["schema"])
	if err != nil {
		d.t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`"#/components`), []byte(`"https://api.test/openapi.json#/components`))
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		d.t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := errors.Join(c.AddResource("https://api.test/openapi.json", d.doc), c.AddResource("https://api.test/x.json", schema)); err != nil {
		d.t.Fatal(err)
	}
	s, err := c.Compile("https://api.test/x.json")
	if err != nil {
		d.t.Fatal(err)
	}
	if err := s.Validate(body); err != nil {
		d.t.Errorf("%s %s: %d %s: %v", method, path, got.status, got.body, err)
	}
}

// Every route is described, and nothing else is.
func TestDescribedRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var routes []string
	for _, rt := range w.api.routes {
		routes = append(routes, rt.method+" "+rt.path)
	}
	slices.Sort(routes)
	if got := describe(t).operations(); !slices.Equal(got, routes) {
		t.Errorf("described\n%s\nroutes\n%s", strings.Join(got, "\n"), strings.Join(routes, "\n"))
	}
}

// What the routes answer, well and badly asked, is what is described.
func TestDescribedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendingDomains = []string{"example.com", "fixed.example", "broken.example"} })
	w.events = Page{Items: []json.RawMessage{[]byte(`{"event":"delivered","id":"a","timestamp":1.5,"delivery-status":{"tls":true,"code":250}}`)},
		First: &Cursor{1, "a"}, Last: &Cursor{1, "a"}}
	d := describe(t)
	yes := url.Values{"require_tls": {"yes"}}
	seen := map[string]bool{}
	for _, rt := range w.api.routes {
		path := strings.NewReplacer("{domain}", "example.com", "{page}", question{Limit: 1}.token(place{})).Replace(rt.path)
		ask := func(q request) {
			q.method = rt.method
			got := w.do(q)
			seen[rt.method+" "+rt.path+" "+strconv.Itoa(got.status)] = true
			d.check(rt.method, rt.path, got)
		}
		form, bad := yes, url.Values{"x": {"y"}}
		switch {
		case rt.method == "GET":
			form, bad = nil, nil
		case strings.HasSuffix(rt.path, "/messages"):
			form = letter()
		case strings.HasSuffix(rt.path, ".mime"):
			form = url.Values{"to": {"b@example.net"}, "message": {"From: a@example.com\r\n\r\n"}}
		}
		ask(request{path: path, key: fullKey, form: form})
		if rt.access == anybody {
			continue
		}
		ask(request{path: path, form: form})
		ask(request{path: path, key: domainKey, form: form})
		ask(request{path: path, key: "panic", form: form})
		if rt.method == "GET" {
			ask(request{path: path + "?unknown=1", key: fullKey})
		} else {
			ask(request{path: path, key: fullKey, form: bad})
			ask(request{path: path, key: fullKey, body: "x", header: http.Header{"Content-Type": {"text/plain"}}})
		}
		if strings.Contains(rt.path, "{domain}") {
			for _, name := range []string{"other.example", "fixed.example", "broken.example"} {
				ask(request{path: strings.Replace(path, "example.com", name, 1), key: fullKey, form: form})
			}
		}
	}
	for _, rt := range w.api.routes {
		if !seen[rt.method+" "+rt.path+" 200"] {
			t.Errorf("%s %s never answered well", rt.method, rt.path)
		}
	}
	if got := w.do(request{method: "GET", path: "/openapi.json"}); got.status != 200 || got.body != string(openAPIDocument) {
		t.Errorf("got %d", got.status)
	}
}
