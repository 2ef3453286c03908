package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNoSuchPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/v3", "/v3/", "/v3/example.com", "/v3//messages", "/v3/example.com/messages/", "/v3/../healthz", "/./healthz",
		"/healthz/", "/ui/", "/%2fhealthz", "/v3/example.com/templates", "/" + strings.Repeat("x", maxPath)} {
		for _, key := range []string{"", fullKey} {
			w.want(w.do(request{method: "GET", path: path, key: key}), 404, "Not found")
		}
	}
	for _, tt := range []struct{ method, path, text, allow string }{
		{"DELETE", "/v3/domains/example.com", "GET", "GET, HEAD"},
		{"DELETE", "/v4/domains/example.com", "GET or PUT", "GET, PUT, HEAD"},
		{"GET", "/v3/example.com/messages", "POST", "POST"},
	} {
		got := w.do(request{method: tt.method, path: tt.path, key: fullKey})
		w.want(got, 405, "Method not allowed, expected "+tt.text)
		if allow := got.header.Get("Allow"); allow != tt.allow {
			t.Errorf("%s %s: Allow: %s", tt.method, tt.path, allow)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var broken error
	w := newWorld(t, func(c *Config) {
		c.Ready = map[string]func(context.Context) error{"events": func(context.Context) error { return broken }}
	})
	for _, want := range []string{`{"status":"ok"}`, `{"status":"ok","checks":{"events":"ok"}}`} {
		path := "/healthz"
		if strings.Contains(want, "checks") {
			path = "/readyz"
		}
		if got := w.do(request{method: "GET", path: path}); got.status != 200 || got.body != want+"\n" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	broken = errors.New("dsn=secret")
	w.api.health.at = time.Now().Add(time.Hour)
	if got := w.do(request{method: "GET", path: "/readyz"}); got.status != 200 {
		t.Errorf("the parts were asked again at once: %d %s", got.status, got.body)
	}
	w.api.health.at = time.Now().Add(-time.Hour)
	if got := w.do(request{method: "GET", path: "/readyz"}); got.status != 503 || got.body != `{"status":"failed","checks":{"events":"failed"}}`+"\n" {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// TestReadyAsksAllAtOnce: a part that hangs must not use up the time of the others,
// which would be called failed, too. Here each waits until all have been asked.
func TestReadyAsksAllAtOnce(t *testing.T) {
	t.Parallel()
	var asked sync.WaitGroup
	asked.Add(3)
	all := make(chan bool)
	go func() {
		asked.Wait()
		close(all)
	}()
	meet := func(ctx context.Context) error {
		asked.Done()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w := newWorld(t, func(c *Config) {
		c.Ready = map[string]func(context.Context) error{"domains": meet, "events": meet, "keys": func(ctx context.Context) error {
			if err := meet(ctx); err != nil {
				return err
			}
			panic("a mistake")
		}}
	})
	want := `{"status":"failed","checks":{"domains":"ok","events":"ok","keys":"failed"}}` + "\n"
	if got := w.do(request{method: "GET", path: "/readyz"}); got.status != 503 || got.body != want {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// A part that heeds no context has failed when its time is over, and is not asked
// again before it has answered.
func TestReadyWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan error)
		var asked atomic.Int64
		a := &API{Config: Config{Log: func(string, ...any) {}, Ready: map[string]func(context.Context) error{
			"good": func(context.Context) error { return nil },
			"hangs": func(context.Context) error {
				asked.Add(1)
				return <-answers
			},
		}}}
		for range 3 {
			if got := a.askAll(); got.Status != "failed" || got.Checks["good"] != "ok" || got.Checks["hangs"] != "failed" {
				t.Errorf("got %+v", got)
			}
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
		answers <- nil
		synctest.Wait()
		go func() { answers <- nil }()
		if got := a.askAll(); got.Status != "ok" || asked.Load() != 2 {
			t.Errorf("got %+v, asked %d times", got, asked.Load())
		}
	})
}

// Anybody may ask whether a part is ready, and while one does not answer that must
// not take the places of those who send mail.
func TestReadyWhileAPartHangs(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan bool), make(chan bool)
	first := true
	w := newWorld(t, func(c *Config) {
		c.MaxRequests = 2
		c.Ready = map[string]func(context.Context) error{"part": func(context.Context) error {
			if first {
				first = false
				return nil
			}
			inside <- true
			<-leave
			return nil
		}}
	})
	w.want(w.do(request{method: "GET", path: "/readyz"}), 200, "ok")
	done := make(chan bool)
	go func() {
		defer close(done)
		for hanging := false; !hanging; {
			answered := make(chan bool)
			go func() {
				defer close(answered)
				w.do(request{method: "GET", path: "/readyz"})
			}()
			select {
			case <-inside: // the answer did not hold any longer
				hanging = true
				w.want(w.do(request{method: "GET", path: "/readyz"}), 200, "ok")
				leave <- true
				<-answered
			case <-answered:
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(hang):
		t.Fatal("hangs")
	}
}

func TestUI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.UI = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.URL.Path) })
	})
	for path, want := range map[string]string{"/ui": "page /ui", "/ui/": "page /ui/", "/ui/a/b": "page /ui/a/b", "/uix": `{"message":"Not found"}` + "\n"} {
		if got := w.do(request{method: "GET", path: path}); got.body != want {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Rate = 0.001 })
	ask := func(key string) reply {
		return w.do(request{method: "POST", path: messagesPath, key: key, form: letter()})
	}
	w.want(ask(fullKey), 200, "")
	got := ask(fullKey)
	w.want(got, 429, "Too many requests with this key")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.want(ask(domainKey), 200, "") // each has its own pace
	w.want(w.do(request{method: "GET", path: "/healthz"}), 200, "ok")
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan bool), make(chan bool)
	w := newWorld(t, func(c *Config) {
		c.MaxRequests = 1
		c.UI = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside <- true; <-leave })
	})
	done := make(chan bool)
	go func() {
		defer close(done)
		w.do(request{method: "GET", path: "/ui/"})
	}()
	<-inside
	w.want(w.do(request{method: "GET", path: "/readyz"}), 503, "Too many requests at a time, try again later")
	w.want(w.do(request{method: "GET", path: "/healthz"}), 200, "ok") // it lives
	leave <- true
	<-done
	deadline := time.Now().Add(hang)
	for w.do(request{method: "GET", path: "/readyz"}).status != 200 { // the place is given back behind the answer
		if time.Now().After(deadline) {
			t.Fatal("the place is not given back")
		}
		time.Sleep(time.Millisecond)
	}
}

