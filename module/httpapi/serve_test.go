package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/api"
)

// hang ends waits that would last.
const hang = 30 * time.Second

func newEndpoint() *Endpoint {
	e := &Endpoint{log: log.Logger{Out: log.NopOutput{}}, farewell: hang}
	e.ending, e.end = context.WithCancel(context.Background())
	return e
}

// socket returns the path of one; those of t.TempDir may be too long.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// client talks to a Unix socket.
func client(path string) *http.Client {
	return &http.Client{Timeout: hang, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

// Close lets a request end that is being served, and takes no other.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	path := socket(t)
	inside, leave := make(chan bool), make(chan bool)
	e := newEndpoint()
	err := e.listen(&settings{requests: 10, listen: []config.Endpoint{{Scheme: "unix", Path: path}}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		inside <- true
		<-leave
		io.WriteString(w, "done")
	}))
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string)
	go func() {
		res, err := client(path).Get("http://api/")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		answers <- string(text)
	}()
	<-inside
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	for { // until it takes no more
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		c.Close()
		time.Sleep(time.Millisecond)
	}
	leave <- true
	if got := <-answers; got != "done" {
		t.Errorf("got %s", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := newEndpoint().Close(); err != nil {
		t.Errorf("one that never served: %v", err)
	}
}

// A message that the pipeline does not finish is refused at the end, and out of the
// queue: the client hears of it.
func TestCloseEndsSubmissions(t *testing.T) {
	t.Parallel()
	path := socket(t)
	e := newEndpoint()
	p := &pipeline{hangs: make(chan bool)}
	m := newMail(p)
	m.ending = e.ending
	err := e.listen(&settings{requests: 10, listen: []config.Endpoint{{Scheme: "unix", Path: path}}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := m.Submit(r.Context(), letter())
		var no *api.Refusal
		if !errors.As(err, &no) || !no.Temporary {
			t.Errorf("got %v", err)
		}
		io.WriteString(w, fmt.Sprint(err))
	}))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan bool)
	go func() {
		defer close(answered)
		res, err := client(path).Get("http://api/")
		if err != nil {
			return // Close had no time for the answer
		}
		defer res.Body.Close()
		if text, err := io.ReadAll(res.Body); err == nil && string(text) != "The server is shutting down, try again later" {
			t.Errorf("answered %s", text)
		}
	}()
	<-p.hangs  // in the body
	go e.end() // the time for requests to end is over
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	<-answered
	if got := strings.Join(p.did, ", "); got != "start a@example.com, rcpt b@example.net, rcpt c@example.net, body, abort" {
		t.Error(got)
	}
}

// One that hangs for ever does not keep the process from ending.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	path := socket(t)
	inside, leave := make(chan bool), make(chan bool)
	e := newEndpoint()
	e.farewell = time.Millisecond
	err := e.listen(&settings{requests: 10, listen: []config.Endpoint{{Scheme: "unix", Path: path}}}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- true
		<-leave
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer close(leave)
	answered := make(chan bool)
	go func() {
		defer close(answered)
		if res, err := client(path).Get("http://api/"); err == nil {
			res.Body.Close()
			t.Errorf("answered %d", res.StatusCode)
		}
	}()
	<-inside
	if err := e.Close(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-answered
}

// leaveSocket makes what a process that was killed leaves. Nobody has listened on it:
// a program that is being started inherits what is open for a moment, and would go on
// listening.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

// A socket that nobody listens on is replaced; one that somebody listens on, or
// another file, is not.
func TestSockets(t *testing.T) {
	t.Parallel()
	path := socket(t)
	leaveSocket(t, path)
	l, err := open(config.Endpoint{Scheme: "unix", Path: path}, nil, api.NewCrowd(1, func() {}))
	if err != nil {
		t.Fatalf("stale: %v", err)
	}
	defer l.Close()
	if _, err := open(config.Endpoint{Scheme: "unix", Path: path}, nil, api.NewCrowd(1, func() {})); err == nil {
		t.Error("somebody else's socket was taken")
	}
	file := path + ".txt"
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(config.Endpoint{Scheme: "unix", Path: file}, nil, api.NewCrowd(1, func() {})); err == nil {
		t.Error("a file was replaced")
	}
	// One address that is taken closes the others again.
	e := newEndpoint()
	other := path + "2"
	err = e.listen(&settings{requests: 1, listen: []config.Endpoint{{Scheme: "unix", Path: other}, {Scheme: "unix", Path: path}}}, http.NotFoundHandler())
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if c, err := net.Dial("unix", other); err == nil {
		c.Close()
		t.Error("an address is still open")
	}
}

// Connections that do nothing make room for one that brings a request, and there
// are never more than there may be.
func TestConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	path := socket(t)
	e := newEndpoint()
	if err := e.listen(&settings{requests: 1, listen: []config.Endpoint{{Scheme: "unix", Path: path}}}, http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var idle []net.Conn
	for range 3 * connections {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(hang))
		idle = append(idle, c)
	}
	res, err := client(path).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for _, c := range idle[:2*connections] { // all but the newest have been closed
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v", err)
		}
	}
}

// The header of a request, its first line included, has the size that docs/http-api.md
// tells, and not an octet more.
func TestHeaderSize(t *testing.T) {
	t.Parallel()
	path := socket(t)
	e := newEndpoint()
	if err := e.listen(&settings{requests: 1, listen: []config.Endpoint{{Scheme: "unix", Path: path}}}, http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const begin, end, most = "GET / HTTP/1.1\r\nHost: api\r\nA: ", "\r\n\r\n", 16 << 10
	for size, want := range map[int]string{most: "HTTP/1.1 404", most + 1: "HTTP/1.1 431"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(hang))
		if _, err := io.WriteString(c, begin+strings.Repeat("a", size-len(begin+end))+end); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, len(want))
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != want {
			t.Errorf("%d octets: got %q, %v, expected %s", size, answer, err, want)
		}
	}
}
