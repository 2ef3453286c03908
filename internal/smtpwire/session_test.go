package smtpwire

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("EHLO", func(t *testing.T) {
		t.Parallel()
		nc := dialogue(t, `
			S: 220-mx.example
			S: 220 second line
			C: EHLO relay.example
			S: 250-mx.example says hello
			S: 250-pipelining
			S: 250-Size 1000
			S: 250-LIMITS rcptmax=20 MAILMAX=5 FUTURE
			S: 250 Starttls
		`)
		c := open(t, nc, patient())
		ext := c.Extensions()
		for _, k := range []string{"PIPELINING", "pipelining", "StartTLS", "size"} {
			if !ext.Has(k) {
				t.Errorf("%s not found", k)
			}
		}
		if ext.Has("CHUNKING") || ext.Has("mx.example") {
			t.Error("found what was not offered")
		}
		mail, rcpt := ext.Limits()
		if ext.Size() != 1000 || ext.Param("SIZE") != "1000" || mail != 5 || rcpt != 20 {
			t.Errorf("size %d, limits %d %d", ext.Size(), mail, rcpt)
		}
		if _, ok := c.TLS(); ok || c.HandshakeDuration() != 0 {
			t.Error("TLS on a session in clear")
		}
		if c.LocalAddr().String() != nc.LocalAddr().String() || c.RemoteAddr().String() != nc.RemoteAddr().String() {
			t.Error("addresses are not those of the socket")
		}
	})
	t.Run("HELO", func(t *testing.T) {
		t.Parallel()
		c := open(t, dialogue(t, `
			S: 220 old.example
			C: EHLO relay.example
			S: 502 what
			C: HELO relay.example
			S: 250 old.example
		`), patient())
		if c.Extensions().Has("PIPELINING") || c.Extensions().Size() != 0 {
			t.Error("HELO offers extensions")
		}
	})
}

func TestNewFails(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		stage        Stage
		code         int
		is           error
	}{
		{"greeting 554", "S: 554 5.7.1 go away", StageGreeting, 554, nil},
		{"greeting 421", "S: 421 busy", StageGreeting, 421, nil},
		{"greeting 354", "S: 354 what", StageGreeting, 354, ErrProtocol},
		{"greeting garbage", "S: SSH-2.0-OpenSSH_9", StageGreeting, 0, ErrProtocol},
		{"greeting EOF", "! close", StageGreeting, 0, io.EOF},
		{"greeting half", "! raw \"220-mx\\r\\n220 m\"\n! close", StageGreeting, 0, io.ErrUnexpectedEOF},
		{"EHLO 421", "S: 220 mx\nC: EHLO relay.example\nS: 421 busy", StageEHLO, 421, nil},
		{"EHLO 450", "S: 220 mx\nC: EHLO relay.example\nS: 450 later", StageEHLO, 450, nil},
		{"EHLO 334", "S: 220 mx\nC: EHLO relay.example\nS: 334 x", StageEHLO, 334, ErrProtocol},
		{"EHLO mixed", "S: 220 mx\nC: EHLO relay.example\nS: 250-mx\nS: 550 no", StageEHLO, 0, ErrProtocol},
		{"EHLO EOF", "S: 220 mx\nC: EHLO relay.example\n! close", StageEHLO, 0, io.EOF},
		{"HELO 550", "S: 220 mx\nC: EHLO relay.example\nS: 500 no\nC: HELO relay.example\nS: 550 no", StageEHLO, 550, nil},
		{"HELO EOF", "S: 220 mx\nC: EHLO relay.example\nS: 550 listed\nC: HELO relay.example\n! close", StageEHLO, 550, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nc := dialogue(t, test.script)
			c, err := New(context.Background(), nc, patient())
			if c != nil {
				t.Error("a session beside the error")
			}
			e := failure(t, err, test.stage)
			if got := replyCode(e); got != test.code {
				t.Errorf("reply %d, want %d", got, test.code)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %v", err, test.is)
			}
			if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("connection not closed: %v", err)
			}
		})
	}
}

func replyCode(e *Error) int {
	if e.Reply == nil {
		return 0
	}
	return e.Reply.Code
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "a\r\nMAIL", "bücher.example", "<a>", strings.Repeat("a", 256)} {
		cfg := patient()
		cfg.Hostname = name
		_, err := New(context.Background(), dialogue(t, ""), cfg)
		if !errors.Is(err, ErrBadHostname) {
			t.Errorf("%q: %v", name, err)
		}
	}
	cfg := patient()
	cfg.Hostname = ""
	open(t, dialogue(t, "S: 220 mx\nC: EHLO localhost.localdomain\nS: 250 mx"), cfg)
}

func TestTimeoutDefaults(t *testing.T) {
	t.Parallel()
	want := Timeouts{5 * time.Minute, time.Second, 3 * time.Minute, 10 * time.Minute}
	if diff := cmp.Diff(want, Timeouts{Command: time.Second}.withDefaults()); diff != "" {
		t.Error(diff)
	}
}

// A server that sends a byte now and then must not keep us longer than one that
// sends nothing: the deadline is that of the whole reply.
func TestDribble(t *testing.T) {
	t.Parallel()
	client, srv := pipe(t)
	go func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for range pace.C {
			if _, err := io.WriteString(srv, "2"); err != nil {
				return
			}
		}
	}()
	cfg := patient()
	cfg.Timeouts.Greeting = 100 * time.Millisecond
	_, err := New(context.Background(), client, cfg)
	if e := failure(t, err, StageGreeting); !e.Timeout() {
		t.Errorf("%v, want a time-out", err)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	c := open(t, dialogue(t, hello()+`
		C: RSET
		S: 250 2.0.0 reset
		C: RSET
		S: 502 5.5.1 no
	`), patient())
	if err := c.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if e := failure(t, c.Reset(ctx), StageReset); replyCode(e) != 502 {
		t.Error(e)
	}
	if err := c.Reset(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("after a refused RSET: %v", err)
	}
}

func TestUnsolicitedReply(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello()+`
		C: RSET
		! raw "250 one\r\n250 two\r\n"
	`), patient())
	if err := c.Reset(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := c.Send(context.Background(), transaction("b@example.net"))
	if !errors.Is(r.Err, ErrProtocol) || r.Replied || r.Clean || r.Recipients[0].Err == nil {
		t.Errorf("result %+v", r)
	}
}

func TestQuit(t *testing.T) {
	t.Parallel()
	t.Run("polite", func(t *testing.T) {
		t.Parallel()
		nc := dialogue(t, hello()+"C: QUIT\nS: 221 bye")
		c := open(t, nc, patient())
		c.Quit(context.Background())
		if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("connection not closed: %v", err)
		}
		c.Quit(context.Background())
	})
	t.Run("stall", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		nc := dialogue(t, hello()+"C: QUIT\n! call\n! stall")
		nc.reached = cancel
		open(t, nc, patient()).Quit(ctx)
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello()+"! stall"), patient())
	failed := make(chan error, 1)
	go func() { failed <- c.Reset(context.Background()) }()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error("second Close:", err)
	}
	failure(t, <-failed, StageReset)
	r := c.Send(context.Background(), transaction("b@example.net"))
	if !errors.Is(r.Err, ErrClosed) || r.Replied || !errors.Is(r.Recipients[0].Err, ErrClosed) {
		t.Errorf("result %+v", r)
	}
	failure(t, c.StartTLS(context.Background(), nil), StageSTARTTLS)
}