// Every answer is counted, under the route and never under what was asked for.
func TestCounted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var counted []string
	w := newWorld(t, func(c *Config) {
		c.Count = func(route string, status int) {
			mu.Lock()
			defer mu.Unlock()
			counted = append(counted, fmt.Sprint(status, " ", route))
		}
		c.UI = http.NotFoundHandler()
	})
	for _, q := range []request{
		{method: "GET", path: "/healthz"}, {method: "GET", path: "/evil"}, {method: "DELETE", path: "/healthz"}, {method: "GET", path: "/ui/x"},
		{method: "HEAD", path: "/v3/example.com/events", key: fullKey}, {method: "GET", path: "/v3/domains", key: "panic"},
		{method: "POST", path: messagesPath, key: "wrong"},
	} {
		w.do(q)
	}
	want := []string{"200 GET /healthz", "404 other", "405 other", "404 ui", "200 GET /v3/{domain}/events", "500 GET /v3/domains",
		"401 POST /v3/{domain}/messages"}
	deadline := time.Now().Add(hang)
	for { // counted behind the answer
		mu.Lock()
		done := len(counted) >= len(want)
		mu.Unlock()
		if done || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if d := cmp.Diff(want, counted); d != "" {
		t.Error(d)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(w.do(request{method: "GET", path: "/v3/domains", key: "panic"}), 500, "Internal server error")
	w.want(w.do(request{method: "GET", path: "/healthz"}), 200, "ok")
}

// Who has no key cannot make the API read a body.
func TestBodyIsNotReadBeforeTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		key  string
		size int
		want string
	}{
		{"wrong", 1 << 40, "401 Unauthorized"},
		{domainKey, 1 << 40, "413 Request Entity Too Large"},
		{domainKey, 5, "100 Continue"},
	} {
		c, err := net.Dial("tcp", w.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(hang))
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
			"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", messagesPath, tt.key, tt.size)
		line, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if err != nil || !strings.Contains(line, tt.want) {
			t.Errorf("%s, %d octets: %q, %v", tt.key, tt.size, line, err)
		}
	}
}

// A body that does not come is not waited for for ever.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := httptest.NewRequest("POST", messagesPath, io.MultiReader(strings.NewReader("from=a"), iotestErr{}))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("api", domainKey)
	got := httptest.NewRecorder()
	w.api.ServeHTTP(got, r)
	w.want(reply{status: got.Code, body: got.Body.String()}, 408, "The request took too long to arrive")
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, &net.OpError{Op: "read", Err: timeout{}} }

// timeout is what a connection says behind its deadline.
type timeout struct{}

func (timeout) Error() string        { return "i/o timeout" }
func (timeout) Is(target error) bool { return target.Error() == "i/o timeout" }

