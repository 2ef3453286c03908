package tests

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hostiles is how many bad clients there are at a time: fewer where the race detector
// makes each of them cost several times as much. With -v the test tells how much memory
// the process had; docs/http-api.md has what that was with 2000.
var hostiles = flag.Int("hostile", map[bool]int{false: 100, true: 30}[raceEnabled], "bad clients of the HTTP API at a time")

// attack is what a bad client does over a connection. It ends when the connection
// does.
type attack struct {
	name string
	tls  bool // on the port for TLS, of which the client speaks none
	do   func(c net.Conn, key string)
}

// post is the beginning of a form for a message.
func post(key, kind, more string) string {
	return "POST /v3/example.com/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Type: " + kind + "\r\n" + more + "\r\n"
}

const (
	urlencoded = "application/x-www-form-urlencoded"
	inParts    = "multipart/form-data; boundary=x"
)

// untilClosed waits for the end of a connection on which nothing more is sent.
func untilClosed(c net.Conn) { io.Copy(io.Discard, c) }

// send writes and then waits for the end.
func send(text string) func(net.Conn, string) {
	return func(c net.Conn, _ string) {
		io.WriteString(c, text)
		untilClosed(c)
	}
}

// again sends a request over and over, and reads the answers.
func again(request func(key string) string) func(net.Conn, string) {
	return func(c net.Conn, key string) {
		text, r := request(key), bufio.NewReader(c)
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Close {
				return
			}
		}
	}
}

// attacks are what bad clients do. Those that need a key have a good one.
func attacks() []attack {
	var parts, fields bytes.Buffer
	for range 100_000 {
		parts.WriteString("--x\r\nContent-Disposition: form-data; name=v:a\r\n\r\n\r\n")
	}
	for range 1_000_000 {
		fields.WriteString("a=&")
	}
	large := bytes.Repeat([]byte("x"), 25<<20)
	whole := func(kind string, body []byte) func(net.Conn, string) {
		return func(c net.Conn, key string) {
			go func() {
				io.WriteString(c, post(key, kind, "Content-Length: "+strconv.Itoa(len(body))+"\r\n"))
				c.Write(body)
			}()
			untilClosed(c)
		}
	}
	return []attack{
		{name: "nothing", do: send("")},
		{name: "nothing where TLS is expected", tls: true, do: send("\x16\x03\x01\x02\x00\x01")},
		{name: "a header, an octet a second", do: func(c net.Conn, _ string) {
			go func() {
				for _, octet := range []byte("GET / HTTP/1.1\r\nHost: relay.example.com\r\n") {
					if _, err := c.Write([]byte{octet}); err != nil {
						return
					}
					time.Sleep(time.Second) // this is what it does
				}
			}()
			untilClosed(c)
		}},
		{name: "a large header of small fields", do: send("GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 4<<10-100))},
		{name: "HTTP/2", do: send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\x00\x00\x00\x04\x00\x00\x00\x00\x00", 1000))},
		{name: "a login that does not come", do: send("POST /ui/data/login HTTP/1.1\r\nHost: x\r\nX-CSRF-Token: x\r\nContent-Type: " + urlencoded + "\r\nContent-Length: 100\r\n\r\nkey=")},
		{name: "files that are not taken", do: func(c net.Conn, _ string) {
			for {
				if _, err := io.WriteString(c, "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					return
				}
			}
		}},
		{name: "wrong keys at full speed", do: again(func(string) string {
			return post("key-aaaaaaaaaaaaaaaa-"+strings.Repeat("a", 52), urlencoded, "Content-Length: 0\r\n")
		})},
		{name: "a body that does not come", do: func(c net.Conn, key string) {
			send(post(key, urlencoded, "Content-Length: 25000000\r\n")+"text=")(c, key)
		}},
		{name: "100-continue, and nothing more", do: func(c net.Conn, key string) {
			send(post(key, urlencoded, "Content-Length: 20000\r\nExpect: 100-continue\r\n"))(c, key)
		}},
		{name: "chunks without end", do: func(c net.Conn, key string) {
			go func() {
				io.WriteString(c, post(key, urlencoded, "Transfer-Encoding: chunked\r\n"))
				for chunk := append(append([]byte("4000\r\n"), large[:0x4000]...), "\r\n"...); ; {
					if _, err := c.Write(chunk); err != nil {
						return
					}
				}
			}()
			untilClosed(c)
		}},
		{name: "25 MiB", do: whole(urlencoded, large)},
		{name: "100,000 parts", do: whole(inParts, parts.Bytes())},
		{name: "1,000,000 fields", do: whole(urlencoded, fields.Bytes())},
		{name: "a body in gzip", do: whole(urlencoded+"\r\nContent-Encoding: gzip", large[:1<<20])},
	}
}

// TestAPIHostileClients: while bad clients do what they do, as many and as fast as
// they can, messages of a good one are taken. When they have left, nothing of them
// stays behind.
func TestAPIHostileClients(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.relayCertificate()
	places := min(256, *hostiles/6) // there are fewer connections than bad clients
	b := apiBlocks(s, "tls file {dir}/relay.pem {dir}/relay.key\nrate_limit 1000000\nmax_requests "+strconv.Itoa(places))
	b.endpoints = strings.Replace(b.endpoints, "{smtp}", "{smtp} tls://{ip}:{smtp2}", 1)
	s.config(b)
	s.start()
	good, bad := s.key(""), s.key("example.com")
	status, body := s.call("POST", "/v3/example.com/messages", good, apiLetter())
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			if testing.Short() && strings.HasPrefix(a.name, "1") {
				t.Skip("moves gigabytes")
			}
			s := *s
			s.T = t
			s.endure(a, good, bad)
		})
	}
}

