package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/api"
	"tlscontrol/internal/apikey"
	"tlscontrol/internal/events"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/pgtest"
	"tlscontrol/internal/ui"
)

// marker is in the documents of the other domain, and in no request.
const marker = "m4rker"

// house is a relay's API, with a store that knows mail of two domains and a key
// for each of them.
type house struct {
	api               *api.API
	keys              *apikey.Store
	mine, other, full string // keys
}

// rows is a table.
type rows struct {
	mu  sync.Mutex
	all map[string]string
}

func (r *rows) Lookup(_ context.Context, key string) (string, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	value, ok := r.all[key]
	return value, ok, nil
}

func (r *rows) Keys() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.all)), nil
}

func (r *rows) SetKey(key, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[key] = value
	return nil
}

func (r *rows) RemoveKey(key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, key)
	return nil
}

// stored is a counter that knows how much is in the database.
type stored struct{ atomic.Int64 }

func (s *stored) Stored(n int)  { s.Add(int64(n)) }
func (s *stored) Lost(int)      {}
func (s *stored) Backlog(int64) {}

// written is the document of one event.
func written(n int, sender, word string) string {
	event := []string{"accepted", "delivered", "failed"}[n%3]
	document := map[string]any{
		"event": event, "id": fmt.Sprintf("%s%03d", word, n), "timestamp": json.Number(fmt.Sprintf("%d.000000", time.Now().Unix()-int64(n))),
		"queue-id": fmt.Sprintf("queue%d", n), "recipient": fmt.Sprintf("shared%d@example.net", n%5), "recipient-domain": "example.net",
		"envelope":        map[string]any{"sender": sender},
		"message":         map[string]any{"headers": map[string]any{"message-id": fmt.Sprintf("shared%d@x.example", n), "subject": word}, "size": 5},
		"delivery-status": map[string]any{"tls": n%2 == 0, "mx-host": word + ".example.net", "message": word},
		"tags":            []string{"shared", word}, "reason": word, "severity": "temporary",
	}
	if word == marker && n == 0 { // what nobody else has
		document["queue-id"] = "queue-of-other"
		document["message"].(map[string]any)["headers"] = map[string]any{"message-id": "of-other@other.example"}
	}
	text, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func newHouse(t testing.TB, cfg events.Config) *house {
	t.Helper()
	counter := &stored{}
	cfg.Counter, cfg.Journal = counter, journal.Config{Dir: filepath.Join(t.TempDir(), "journal"), MaxBytes: 1 << 30}
	opened, err := events.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	const each = 30
	for n := range each {
		for _, text := range []string{written(n, "a@mine.example", "plain"), written(n, "a@other.example", marker), written(n, "a@sub.mine.example", marker+"sub"), written(n, "", marker+"bounce")} {
			e, err := events.Parse([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			opened.Add(e)
		}
	}
	for deadline := time.Now().Add(hang); counter.Load() < 4*each; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d events stored", counter.Load())
		}
	}
	logger := &log.Logger{Out: log.NopOutput{}}
	table := &rows{all: map[string]string{}}
	h := &house{keys: apikey.New(table)}
	h.api, err = api.New(api.Config{Keys: newKeys(table), Mail: &mail{target: &pipeline{}, policy: nil, log: logger}, Domains: domains{&settled{}, logger},
		Events: store{opened, logger, "relay.example.com"}, Rate: 1e6, UI: ui.Handler()})
	if err != nil {
		t.Fatal(err)
	}
	h.mine, h.other, h.full = h.key(t, "mine.example", apikey.Reading), h.key(t, "other.example", apikey.Reading), h.key(t, "", apikey.Full)
	return h
}

func (h *house) key(t testing.TB, domain string, role apikey.Role) string {
	t.Helper()
	secret, _, err := h.keys.Create(context.Background(), domain, role, "")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// reader is somebody with a key, and a session of it.
type reader struct {
	*house
	key    string
	cookie *http.Cookie
}

func (h *house) reader(t testing.TB, key string) *reader {
	t.Helper()
	r := httptest.NewRequest("POST", "/ui/data/login", strings.NewReader("key="+key))
	r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "X-Csrf-Token": {"x"}}
	got := httptest.NewRecorder()
	h.api.ServeHTTP(got, r)
	cookies := got.Result().Cookies()
	if got.Code != 200 || len(cookies) != 1 {
		t.Fatalf("login: %d %s", got.Code, got.Body)
	}
	return &reader{h, key, cookies[0]}
}

// get asks with the key, and on the page with the session. It reports whether the
// target can be asked for at all.
func (r *reader) get(target string) (status int, body string, ok bool) {
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Host != "" {
		return 0, "", false
	}
	q := &http.Request{Method: "GET", URL: u, Host: "api.test", RemoteAddr: "127.0.0.1:5", Header: http.Header{}, Body: http.NoBody}
	if strings.HasPrefix(u.Path, "/ui/") {
		q.AddCookie(r.cookie)
	} else {
		q.SetBasicAuth("api", r.key)
	}
	got := httptest.NewRecorder()
	r.api.ServeHTTP(got, q)
	return got.Code, got.Body.String(), true
}

// questions are what somebody asks who looks for mail of others.
func questions(tokens []string) []string {
	var all []string
	filters := []string{"", "from=a@other.example", "from=NOT+a@mine.example", "from=NOT+mine", "from=other", "from=a@mine.example+OR+a@other.example",
		"from=a@mine.example+OR+NOT+a@mine.example", "from=(NOT+(NOT+(a@other.example)))", "recipient=shared1@example.net", "recipients=NOT+nobody", "to=shared",
		"message-id=shared1@x.example", "message-id=%3Cshared1@x.example%3E+OR+NOT+x", "message-id=NOT+x", "subject=NOT+x", "subject=%27)+OR+1%3D1+--", "tags=shared",
		"tags=NOT+x", "size=%3E0", "size=NOT+%3C0", "event=NOT+rejected", "event=delivered+OR+failed+OR+accepted", "severity=NOT+permanent", "list=NOT+x",
		"tls=yes+OR+no+OR+NOT+yes", "certificate-verified=NOT+yes", "mx-host=NOT+x", "reason=NOT+x", "begin=1&end=9999999999", "begin=9999999999&end=1&ascending=yes",
		"ascending=yes&limit=300", "limit=300&from=NOT+(mine+OR+x)&event=NOT+x&tls=NOT+x", "from=%00", "from=%22%22", "domain=*", "sender-domain=other.example"}
	for _, base := range []string{"/v3/mine.example/events", "/v3/other.example/events", "/v3/MINE.example./events", "/v3/sub.mine.example/events", "/v3/*/events",
		"/v3/%2A.example/events", "/v3/mine.example%2F..%2Fother.example/events", "/v3/mine.example%00other.example/events", "/v3//events", "/ui/data/events"} {
		for _, filter := range filters {
			all = append(all, base+"?"+filter)
		}
		for _, token := range tokens {
			all = append(all, base+"/"+token, base+"/"+token+"?limit=300", base+"/"+token+"?domain=other.example")
		}
	}
	for _, domain := range []string{"", "&domain=other.example", "&domain=mine.example&domain=other.example", "&domain=sub.mine.example", "&domain=*", "&domain=%2A.example",
		"&domain=", "&Domain=other.example", "&domain=mine.example%00", "&domain=%zz", "&domain=mine.example;domain=other.example", "&domain=MINE.EXAMPLE."} {
		for _, base := range []string{"stats?span=hour", "stats?span=month", "events?limit=300", "messages/queue1?pretty=yes", "domains?limit=1000"} {
			all = append(all, "/ui/data/"+base+domain)
		}
	}
	for _, id := range []string{"queue1", "QUEUE1", "shared1@x.example", "%3Cshared1@x.example%3E", "%25", "_", "queue1%27%20OR%20%271", "*"} {
		all = append(all, "/ui/data/messages/"+id, "/ui/data/messages/"+id+"?domain=other.example")
	}
	return append(all, "/v3/domains", "/v4/domains", "/v4/domains?search=e", "/v4/domains?search=a.example&skip=0", "/v3/domains/a.example", "/v4/domains/a.example",
		"/v3/domains/a.example/connection", "/ui/data/domains", "/ui/data/domains?search=a", "/ui/data/domains/a.example", "/ui/data/session", "/healthz", "/readyz")
}

// onEach runs a test with each database that is there.
func onEach(t *testing.T, run func(t *testing.T, cfg events.Config)) {
	t.Run(events.SQLite, func(t *testing.T) {
		t.Parallel()
		run(t, events.Config{Driver: events.SQLite, DSN: filepath.Join(t.TempDir(), "events.db")})
	})
	t.Run(events.Postgres, func(t *testing.T) {
		t.Parallel()
		run(t, events.Config{Driver: events.Postgres, DSN: pgtest.New(t).Database(t)})
	})
}

// TestReadingKeySeesNothingOfOthers: neither filters nor page tokens that other
// keys got, neither ids nor parameters nor spellings show a reading key anything
// of another domain. The same questions of a full key do, so that they are worth
// asking.
func TestReadingKeySeesNothingOfOthers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, cfg events.Config) {
		h := newHouse(t, cfg)
		mine, other, full := h.reader(t, h.mine), h.reader(t, h.other), h.reader(t, h.full)
		var tokens []string
		for _, from := range []*reader{other, full} {
			for _, target := range []string{"/v3/other.example/events?limit=5", "/ui/data/events?limit=5", "/ui/data/events?limit=5&from=a@other.example"} {
				tokens = append(tokens, tokensOf(t, from, target)...)
			}
		}
		seen, own := 0, 0
		for _, target := range questions(tokens) {
			status, body, ok := mine.get(target)
			if !ok {
				continue
			}
			if status >= 500 || strings.Contains(body, marker) || strings.Contains(body, `"a.example"`) {
				t.Errorf("%s: %d %.500s", target, status, body)
			}
			if strings.Contains(body, `"plain`) {
				own++
			}
			if _, body, _ := full.get(target); strings.Contains(body, marker) || strings.Contains(body, `"a.example"`) {
				seen++
			}
		}
		if seen < 100 || own < 50 {
			t.Errorf("a full key saw others %d times, a reading key itself %d times: the questions are worth nothing", seen, own)
		}
		// A message of another domain, and one that never was, are the same.
		h.alike(t, mine)
	})
}

