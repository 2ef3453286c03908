package smtpwire

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// takeOne is a server that takes one message in one flight, with or without TLS,
// calls before, sends its final reply, and then does what after says.
func takeOne(t *testing.T, nc net.Conn, encrypted bool, before func(), final string, after func(net.Conn)) {
	t.Helper()
	br := bufio.NewReader(nc)
	line := func() string {
		s, err := br.ReadString('\n')
		if err != nil {
			return ""
		}
		return s
	}
	ehlo := "250-mx\r\n250-STARTTLS\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
	io.WriteString(nc, "220 mx\r\n")
	line()
	io.WriteString(nc, ehlo)
	if encrypted {
		line()
		io.WriteString(nc, "220 go\r\n")
		tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{testCert()}})
		nc, br = tc, bufio.NewReader(tc)
		line()
		io.WriteString(nc, ehlo)
	}
	for s := line(); !strings.HasPrefix(s, "BDAT"); s = line() {
		if s == "" {
			return
		}
	}
	io.ReadFull(br, make([]byte, 22))
	io.WriteString(nc, "250 ok\r\n250 ok\r\n")
	before()
	io.WriteString(nc, final)
	after(nc)
	// Whatever the client sends now would be another transaction.
	if s := line(); strings.HasPrefix(s, "MAIL") {
		t.Error("the client went on")
	}
	nc.Close()
}

// A session on which the server spoke unasked, or which it has ended, carries no
// further message; it is known before a word of it is said.
func TestQuietBetweenMessages(t *testing.T) {
	t.Parallel()
	const taken, stray = "250 2.0.0 taken\r\n", "250 2.0.0 once more\r\n"
	for _, test := range []struct {
		name   string
		packed bool // all in one packet
		final  string
		after  func(net.Conn)
	}{
		{"a late reply", false, taken, func(nc net.Conn) { io.WriteString(nc, stray) }},
		{"a reply at once", false, taken + stray, func(net.Conn) {}},
		{"a reply in the same packet", true, taken, func(nc net.Conn) { io.WriteString(nc, stray) }},
		{"end of connection", false, taken, func(nc net.Conn) { nc.Close() }},
	} {
		for _, encrypted := range []bool{false, true} {
			name := test.name
			if encrypted {
				name += ", TLS"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx := context.Background()
				client, nc := pipe(t)
				srv := &corked{Conn: nc}
				done := make(chan struct{})
				go func() {
					defer close(done)
					takeOne(t, srv, encrypted, func() { srv.held = test.packed }, test.final, func(nc net.Conn) {
						test.after(nc)
						srv.flush()
					})
				}()
				c := open(t, client, patient())
				if encrypted {
					if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
						t.Fatal(err)
					}
				}
				if r := c.Send(ctx, transaction("b@example.net")); r.Recipients[0].Err != nil {
					t.Fatal(r.Recipients[0].Err)
				}
				for deadline := time.Now().Add(hangs); c.quiet() == nil; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("nothing was noticed")
					}
				}
				r := c.Send(ctx, transaction("b@example.net"))
				if r.Err == nil || r.Recipients[0].Err == nil || r.Replied || r.Written {
					t.Errorf("result %+v", r)
				}
				<-done
			})
		}
	}
}

// A server that answers RCPT twice makes every later reply stand for its
// predecessor. If one of all of them is a refusal nothing was delivered.
func TestSurplusReplies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ final, want string }{
		{"250 2.1.5 once more\r\n554 5.7.1 refused\r\n", "final: protocol error: more replies than commands, one of them 554"},
		{"250 2.1.5 once more\r\n250 2.0.0 taken\r\n", "ok"},
		{"250 2.0.0 taken\r\ngarbage\r\n", "final: protocol error: no reply code"},
		{strings.Repeat("250 ok\r\n", 2*maxSurplus), "final: protocol error: more replies than commands"},
	} {
		for _, encrypted := range []bool{false, true} {
			ctx := context.Background()
			client, nc := pipe(t)
			srv := &corked{Conn: nc}
			done := make(chan struct{})
			go func() {
				defer close(done)
				takeOne(t, srv, encrypted, func() { srv.held = true }, test.final, func(net.Conn) { srv.flush() })
			}()
			c := open(t, client, patient())
			if encrypted {
				if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
					t.Fatal(err)
				}
			}
			r := c.Send(ctx, transaction("b@example.net"))
			if got := fates(r)[0]; !strings.HasPrefix(got, test.want) || r.Clean || c.Reset(ctx) == nil {
				t.Errorf("%q: %s, %+v", test.final, got, r)
			}
			<-done
		}
	}
}