// endure makes requests with a good key while an attack goes on.
func (s *server) endure(a attack, good, bad string) {
	goroutines, files := s.metric("go_goroutines"), s.metric("process_open_fds")
	s.resetPeak()
	began := time.Now()
	stop := sync.OnceFunc(s.attack(a, bad))
	defer stop()
	// served makes a request that must be answered with 200. Where the race detector
	// makes everybody slow, one of the ten may have to be made again, as clients do.
	excused := !raceEnabled
	served := func(what string, request func() (int, error)) {
		status, err := request()
		if (err != nil || status == http.StatusServiceUnavailable) && !excused {
			excused = true
			s.Logf("%s: %d, %v", what, status, err)
			status, err = request()
		}
		if err != nil || status != 200 {
			s.Errorf("%s: %d, %v", what, status, err)
		}
	}
	for range 5 {
		served("a message over a connection that was there", func() (int, error) { return s.send(http.DefaultClient, good) })
		served("events over a new connection", func() (int, error) { return s.callAnew(good) })
	}
	took := time.Since(began)
	stop()
	s.Logf("%s: %d MiB, %v", a.name, s.peak()>>20, took)
	// Idle connections to databases, and deliveries that are waiting, come and go.
	s.eventually("all is over", func() bool {
		return s.metric("go_goroutines") < goroutines+20 && s.metric("process_open_fds") < files+20
	})
	s.Logf("over after %v", time.Since(began))
}

// send sends a message. A connection that waited may have been closed for somebody
// else, as any server may do; then it sends over another one, as clients do.
func (s *server) send(client *http.Client, key string) (status int, err error) {
	for range 2 {
		var r *http.Request
		if r, err = http.NewRequest("POST", s.apiURL()+"/v3/example.com/messages", strings.NewReader(apiLetter().Encode())); err != nil {
			return 0, err
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("api", key)
		var res *http.Response
		if res, err = client.Do(r); err != nil {
			continue
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode, err
	}
	return 0, err
}

// callAnew asks for events over a connection of its own.
func (s *server) callAnew(key string) (status int, err error) {
	c, err := net.Dial("tcp", net.JoinHostPort(s.ip, apiPort))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(hang))
	fmt.Fprintf(c, "GET /v3/example.com/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", key)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// attack lets bad clients go, and returns when each has a connection. Who loses it
// comes again. stop ends them.
func (s *server) attack(a attack, key string) (stop func()) {
	s.Helper()
	port := apiPort
	if a.tls {
		port = "2526"
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all, in sync.WaitGroup
	var failed atomic.Int64
	for range *hostiles {
		in.Add(1)
		all.Go(func() {
			first := sync.OnceFunc(in.Done)
			defer first()
			for ctx.Err() == nil {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: hang}
				c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(s.ip, port))
				if err != nil {
					if ctx.Err() == nil && failed.Add(1) > 1000 {
						s.Errorf("%s: %v", a.name, err)
						return
					}
					continue
				}
				first()
				end := context.AfterFunc(ctx, func() { c.Close() })
				a.do(c, key)
				end()
				c.Close()
			}
		})
	}
	in.Wait()
	return func() {
		cancel()
		all.Wait()
	}
}

// resetPeak forgets how much memory the process has had.
func (s *server) resetPeak() {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
		s.Log(err)
	}
}

// peak is how much memory the process has had at a time, in octets; 0 where that
// cannot be told.
func (s *server) peak() int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int
	fmt.Sscan(rest, &kilobytes)
	return kilobytes << 10
}
