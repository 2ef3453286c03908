package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/events"
	"tlscontrol/internal/policy"
)

// world is what an API of a test knows.
type world struct {
	*testing.T
	api *API
	srv *httptest.Server

	mu       sync.Mutex
	keysErr  error
	revoked  bool           // the full key
	became   map[string]Key // what keys are in place of what they were
	listed   int            // how often all domains were asked for
	asked    int            // how often keys were looked up
	domains  map[string]Change
	rowErr   map[string]error // of domains
	sent     []*Message
	refuse   error
	accepted []Accepted
	query    Query
	events   Page
	story    []json.RawMessage
	scope    []string // that Message or Stats was asked for
	eventErr error
	log      []string
}

const (
	fullKey   = "key-full"
	domainKey = "key-example"
	readKey   = "key-reads-example"
	otherKey  = "key-reads-other"
)

// newWorld serves an API with a full key, two of example.com, one that sends and
// one that reads, and one that reads example.org.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{T: t, domains: map[string]Change{}}
	cfg := Config{Keys: w, Mail: w, Domains: domainsOf{w}, Events: eventsOf{w}, Rate: 1e6, Log: w.note}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if w.api, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.srv = httptest.NewServer(w.api)
	t.Cleanup(w.srv.Close)
	return w
}

func (w *world) note(msg string, fields ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, msg+" "+fmt.Sprint(fields...))
}

func (w *world) Authenticate(_ context.Context, secret string) (Key, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if key, ok := w.became[secret]; ok {
		return key, true, w.keysErr
	}
	switch secret {
	case fullKey:
		return Key{ID: "full"}, !w.revoked, w.keysErr
	case domainKey:
		return Key{ID: "one", Domain: "example.com"}, true, w.keysErr
	case readKey:
		return Key{ID: "reads", Domain: "example.com", Reads: true}, true, w.keysErr
	case otherKey:
		return Key{ID: "other", Domain: "example.org", Reads: true}, true, w.keysErr
	case "panic":
		panic("a key table")
	}
	return Key{}, false, w.keysErr
}

func (w *world) OverrideFields() policy.Fields { return policy.DefaultFields() }

func (w *world) Submit(_ context.Context, m *Message) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return "", w.refuse
	}
	w.sent = append(w.sent, m)
	return fmt.Sprintf("q%d", len(w.sent)), nil
}

// last is the message that was sent last.
func (w *world) last() *Message {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) == 0 {
		w.Fatal("nothing was sent")
	}
	return w.sent[len(w.sent)-1]
}

// domainsOf keeps settings in memory.
type domainsOf struct{ w *world }

func (d domainsOf) Names(context.Context) ([]string, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.listed++
	return slices.Sorted(maps.Keys(d.w.domains)), nil
}

func (d domainsOf) Get(_ context.Context, name string) (Domain, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if err := d.w.rowErr[name]; err != nil {
		return Domain{}, err
	}
	c := d.w.domains[name]
	return Domain{
		Name: name, RequireTLS: c.RequireTLS == policy.Yes, SkipVerification: c.SkipVerification == policy.Yes,
		RequireTLSSource: "table", SkipVerificationSource: "default", ReadOnly: name == "fixed.example",
	}, nil
}

func (d domainsOf) Set(ctx context.Context, name string, change Change) (Domain, error) {
	if name == "fixed.example" {
		return Domain{}, &Error{Status: http.StatusConflict, Text: "fixed.example is set at maddy.conf:7"}
	}
	if name == "broken.example" {
		return Domain{}, fmt.Errorf("table: password=secret")
	}
	d.w.mu.Lock()
	c := d.w.domains[name]
	if change.RequireTLS != policy.Unset {
		c.RequireTLS = change.RequireTLS
	}
	if change.SkipVerification != policy.Unset {
		c.SkipVerification = change.SkipVerification
	}
	d.w.domains[name] = c
	d.w.mu.Unlock()
	return d.Get(ctx, name)
}

// eventsOf answers every question with one page.
type eventsOf struct{ w *world }

func (e eventsOf) Accepted(_ context.Context, a Accepted) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.accepted = append(e.w.accepted, a)
}

func (e eventsOf) Query(_ context.Context, q Query) (Page, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.query = q
	return e.w.events, e.w.eventErr
}

func (e eventsOf) Message(_ context.Context, id string, domains []string) ([]json.RawMessage, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.scope = domains
	if id != "q1" {
		return nil, e.w.eventErr
	}
	return e.w.story, e.w.eventErr
}

func (e eventsOf) Stats(_ context.Context, begin, end time.Time, part time.Duration, domains []string) (events.Stats, error) {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	e.w.scope = domains
	var s events.Stats
	for at := begin; at.Before(end); at = at.Add(part) {
		s.Buckets = append(s.Buckets, events.Bucket{Start: at})
	}
	return s, e.w.eventErr
}

// request is one to be sent.
type request struct {
	method, path string // path with parameters
	key          string // none if empty
	form         url.Values
	parts        []formPart // a multipart form
	body         string     // instead of a form
	header       http.Header
}

// formPart is a part of a multipart form.
type formPart struct{ name, file, contentType, data string }

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request.
func (w *world) do(q request) reply {
	w.Helper()
	var body io.Reader = strings.NewReader(q.body)
	kind := ""
	switch {
	case q.form != nil:
		body, kind = strings.NewReader(q.form.Encode()), "application/x-www-form-urlencoded"
	case q.parts != nil:
		body, kind = multipartBody(w.T, q.parts)
	}
	r, err := http.NewRequest(q.method, w.srv.URL+q.path, body)
	if err != nil {
		w.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if q.key != "" {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("api:"+q.key)))
	}
	maps.Copy(r.Header, q.header)
	res, err := w.srv.Client().Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

func multipartBody(t *testing.T, parts []formPart) (io.Reader, string) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := `form-data; name="` + p.name + `"`
		if p.file != "" {
			disposition += `; filename="` + p.file + `"`
		}
		h.Set("Content-Disposition", disposition)
		if p.contentType != "" {
			h.Set("Content-Type", p.contentType)
		}
		pw, err := m.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(pw, p.data)
	}
	m.Close()
	return &b, m.FormDataContentType()
}

// want fails the test unless the reply has this status and, as "message", this
// text.
func (w *world) want(got reply, status int, text string) {
	w.Helper()
	if got.status != status || !strings.Contains(got.body, jsonText(text)) {
		w.Errorf("got %d %swant %d %s", got.status, got.body, status, text)
	}
}

// jsonText is text as it is inside of a JSON string.
func jsonText(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string can be encoded
	return strings.Trim(strings.TrimSpace(b.String()), `"`)
}

// decode reads the body as JSON.
func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("%q: %v", r.body, err)
	}
	return v
}

// letter is a form that can be sent.
func letter(more ...string) url.Values {
	f := url.Values{
		"from": {"Ann <ann@example.com>"}, "to": {"bob@example.net"}, "subject": {"hello"}, "text": {"hello\n"},
	}
	for i := 0; i < len(more); i += 2 {
		f.Add(more[i], more[i+1])
	}
	return f
}

// hang ends waits that would last; nothing asserts how long things take.
const hang = 30 * time.Second
