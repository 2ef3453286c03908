package smtpwire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hang ends what would never end; nothing waits for it when all is well.
const hang = 30 * time.Second

// A dialogue is a script for the server's side of a session, a step a line:
//
//	S: text       send the line
//	C: text       expect exactly this line
//	! raw "x"     send these bytes, quoted as in Go
//	! octets "x"  expect exactly these bytes
//	! quiet       expect that the client has not run ahead
//	! tls         do the server's side of the handshake
//	! mtls        the same, asking for a certificate that the client lacks
//	! close       close the connection
//	! reset       close it with RST
//	! stall       say nothing until the client hangs up
//	! wait        the same, but do not read either
//	! call        call watchedConn.reached
//
// After the last step the client must hang up without another byte.
type server struct {
	t  *testing.T
	nc net.Conn // what is read and written
	tc *net.TCPConn
	br *bufio.Reader

	client *watchedConn  // of a dialogue
	over   chan struct{} // closed when the client is done
}

// watchedConn counts what the client writes, which tells one flight from many.
type watchedConn struct {
	net.Conn
	reached func() // called by the step "call"
	mu      sync.Mutex
	writes  []string
}

func (w *watchedConn) Write(b []byte) (int, error) {
	w.mu.Lock()
	w.writes = append(w.writes, string(b))
	w.mu.Unlock()
	return w.Conn.Write(b)
}

func (w *watchedConn) written() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.writes...)
}

// pipe returns the two ends of a loopback TCP connection.
func pipe(t testing.TB) (client, srv *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type accepted struct {
		nc  net.Conn
		err error
	}
	got := make(chan accepted, 1)
	go func() {
		nc, err := l.Accept()
		got <- accepted{nc, err}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a := <-got
	if a.err != nil {
		t.Fatal(a.err)
	}
	t.Cleanup(func() { nc.Close(); a.nc.Close() })
	return nc.(*net.TCPConn), a.nc.(*net.TCPConn)
}

// dialogue plays script and returns the client's end. The test fails if the client
// departs from the script.
func dialogue(t *testing.T, script string) *watchedConn {
	t.Helper()
	client, nc := pipe(t)
	s := newServer(t, nc)
	w := &watchedConn{Conn: client}
	s.client, s.over = w, make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- s.play(script) }()
	t.Cleanup(func() {
		client.Close()
		close(s.over)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func newServer(t *testing.T, nc *net.TCPConn) *server {
	nc.SetDeadline(time.Now().Add(hang))
	return &server{t: t, nc: nc, tc: nc, br: bufio.NewReader(nc)}
}

func (s *server) play(script string) error {
	if over, err := s.script(script); over || err != nil {
		return err
	}
	rest, _ := io.ReadAll(s.br)
	if len(rest) > 0 {
		return fmt.Errorf("after the script: client sent %.200q", rest)
	}
	return nil
}

// script plays the steps; over tells that one of them ended the dialogue.
func (s *server) script(script string) (over bool, err error) {
	for line := range strings.SplitSeq(script, "\n") {
		line = strings.TrimLeft(line, "\t")
		if line == "" {
			continue
		}
		over, err := s.step(line)
		if err != nil {
			return false, fmt.Errorf("at %q: %w", line, err)
		}
		if over {
			return true, nil
		}
	}
	return false, nil
}

func (s *server) step(line string) (over bool, err error) {
	switch verb, arg, _ := strings.Cut(line, " "); verb {
	case "S:":
		_, err = io.WriteString(s.nc, arg+"\r\n")
		return false, err
	case "C:":
		got, err := s.br.ReadString('\n')
		if got != arg+"\r\n" {
			return false, fmt.Errorf("client sent %q (%v)", got, err)
		}
		return false, nil
	case "!":
		name, quoted, _ := strings.Cut(arg, " ")
		text, err := strconv.Unquote(quoted)
		if quoted != "" && err != nil {
			return false, err
		}
		return s.act(name, text)
	}
	return false, errors.New("unknown step")
}

func (s *server) act(name, text string) (over bool, err error) {
	switch name {
	case "raw":
		_, err = io.WriteString(s.nc, text)
	case "octets":
		got := make([]byte, len(text))
		_, err = io.ReadFull(s.br, got)
		if err == nil && string(got) != text {
			err = fmt.Errorf("client sent %q", got)
		}
	case "quiet":
		if n := s.br.Buffered(); n > 0 {
			got, _ := s.br.Peek(n)
			err = fmt.Errorf("client ran ahead with %q", got)
		}
	case "call":
		s.client.reached()
	case "wait":
		<-s.over
		return true, nil
	case "tls", "mtls":
		cfg := &tls.Config{Certificates: []tls.Certificate{testCert()}}
		if name == "mtls" {
			cfg.ClientAuth = tls.RequireAnyClientCert
		}
		tc := tls.Server(s.nc, cfg)
		if err = tc.Handshake(); name == "mtls" {
			return true, s.tc.Close()
		}
		s.nc = tc
		s.br.Reset(tc)
	case "close":
		return true, s.tc.Close()
	case "reset":
		s.tc.SetLinger(0)
		return true, s.tc.Close()
	case "stall":
		io.Copy(io.Discard, s.br)
		return true, nil
	default:
		err = errors.New("unknown step")
	}
	return false, err
}

// testCert is a throw-away certificate for mx.example.
var testCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mx.example"},
		DNSNames:     []string{"mx.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// clientTLS trusts testCert alone.
func clientTLS(t testing.TB) *tls.Config {
	t.Helper()
	leaf, err := x509.ParseCertificate(testCert().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{ServerName: "mx.example", RootCAs: pool}
}

// patient is the configuration of tests in which nothing times out.
func patient() Config {
	return Config{
		Hostname: "relay.example",
		Timeouts: Timeouts{Greeting: hang, Command: hang, Body: hang, Final: hang},
	}
}

// hello is the script up to the reply to EHLO that offers ext.
func hello(ext ...string) string {
	s := "S: 220 mx.example ESMTP\nC: EHLO relay.example\nS: 250-mx.example\n"
	for _, e := range ext {
		s += "S: 250-" + e + "\n"
	}
	return s + "S: 250 HELP\n"
}

// open starts a session that must succeed.
func open(t *testing.T, nc net.Conn, cfg Config) *Conn {
	t.Helper()
	c, err := New(context.Background(), nc, cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// anyStage is for tests in which the stage is a matter of timing.
const anyStage Stage = ""

// failure returns err as *Error and checks the stage.
func failure(t *testing.T, err error, stage Stage) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v), want *Error", err, err)
	}
	if stage != anyStage && e.Stage != stage {
		t.Errorf("stage %q, want %q (%v)", e.Stage, stage, err)
	}
	return e
}

// message returns a Content over b.
func message(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// transaction is a message from a@example.com to recipients.
func transaction(recipients ...string) *Transaction {
	t := &Transaction{
		From:    "a@example.com",
		Header:  []byte("Subject: hi\r\n\r\n"),
		Content: message([]byte("hello\n")),
	}
	for _, r := range recipients {
		t.Recipients = append(t.Recipients, Recipient{Address: r})
	}
	return t
}

// fates renders the recipients' results, "ok" for the accepted.
func fates(r Result) []string {
	out := make([]string, len(r.Recipients))
	for i, rr := range r.Recipients {
		out[i] = "ok"
		if rr.Err != nil {
			out[i] = strings.TrimPrefix(rr.Err.Error(), "smtp: ")
		}
	}
	return out
}