// tokensOf returns the page tokens of an answer.
func tokensOf(t *testing.T, r *reader, target string) []string {
	t.Helper()
	status, body, _ := r.get(target)
	var page struct {
		Paging map[string]string `json:"paging"`
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 || len(page.Paging) != 4 {
		t.Fatalf("%s: %d %s: %v", target, status, body, err)
	}
	var all []string
	for _, u := range page.Paging {
		all = append(all, u[strings.LastIndexByte(u, '/')+1:])
	}
	return all
}

// alike compares answers about what others have with answers about what nobody
// has.
func (h *house) alike(t *testing.T, mine *reader) {
	t.Helper()
	for _, pair := range [][2]string{
		{"/v3/other.example/events", "/v3/nobody.example/events"},
		{"/v3/domains/a.example", "/v3/domains/b.example"},
		{"/ui/data/domains/a.example", "/ui/data/domains/b.example"},
		{"/ui/data/stats?span=day&domain=other.example", "/ui/data/stats?span=day&domain=nobody.example"},
		{"/ui/data/messages/queue-of-other", "/ui/data/messages/queue-of-nobody"},
		{"/ui/data/messages/of-other@other.example", "/ui/data/messages/of-nobody@other.example"},
		{"/v3/mine.example/events?message-id=of-other@other.example", "/v3/mine.example/events?message-id=of-nobody@other.example"},
	} {
		var answers [2]string
		for i, target := range pair {
			status, body, _ := mine.get(target)
			for _, word := range []string{"other", "nobody", "a.example", "b.example"} {
				body = strings.ReplaceAll(body, word, "X")
			}
			if at := strings.Index(body, `"paging"`); at >= 0 {
				body = body[:at] // it repeats the question
			}
			answers[i] = fmt.Sprint(status, body)
		}
		if answers[0] != answers[1] {
			t.Errorf("%v: %q", pair, answers)
		}
	}
}

// TestRevokedKeyEndsItsSession: with the rows of a real table, a session ends when
// its key is revoked, and when its row became another.
func TestRevokedKeyEndsItsSession(t *testing.T) {
	t.Parallel()
	h := newHouse(t, events.Config{Driver: events.SQLite, DSN: filepath.Join(t.TempDir(), "events.db")})
	r := h.reader(t, h.mine)
	if status, body, _ := r.get("/ui/data/events"); status != 200 || !strings.Contains(body, "plain") {
		t.Fatalf("%d %s", status, body)
	}
	if err := h.keys.Revoke(context.Background(), strings.Split(h.mine, "-")[1]); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/ui/data/events", "/ui/data/session"} {
		if status, body, _ := r.get(target); status != 401 {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if status, _, _ := r.get("/v3/mine.example/events"); status != 401 {
		t.Errorf("the key still reads: %d", status)
	}
}

// No request of a reading key shows anything of another domain.
func FuzzReadingKey(f *testing.F) {
	h := newHouse(f, events.Config{Driver: events.SQLite, DSN: filepath.Join(f.TempDir(), "events.db")})
	mine := h.reader(f, h.mine)
	for i, target := range questions([]string{"eyJsIjozMDAsImYiOnsiZnJvbSI6Ik5PVCBtaW5lIn0sInMiOiJuIiwidCI6MSwiaSI6IngifQ"}) {
		if i%7 == 0 { // all are asked by TestReadingKeySeesNothingOfOthers
			f.Add(target)
		}
	}
	f.Fuzz(func(t *testing.T, target string) {
		if strings.Contains(target, marker) || len(target) > 8<<10 {
			return
		}
		if status, body, ok := mine.get(target); ok && (status >= 500 || strings.Contains(body, marker)) {
			t.Errorf("%q: %d %.500s", target, status, body)
		}
	})
}