// A key that sends its messages slowly leaves places for the others.
func TestPlacesOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.MaxRequests = 4 })
	var slow []*io.PipeWriter
	done := make(chan bool)
	for range 2 {
		body, writer := io.Pipe()
		slow = append(slow, writer)
		r, err := http.NewRequest("POST", w.srv.URL+messagesPath, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 100
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("api", domainKey)
		go func() {
			defer func() { done <- true }()
			if res, err := w.srv.Client().Do(r); err == nil {
				res.Body.Close()
			}
		}()
	}
	deadline := time.Now().Add(hang)
	for len(w.api.places) < 2 { // both are being served
		if time.Now().After(deadline) {
			t.Fatal("they do not come in")
		}
		time.Sleep(time.Millisecond)
	}
	ask := func(key string) reply {
		return w.do(request{method: "POST", path: messagesPath, key: key, form: letter()})
	}
	for got := ask(domainKey); got.status != 429; got = ask(domainKey) { // until both have been let in
		if time.Now().After(deadline) {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	w.want(ask(domainKey), 429, "Too many requests at a time with this key")
	w.want(ask(fullKey), 200, "Queued")
	for _, writer := range slow {
		writer.CloseWithError(io.ErrUnexpectedEOF)
		<-done
	}
}

// Paths may be anything, domains and page tokens in them too.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/v3/example.com/events", "/v3/domains/xn--bcher-kva.example/connection", "/v3/%00%0d%0a/events/..%2f", "/v4/domains/a..b",
		"/v3/\u00e4.example/events/eyJsIjoxfQ"} {
		f.Add(seed)
	}
	w := &world{domains: map[string]Change{}}
	api, err := New(Config{Keys: w, Mail: w, Domains: domainsOf{w}, Events: eventsOf{w}, Rate: 1e6, MaxRequests: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.URL = u
		r.SetBasicAuth("api", fullKey)
		got := httptest.NewRecorder()
		api.ServeHTTP(got, r)
		var v any
		if err := json.Unmarshal(got.Body.Bytes(), &v); err != nil || got.Code >= 500 {
			t.Errorf("%q: %d %q, %v", path, got.Code, got.Body, err)
		}
		if m, ok := v.(map[string]any); ok {
			if text, _ := m["message"].(string); strings.ContainsFunc(text, control) {
				t.Errorf("%q: %q", path, text)
			}
		}
	})
}

// Forms may be anything.
func FuzzForm(f *testing.F) {
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\na@example.net\r\n--x--\r\n")
	f.Add("application/x-www-form-urlencoded", "from=a@example.com&to=b%40example.net&text=x&h:X-A=1&v:b=2&o:tag=t")
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=attachment; filename=\"a\"\r\nContent-Type: message/rfc822\r\n\r\n\r\n--x--")
	f.Add("application/x-www-form-urlencoded", "to[0]=a@example.net&message=From:+b@example.com%0AX-Mailgun-Tag:+t%0AX-Mailgun-Variables:+%7B%22a%22:1%7D%0A%0Ax&h:X-A[]=1&v:c=d")
	f.Add("application/x-www-form-urlencoded", "to=a@example.net&message=From:+b@example.com%0AContent-Type:+multipart/mixed;boundary=m%0A%0A--m%0AContent-Disposition:+attachment;filename*=utf-8''%25FF%0A%0Ax%0A--m--")
	f.Add("application/x-www-form-urlencoded", "to=a@example.net&message=From:+b@example.com%0AContent-Type:+multipart/mixed;boundary=m%0A%0A--m%0AContent-Type:multipart/related;"+
		"boundary=n%0A%0A--n%0AContent-Transfer-Encoding:base64%0AContent-Type:+a/b;name=c%0A%0AeA==%0A--n--%0A--m%0AContent-Transfer-Encoding:quoted-printable%0A"+
		"Content-Disposition:+inline;filename=d%0A%0A=7%0A--m--")
	w := &world{}
	api, err := New(Config{Keys: w, Mail: w, Domains: domainsOf{w}, Events: eventsOf{w}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := httptest.NewRequest("POST", messagesPath, strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		f, err := readForm(httptest.NewRecorder(), r, maxForm)
		if err != nil {
			return
		}
		for _, make := range []func(*form, string) (*draft, error){api.compose, api.adopt} {
			d, err := make(f, "example.com")
			if err != nil {
				if strings.ContainsFunc(err.Error(), control) {
					t.Errorf("error %q", err)
				}
				continue
			}
			if d.header.Get("TLS-Override") != "" || d.from.domain != "example.com" || len(d.recipients) == 0 || !messageID(d.header.Get("Message-Id")) {
				t.Errorf("made %+v", d)
			}
			if d.variables != nil && (!json.Valid(d.variables) || d.variables[0] != '{') || len(d.variables) > 8*maxVariables {
				t.Errorf("variables %s", d.variables)
			}
			for fields := d.header.Fields(); fields.Next(); {
				if optionFields[strings.ToLower(fields.Key())] != "" {
					t.Errorf("%s would leave", fields.Key())
				}
			}
			for _, to := range d.recipients {
				if strings.ContainsAny(to.wire, "\r\n<>\x00") && !strings.HasPrefix(to.wire, `"`) {
					t.Errorf("recipient %q", to.wire)
				}
			}
		}
	})
}
