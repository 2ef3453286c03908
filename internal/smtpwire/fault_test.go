package smtpwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// steps are the points of a transaction at which a server can go wrong: the
// script up to there, after the session has been opened. Without pipelining the
// client waits at each.
var steps = []struct {
	stage  Stage
	script string
}{
	{StageMail, cMail},
	{StageRcpt, cMail + sOK + cRcptB},
	{StageData, cMail + sOK + cRcptB + sOK + cData},
	{StageFinal, cMail + sOK + cRcptB + sOK + cData + "S: 354 go\n" + dataMessage},
}

// pipelinedSteps are the same points with the envelope in one flight.
var pipelinedSteps = []struct {
	stage  Stage
	script string
}{
	{StageMail, cMail + cRcptB + cData},
	{StageRcpt, cMail + cRcptB + cData + sOK},
	{StageData, cMail + cRcptB + cData + sOK + sOK},
	{StageFinal, cMail + cRcptB + cData + sOK + sOK + "S: 354 go\n" + dataMessage},
}

// eachStep runs test at every step, with and without pipelining.
func eachStep(t *testing.T, test func(t *testing.T, stage Stage, script string)) {
	for _, s := range steps {
		t.Run(string(s.stage), func(t *testing.T) {
			t.Parallel()
			test(t, s.stage, hello()+s.script)
		})
	}
	for _, s := range pipelinedSteps {
		t.Run(string(s.stage)+" pipelined", func(t *testing.T) {
			t.Parallel()
			test(t, s.stage, hello("PIPELINING")+s.script)
		})
	}
}

// brokenAt checks a result of a session that broke at stage.
func brokenAt(t *testing.T, nc net.Conn, r Result, stage Stage) *Error {
	t.Helper()
	e := failure(t, r.Err, stage)
	if r.Recipients[0].Err != r.Err || r.Clean {
		t.Errorf("result %+v", r)
	}
	if !e.Temporary() {
		t.Errorf("%v is not temporary", e)
	}
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("connection not closed: %v", err)
	}
	return e
}

func TestEOFAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		nc := dialogue(t, script+"! close")
		c := open(t, nc, patient())
		r := c.Send(context.Background(), transaction("b@example.net"))
		e := brokenAt(t, nc, r, stage)
		if !errors.Is(e, io.EOF) || e.Timeout() || r.Replied != (stage != StageMail) {
			t.Errorf("error %v, replied %v", e, r.Replied)
		}
	})
}

func TestResetAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		nc := dialogue(t, script+"! reset")
		c := open(t, nc, patient())
		// Replies still under way may be lost with the connection, so
		// an earlier stage may be the one that fails.
		r := c.Send(context.Background(), transaction("b@example.net"))
		var e *Error
		if !errors.As(r.Err, &e) || e.Reply != nil || r.Recipients[0].Err != r.Err || r.Clean {
			t.Errorf("result %+v", r)
		}
	})
}

func TestGarbageAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		nc := dialogue(t, script+"S: 25 ok\n! stall")
		c := open(t, nc, patient())
		e := brokenAt(t, nc, c.Send(context.Background(), transaction("b@example.net")), stage)
		if !errors.Is(e, ErrProtocol) {
			t.Error(e)
		}
	})
}

func Test421AtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		nc := dialogue(t, script+"S: 421 4.3.2 shutting down\n! stall")
		c := open(t, nc, patient())
		r := c.Send(context.Background(), transaction("b@example.net"))
		e := brokenAt(t, nc, r, stage)
		if replyCode(e) != 421 || e.Err != nil || !r.Replied {
			t.Errorf("error %v, replied %v", e, r.Replied)
		}
	})
}

func TestStallAtEachStep(t *testing.T) {
	t.Parallel()
	const short = 200 * time.Millisecond
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		cfg := patient()
		if stage == StageFinal {
			cfg.Timeouts.Final = short
		} else {
			// Short for the step that stalls, long enough for those before it.
			cfg.Timeouts.Command = 3 * time.Second
		}
		nc := dialogue(t, script+"! stall")
		c := open(t, nc, cfg)
		e := brokenAt(t, nc, c.Send(context.Background(), transaction("b@example.net")), stage)
		if !e.Timeout() {
			t.Errorf("%v, want a time-out", e)
		}
	})
}

func TestCancelAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, func(t *testing.T, stage Stage, script string) {
		ctx, cancel := context.WithCancel(context.Background())
		nc := dialogue(t, script+"! call\n! stall")
		nc.reached = cancel
		c := open(t, nc, patient())
		// The context may end before replies that are here already are read.
		e := brokenAt(t, nc, c.Send(ctx, transaction("b@example.net")), anyStage)
		if !errors.Is(e, context.Canceled) || e.Timeout() {
			t.Errorf("%v, want context.Canceled", e)
		}
	})
}

// A context that ends before anything was sent costs no session; one that
// ends afterwards leaves no deadline behind.
func TestCancelledOutside(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello()+"C: RSET\n"+sOK+"C: RSET\n"+sOK), patient())
	ctx, cancel := context.WithCancel(context.Background())
	if err := c.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	r := c.Send(ctx, transaction("b@example.net"))
	if !errors.Is(r.Recipients[0].Err, context.Canceled) || r.Err != nil || r.Replied || !r.Clean {
		t.Errorf("result %+v", r)
	}
	if err := c.Reset(context.Background()); err != nil {
		t.Errorf("a deadline was left behind: %v", err)
	}
}

// A session that the server gave up while it was idle: nothing was replied to
// this transaction, and the caller may try again at once.
func TestStale(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		code   int
	}{
		"EOF":            {"! close", 0},
		"421 after MAIL": {cMail + "S: 421 4.4.2 idle\n! close", 421},
		"EOF after MAIL": {cMail + "! close", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, hello()+"C: RSET\n"+sOK+test.script), patient())
			if err := c.Reset(context.Background()); err != nil {
				t.Fatal(err)
			}
			r := c.Send(context.Background(), transaction("b@example.net"))
			e := failure(t, r.Err, StageMail)
			if r.Replied || replyCode(e) != test.code {
				t.Errorf("error %v, replied %v", e, r.Replied)
			}
		})
	}
}

// The good-bye of an idle session may even be here before we begin.
func TestStaleGoodBye(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello()+"C: RSET\n! raw \"250 ok\\r\\n421 idle\\r\\n\"\n! close"), patient())
	if err := c.Reset(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r := c.Send(context.Background(), transaction("b@example.net")); r.Err == nil || r.Replied {
		t.Errorf("result %+v", r)
	}
}

// large is a message that no socket buffer swallows.
func large() *Transaction {
	tx := transaction("b@example.net")
	tx.Content = func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(xs{}, 64<<20)), nil
	}
	return tx
}

// xs is an endless body of short lines.
type xs struct{}

func (xs) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
		if i%64 == 63 {
			b[i] = '\n'
		}
	}
	return len(b), nil
}

func TestBodyFaults(t *testing.T) {
	t.Parallel()
	for name, ext := range map[string][]string{
		"DATA": {"PIPELINING"}, "BDAT": {"PIPELINING", "CHUNKING"},
	} {
		script := hello(ext...) + cMail + cRcptB
		if name == "DATA" {
			script += cData + sOK + sOK + "S: 354 go\n"
		} else {
			script += sOK + sOK
		}
		begun := script + `! octets "` + map[string]string{"DATA": "Subject", "BDAT": "BDAT "}[name] + "\"\n"
		t.Run(name+" reset", func(t *testing.T) {
			t.Parallel()
			nc := dialogue(t, begun+"! reset")
			brokenAt(t, nc, open(t, nc, patient()).Send(context.Background(), large()), anyStage)
		})
		t.Run(name+" stall", func(t *testing.T) {
			t.Parallel()
			cfg := patient()
			cfg.Timeouts.Body = 200 * time.Millisecond
			nc := dialogue(t, begun+"! wait")
			// A chunk may get stuck before the replies to the envelope are looked at.
			stage := map[string]Stage{"DATA": StageBody, "BDAT": anyStage}[name]
			e := brokenAt(t, nc, open(t, nc, cfg).Send(context.Background(), large()), stage)
			if !e.Timeout() {
				t.Errorf("%v, want a time-out", e)
			}
		})
		t.Run(name+" cancelled", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			nc := dialogue(t, begun+"! call\n! wait")
			nc.reached = cancel
			e := brokenAt(t, nc, open(t, nc, patient()).Send(ctx, large()), anyStage)
			if !errors.Is(e, context.Canceled) {
				t.Errorf("%v, want context.Canceled", e)
			}
		})
		t.Run(name+" last words", func(t *testing.T) {
			t.Parallel()
			nc := dialogue(t, begun+"S: 552 5.3.4 too big\n! reset")
			r := open(t, nc, patient()).Send(context.Background(), large())
			// An RST may overtake what was said before it; then it is lost.
			var e *Error
			if !errors.As(r.Recipients[0].Err, &e) || r.Clean {
				t.Fatalf("result %+v", r)
			}
			if e.Reply != nil && (replyCode(e) != 552 || e.Temporary()) || e.Reply == nil && r.Err == nil {
				t.Errorf("error %v", e)
			}
		})
	}
}

