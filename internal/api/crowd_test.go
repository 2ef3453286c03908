package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// crowded is a world whose connections are a crowd.
type crowded struct {
	*world
	crowd *Crowd
	out   atomic.Int64 // how many had to go
	came  int64        // how many have been dialled
}

func newCrowded(t *testing.T, most int, change ...func(*Config)) *crowded {
	t.Helper()
	c := &crowded{world: newWorld(t, change...)}
	c.crowd = NewCrowd(most, func() { c.out.Add(1) })
	c.srv = httptest.NewUnstartedServer(c.api)
	c.srv.Listener = c.crowd.Listen(c.srv.Listener)
	c.srv.Config.ConnContext = ConnContext
	c.srv.Config.MaxHeaderBytes = MaxHeaderBytes
	c.srv.Start()
	t.Cleanup(c.srv.Close)
	return c
}

// dial opens a connection from an address of this machine.
func (c *crowded) dial(from string) net.Conn {
	c.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", c.srv.Listener.Addr().String())
	if err != nil {
		c.Skip("this machine has one loopback address only: ", err)
	}
	c.came++
	c.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(hang))
	return conn
}

// ask sends an empty form with a key over a connection that stays, and returns the
// status, 400 for a good key, 0 if there was no answer.
func ask(conn net.Conn, key string) int {
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", messagesPath, key)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0
	}
	return res.StatusCode
}

// until waits for a condition of the crowd.
func (c *crowded) until(what string, ok func() bool) {
	c.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(time.Millisecond) {
		c.crowd.mu.Lock()
		done := ok()
		c.crowd.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("waited for: %s", what)
		}
	}
}

// Strangers who say nothing, and those who begin a request and do not go on, keep
// nobody out, and nobody who has shown a key has to go for them.
func TestStrangersMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	c := newCrowded(t, most)
	known := c.dial("127.0.0.1")
	if got := ask(known, fullKey); got != 400 {
		t.Fatalf("got %d", got)
	}
	for i := range 10 * most {
		fmt.Fprint(c.dial("127.0.0.2"), "GET /v3/domains HTTP/1.1\r\nHost: x\r\nAuth"[:i%10*4])
		if i%most == 0 {
			if got := ask(c.dial("127.0.0.1"), domainKey); got != 400 {
				t.Errorf("a newcomer got %d", got)
			}
		}
	}
	c.until("all have come", func() bool { return c.out.Load() == c.came-most })
	if got := ask(known, fullKey); got != 400 {
		t.Errorf("a known one got %d", got)
	}
	c.until("no more than there may be", func() bool { return c.crowd.open <= most })
	c.srv.CloseClientConnections()
	c.until("all have left", func() bool {
		w := c.crowd
		return w.open == 0 && w.strangers.read == 0 && w.known.read == 0 && w.strangers.Len() == 0 && w.known.Len() == 0 && len(w.groups) == 0
	})
}

// Many from one network make room for each other, and not those of another.
func TestNetworksMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	c := newCrowded(t, most)
	slow := c.dial("127.0.0.1")
	fmt.Fprint(slow, "GET /v3/domains HTTP/1.1\r\n")
	for range 10 * most {
		c.dial("127.0.0.2")
	}
	c.until("all have come", func() bool { return c.out.Load() >= 9*most })
	fmt.Fprintf(slow, "Host: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", fullKey)
	if text, err := io.ReadAll(slow); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200") {
		t.Errorf("got %q, %v", text, err)
	}
}

// Many with one key make room for each other, and not those with another.
func TestKeysMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	c := newCrowded(t, most)
	quiet := c.dial("127.0.0.1")
	if got := ask(quiet, domainKey); got != 400 {
		t.Fatalf("got %d", got)
	}
	for range 10 * most {
		if got := ask(c.dial("127.0.0.2"), fullKey); got != 400 {
			t.Errorf("got %d", got)
		}
	}
	if got := ask(quiet, domainKey); got != 400 {
		t.Errorf("got %d", got)
	}
}

// A guest who is being served stays, if all others have to go.
func TestServedStay(t *testing.T) {
	t.Parallel()
	const most = 2
	inside, leave := make(chan bool), make(chan bool)
	c := newCrowded(t, most, func(cfg *Config) {
		cfg.Mail = slowMail{cfg.Mail, inside, leave}
	})
	answers := make(chan int)
	for range most {
		conn := c.dial("127.0.0.1")
		go func() {
			form := letter().Encode()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
				"Content-Length: %d\r\n\r\n%s", messagesPath, domainKey, len(form), form)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answers <- 0
				return
			}
			answers <- res.StatusCode
		}()
		<-inside
	}
	for range most { // nobody else has to go
		if got := ask(c.dial("127.0.0.2"), fullKey); got != 0 {
			t.Errorf("one too many got %d", got)
		}
	}
	for range most {
		leave <- true
		if got := <-answers; got != 200 {
			t.Errorf("got %d", got)
		}
	}
	if got := ask(c.dial("127.0.0.2"), fullKey); got != 400 {
		t.Errorf("a newcomer got %d", got)
	}
}

// Headers of strangers are as large as there is room for, together.
func TestStrangersHeaders(t *testing.T) {
	t.Parallel()
	const most = 16
	c := newCrowded(t, most)
	c.crowd.strangers.most = most * average
	var closed atomic.Int64
	for range most {
		conn := c.dial("127.0.0.2")
		go func() {
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("a:\r\n", (maxHead-1000)/4))
			io.Copy(io.Discard, conn)
			closed.Add(1)
		}()
	}
	c.until("some had to go", func() bool { return closed.Load() > 0 })
	c.until("what is held is bounded", func() bool {
		return c.crowd.strangers.read <= most*average+most*4<<10 // each may be told while it reads
	})
	if got := ask(c.dial("127.0.0.1"), fullKey); got != 400 {
		t.Errorf("a good one got %d", got)
	}
}

// Of a guest who had to go nothing is taken, not even what came in before.
func TestGoneIsNotServed(t *testing.T) {
	t.Parallel()
	c := NewCrowd(1, func() {})
	one, _ := net.Pipe()
	other, _ := net.Pipe()
	first := c.enter(one)
	second := c.enter(other)
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("got %v", p)
		}
		second.serve(Key{})()
		second.Close()
		if c.open != 0 || c.known.Len() != 0 {
			t.Errorf("%d are open, %d wait", c.open, c.known.Len())
		}
	}()
	first.serve(Key{})
}

// slowMail takes a message when it is told to.
type slowMail struct {
	Mail
	inside, leave chan bool
}

func (s slowMail) Submit(ctx context.Context, m *Message) (string, error) {
	s.inside <- true
	<-s.leave
	return s.Mail.Submit(ctx, m)
}