// A positive reply to a message whose end the server has not seen is not the final
// one. A refusal may come at any time.
func TestReplyBeforeTheDot(t *testing.T) {
	t.Parallel()
	const (
		tooSoon = `! raw "354 go\r\n250 2.0.0 taken\r\n"` + "\n"
		refused = `! raw "354 go\r\n554 5.7.1 no\r\n"` + "\n" + dataMessage
	)
	for _, encrypted := range []bool{false, true} {
		for script, want := range map[string]string{
			tooSoon: "body: protocol error: accepted before it was complete",
			refused: "final: 554 5.7.1 no",
		} {
			begin := hello("STARTTLS", "PIPELINING")
			if encrypted {
				begin += "C: STARTTLS\nS: 220 go\n! tls\nC: EHLO relay.example\nS: 250-mx.example\nS: 250 PIPELINING\n"
			}
			c, ctx := open(t, dialogue(t, begin+cMail+cRcptB+cData+sOK+sOK+script), patient()), context.Background()
			if encrypted {
				if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
					t.Fatal(err)
				}
			}
			r := c.Send(ctx, transaction("b@example.net"))
			if got := fates(r)[0]; got != want || r.Final.Code != 0 {
				t.Errorf("TLS %v: %s, want %s", encrypted, got, want)
			}
		}
	}
}

// With BDAT too, where the chunk goes out after the envelope was answered.
func TestReplyBeforeTheChunk(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Transaction){
		"small": func(t *Transaction) { t.EnvelopeFirst = true },
		"large": func(t *Transaction) { t.Size = 2 * maxEarly },
	} {
		c := open(t, dialogue(t, hello("PIPELINING", "CHUNKING")+cMail+cRcptB+
			`! raw "250 ok\r\n250 ok\r\n250 2.0.0 taken\r\n"`), patient())
		tx := transaction("b@example.net")
		change(tx)
		r := c.Send(context.Background(), tx)
		if got := fates(r)[0]; got != "body: protocol error: accepted before it was complete" || r.Written {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Of a reply that nobody asked for there may be half a TLS record so far. The
// session is over, although there is nothing to read yet.
func TestQuietInARecord(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	client, nc := pipe(t)
	srv := &corked{Conn: nc}
	done := make(chan struct{})
	go func() {
		defer close(done)
		takeOne(t, srv, true, func() { srv.held = true }, "250 2.0.0 taken\r\n", func(nc net.Conn) {
			io.WriteString(nc, "250 2.0.0 once more\r\n")
			srv.kept = srv.kept[:len(srv.kept)-3]
			srv.flush()
		})
	}()
	c := open(t, client, patient())
	if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	if r := c.Send(ctx, transaction("b@example.net")); fates(r)[0] != "ok" || r.Clean {
		t.Errorf("%v, %+v", fates(r), r)
	}
	c.Close()
	<-done
}

// A server that hangs up right behind its final reply has taken the message. TLS
// has records of its own for that, which are no replies.
func TestEndBehindTheFinalReply(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		ctx := context.Background()
		client, nc := pipe(t)
		srv := &corked{Conn: nc}
		done := make(chan struct{})
		go func() {
			defer close(done)
			takeOne(t, srv, encrypted, func() { srv.held = true }, "250 2.0.0 taken\r\n", func(nc net.Conn) {
				if tc, ok := nc.(*tls.Conn); ok {
					_ = tc.CloseWrite()
				}
				srv.flush()
			})
		}()
		c := open(t, byByte{client}, patient())
		if encrypted {
			if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
				t.Fatal(err)
			}
		}
		r := c.Send(ctx, transaction("b@example.net"))
		if diff := cmp.Diff([]string{"ok"}, fates(r)); diff != "" || r.Final.Text != "taken" {
			t.Errorf("TLS %v: %s, %+v", encrypted, diff, r)
		}
		c.Close()
		<-done
	}
}

// byByte reads no more than is asked for, so that what comes behind a record
// stays in the socket.
type byByte struct{ *net.TCPConn }

func (c byByte) Read(b []byte) (int, error) { return c.TCPConn.Read(b[:min(1, len(b))]) }

// Looking does not hurt a session that is well.
func TestQuietSession(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, dial := peer(t)
	c := open(t, dial(), patient())
	if err := c.StartTLS(ctx, clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if r := c.Send(ctx, transaction("b@example.net")); r.Err != nil || r.Recipients[0].Err != nil {
			t.Fatalf("result %+v", r)
		}
		for range 3 {
			if err := c.quiet(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// hangs ends a test that would hang.
const hangs = 30 * time.Second

// corked holds back what is written while held is set, so that several TLS
// records leave in one packet.
type corked struct {
	net.Conn
	held bool
	kept []byte
}

func (c *corked) Write(b []byte) (int, error) {
	if !c.held {
		return c.Conn.Write(b)
	}
	c.kept = append(c.kept, b...)
	return len(b), nil
}

func (c *corked) flush() {
	c.held = false
	_ = c.Conn.SetWriteDeadline(time.Time{}) // which the end of TLS has let pass
	_, _ = c.Conn.Write(c.kept)
}