// Many recipients are sent in several flights: no more commands are ever on the
// way than both sides' buffers hold, even if the server's replies are long.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	const n = 2500
	client, nc := pipe(t)
	client.SetReadBuffer(4 << 10)
	client.SetWriteBuffer(4 << 10)
	nc.SetReadBuffer(4 << 10)
	nc.SetWriteBuffer(4 << 10)
	s := newServer(t, nc)
	played := make(chan error, 1)
	go func() {
		played <- func() error {
			long := strings.Repeat("x", 300)
			if _, err := s.script(hello("PIPELINING") + cMail + sOK); err != nil {
				return err
			}
			for i := range n {
				code := []string{"250", "550"}[i%2]
				if _, err := s.script(fmt.Sprintf("C: RCPT TO:<r%d@example.net>\nS: %s %s\n", i, code, long)); err != nil {
					return err
				}
			}
			_, err := s.script(cData + "S: 354 go\n" + dataMessage + sOK)
			return err
		}()
	}()
	tx := transaction()
	for i := range n {
		tx.Recipients = append(tx.Recipients, Recipient{Address: fmt.Sprintf("r%d@example.net", i)})
	}
	r := open(t, client, patient()).Send(context.Background(), tx)
	if err := <-played; err != nil {
		t.Fatal(err)
	}
	for i, rr := range r.Recipients {
		if (rr.Err == nil) != (i%2 == 0) {
			t.Fatalf("recipient %d: %v", i, rr.Err)
		}
	}
	if r.Err != nil || r.Clean {
		t.Errorf("error %v, clean %v", r.Err, r.Clean)
	}
}

// A MAIL refused in the first of several flights ends the transaction there.
func TestManyRecipientsMailRefused(t *testing.T) {
	t.Parallel()
	script := hello("PIPELINING", "CHUNKING") + cMail
	var to []string
	for i := range 300 {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
		if i < flightCommands {
			script += "C: RCPT TO:<" + to[i] + ">\n"
		}
	}
	script += "S: 550 no\n" + strings.Repeat("S: 503 no\n", flightCommands) + "C: RSET\n" + sOK
	c := open(t, dialogue(t, script), patient())
	r := c.Send(context.Background(), transaction(to...))
	for _, rr := range r.Recipients {
		failure(t, rr.Err, StageMail)
	}
	if err := c.Reset(context.Background()); err != nil || r.Err != nil {
		t.Error(err, r.Err)
	}
}

// Commands that do not fit in front of a small message go out before it.
func TestManyRecipientsChunked(t *testing.T) {
	t.Parallel()
	var to []string
	script := hello("PIPELINING", "CHUNKING") + cMail
	for i := range 90 {
		to = append(to, fmt.Sprintf("%s%d@example.net", strings.Repeat("x", 200), i))
		script += "C: RCPT TO:<" + to[i] + ">\n"
	}
	again := cMail + cRcptB + bdatMessage + sOK + sOK + sOK
	c := open(t, dialogue(t, script+bdatMessage+strings.Repeat(sOK, 92)+again), patient())
	for _, to := range [][]string{to, {"b@example.net"}} {
		r := c.Send(context.Background(), transaction(to...))
		for i, rr := range r.Recipients {
			if rr.Err != nil {
				t.Fatalf("recipient %d: %v", i, rr.Err)
			}
		}
		if r.Err != nil || !r.Clean {
			t.Fatalf("error %v, clean %v", r.Err, r.Clean)
		}
	}
}
