package tlsrpt

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"tlscontrol/internal/mailtest"
)

// endpointHost is a real HTTPS server at reports.test.
type endpointHost struct {
	port int
	ca   *mailtest.CA

	mu    sync.Mutex
	reply func(http.ResponseWriter)
	posts []post
}

type post struct {
	method, path, kind string
	body               []byte
}

func (w *world) serve(kind mailtest.Kind) *endpointHost {
	w.Helper()
	h := &endpointHost{reply: func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusCreated) }}
	var err error
	if h.ca, err = mailtest.NewCA(); err != nil {
		w.Fatal(err)
	}
	cert, err := h.ca.Issue(kind, "reports.test")
	if err != nil {
		w.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	w.Cleanup(s.Close)
	h.port = s.Listener.Addr().(*net.TCPAddr).Port
	w.dns.A("reports.test", "127.0.0.1")
	w.cfg.Roots = h.ca.Pool()
	w.cfg.AllowPrivate = true
	w.open()
	return h
}

func (h *endpointHost) uri() string { return "https://reports.test:" + strconv.Itoa(h.port) + "/in" }

func (h *endpointHost) set(reply func(http.ResponseWriter)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reply = reply
}

func (h *endpointHost) got() []post {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.posts
}

func (h *endpointHost) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.posts = append(h.posts, post{req.Method, req.URL.Path, req.Header.Get("Content-Type"), body})
	h.reply(rw)
}

func TestPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serve(mailtest.Good)
	w.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua="+h.uri()+",mailto:a@example.net")
	w.r.Record(session("example.net", ""))
	w.step(allDue)
	posts := h.got()
	if len(posts) != 1 || posts[0].method != "POST" || posts[0].path != "/in" || posts[0].kind != "application/tlsrpt+gzip" {
		t.Fatalf("posts %+v", posts)
	}
	if r := read(t, unzip(t, posts[0].body)); r.Policies[0].Summary.Successful != 1 {
		t.Errorf("%+v", r)
	}
	if to := w.office.to(); len(to) != 1 {
		t.Errorf("mails to %v", to)
	}
	w.step(allDue.Add(giveUp))
	if len(h.got()) != 1 || len(w.office.to()) != 1 {
		t.Error("sent twice")
	}
}

// What an endpoint answers decides whether it is asked again.
func TestPostReplies(t *testing.T) {
	t.Parallel()
	for code, again := range map[int]bool{
		200: false, 202: false, 299: false, 301: false, 302: false, 307: false, 400: false, 404: false, 410: false, 413: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			h := w.serve(mailtest.Good)
			h.set(func(rw http.ResponseWriter) {
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(code)
				rw.Write(make([]byte, 1<<20)) // more than anybody wants to read
			})
			w.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua="+h.uri())
			w.r.Record(session("example.net", ""))
			w.step(allDue)
			w.step(allDue.Add(firstPause))
			posts := h.got()
			if want := map[bool]int{false: 1, true: 2}[again]; len(posts) != want {
				t.Errorf("%d posts, want %d", len(posts), want)
			}
			for _, p := range posts {
				if p.path != "/in" {
					t.Errorf("followed to %s", p.path)
				}
			}
		})
	}
}

// A report tells who mails whom; it goes to the host that the record names.
func TestPostVerifies(t *testing.T) {
	t.Parallel()
	for _, kind := range []mailtest.Kind{mailtest.SelfSigned, mailtest.WrongName, mailtest.Expired, mailtest.UnknownCA} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			h := w.serve(kind)
			w.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua="+h.uri())
			w.r.Record(session("example.net", ""))
			w.step(allDue)
			if len(h.got()) != 0 || !w.log.has("will be tried again") {
				t.Error("posted to somebody else")
			}
		})
	}
}

// Without allow_private nothing connects to the machine itself, by name or number.
func TestPostGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serve(mailtest.Good)
	w.cfg.AllowPrivate = false
	w.open()
	w.dns.TXT("_smtp._tls.example.net", fmt.Sprintf("v=TLSRPTv1; rua=%s,https://127.0.0.1:%d/,https://[::ffff:127.0.0.1]:%d/", h.uri(), h.port, h.port))
	w.r.Record(session("example.net", ""))
	w.step(allDue)
	w.step(allDue.Add(giveUp))
	if len(h.got()) != 0 || !w.log.has("127.0.0.1 is no address on the Internet") || w.log.has("tried again") {
		t.Errorf("posts %v", h.got())
	}
}
