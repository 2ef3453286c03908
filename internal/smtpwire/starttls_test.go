package smtpwire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// inClear is the script up to the STARTTLS command.
var inClear = hello("STARTTLS", "SIZE 5", "DSN") + "C: STARTTLS\n"

func TestStartTLS(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, inClear+`
		S: 220 2.0.0 go ahead
		! tls
		C: EHLO relay.example
		S: 250-mx.example
		S: 250-RequireTLS
		S: 250 size 7
		C: RSET
		S: 250 ok
		C: QUIT
		S: 221 bye
	`), patient())
	if !c.Extensions().Has("DSN") {
		t.Fatal("DSN not found")
	}
	if err := c.StartTLS(context.Background(), clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	state, ok := c.TLS()
	if !ok || !state.HandshakeComplete || state.ServerName != "mx.example" || c.HandshakeDuration() <= 0 {
		t.Errorf("TLS state %v %+v", ok, state)
	}
	// The first reply counts for nothing any more.
	ext := c.Extensions()
	if ext.Has("STARTTLS") || ext.Has("DSN") || !ext.Has("REQUIRETLS") || ext.Size() != 7 {
		t.Errorf("extensions %v", ext)
	}
	if err := c.Reset(context.Background()); err != nil {
		t.Error(err)
	}
	c.Quit(context.Background())
}

func TestStartTLSTwice(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, inClear+"S: 220 go\n! tls\nC: EHLO relay.example\nS: 250 mx"), patient())
	if err := c.StartTLS(context.Background(), clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	failure(t, c.StartTLS(context.Background(), clientTLS(t)), StageSTARTTLS)
}

func TestStartTLSHELOAfterwards(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, inClear+`
		S: 220 go
		! tls
		C: EHLO relay.example
		S: 500 no
		C: HELO relay.example
		S: 250 mx
	`), patient())
	if err := c.StartTLS(context.Background(), clientTLS(t)); err != nil {
		t.Fatal(err)
	}
	if c.Extensions().Has("STARTTLS") {
		t.Error("extensions of the clear part are still there")
	}
}

// A refusal leaves a session that is still good for clear text.
func TestStartTLSRefused(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"454 4.7.0 no TLS today", "501 no", "502 no", "554 5.5.1 no"} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, inClear+"S: "+reply+"\nC: RSET\nS: 250 ok"), patient())
			e := failure(t, c.StartTLS(context.Background(), clientTLS(t)), StageSTARTTLS)
			if e.Err != nil || e.Reply == nil || reply[:3] != e.Reply.String()[:3] {
				t.Errorf("error %v", e)
			}
			if _, ok := c.TLS(); ok {
				t.Error("TLS after a refusal")
			}
			if !c.Extensions().Has("DSN") {
				t.Error("extensions are gone")
			}
			if err := c.Reset(context.Background()); err != nil {
				t.Errorf("the session is not usable: %v", err)
			}
		})
	}
}

func TestStartTLSFails(t *testing.T) {
	t.Parallel()
	const encrypted = "S: 220 go\n! tls\nC: EHLO relay.example\n"
	for _, test := range []struct {
		name, script string
		stage        Stage
		code         int
		is           error
	}{
		{"421", "S: 421 bye", StageSTARTTLS, 421, nil},
		{"250", "S: 250 what", StageSTARTTLS, 250, ErrProtocol},
		{"EOF", "! close", StageSTARTTLS, 0, io.EOF},
		{"injected", `! raw "220 go\r\n250 injected\r\n"`, StageHandshake, 0, ErrInjected},
		{"injected byte", `! raw "220 go\r\n2"`, StageHandshake, 0, ErrInjected},
		{"EOF after 220", "S: 220 go\n! close", StageHandshake, 0, nil},
		{"reset after 220", "S: 220 go\n! reset", StageHandshake, 0, nil},
		{"garbage after 220", "S: 220 go\n! octets \"\\x16\"\nS: 500 what is this\n! stall", StageHandshake, 0, nil},
		{"plaintext alert", "S: 220 go\n! octets \"\\x16\"\n! raw \"\\x15\\x03\\x01\\x00\\x02\\x02\\x28\"\n! stall", StageHandshake, 0, nil},
		{"alert after the handshake", "S: 220 go\n! mtls", StageHandshake, 0, nil},
		{"EOF after the handshake", encrypted + "! close", StageHandshake, 0, nil},
		{"reset after the handshake", encrypted + "! reset", StageHandshake, 0, nil},
		{"garbage after the handshake", encrypted + "S: hello?\n! stall", StageHandshake, 0, ErrProtocol},
		{"second EHLO 421", encrypted + "S: 421 busy\n! stall", StageEHLO, 421, nil},
		{"second EHLO 450", encrypted + "S: 450 later\n! stall", StageEHLO, 450, nil},
		{"second EHLO 550", encrypted + "S: 550 no\nC: HELO relay.example\nS: 550 no\n! stall", StageEHLO, 550, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nc := dialogue(t, inClear+test.script)
			c := open(t, nc, patient())
			err := c.StartTLS(context.Background(), clientTLS(t))
			e := failure(t, err, test.stage)
			if replyCode(e) != test.code || e.Timeout() {
				t.Errorf("error %v, want reply %d", err, test.code)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %v", err, test.is)
			}
			if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("connection not closed: %v", err)
			}
			if err := c.Reset(context.Background()); !errors.Is(err, ErrClosed) {
				t.Errorf("still usable: %v", err)
			}
		})
	}
}

// A reply sent ahead of the command would pass for the one to STARTTLS.
func TestStartTLSReplyAhead(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, `
		S: 220 mx
		C: EHLO relay.example
		! raw "250-mx\r\n250 STARTTLS\r\n220 go\r\n"
	`), patient())
	err := c.StartTLS(context.Background(), clientTLS(t))
	failure(t, err, StageHandshake)
	if !errors.Is(err, ErrInjected) {
		t.Error(err)
	}
}

func TestStartTLSVerification(t *testing.T) {
	t.Parallel()
	client, srv := pipe(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		srv.SetDeadline(time.Now().Add(hang))
		io.WriteString(srv, "220 mx\r\n")
		readLine(srv)
		io.WriteString(srv, "250 STARTTLS\r\n")
		readLine(srv)
		io.WriteString(srv, "220 go\r\n")
		tls.Server(srv, &tls.Config{Certificates: []tls.Certificate{testCert()}}).Handshake()
		io.Copy(io.Discard, srv)
	}()
	c := open(t, client, patient())
	cfg := clientTLS(t)
	cfg.ServerName = "other.example"
	err := c.StartTLS(context.Background(), cfg)
	failure(t, err, StageHandshake)
	var mismatch x509.HostnameError
	if !errors.As(err, &mismatch) {
		t.Errorf("error %v", err)
	}
	<-ended
}

// readLine reads byte by byte, so that nothing beyond the line is consumed.
func readLine(r io.Reader) {
	b := make([]byte, 1)
	for b[0] != '\n' {
		if _, err := r.Read(b); err != nil {
			return
		}
	}
}

func TestStartTLSStalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		stage  Stage
	}{
		"reply":     {"! stall", StageSTARTTLS},
		"handshake": {"S: 220 go\n! stall", StageHandshake},
		"EHLO":      {"S: 220 go\n! tls\n! stall", StageEHLO},
	} {
		t.Run(name+" times out", func(t *testing.T) {
			t.Parallel()
			cfg := patient()
			cfg.Timeouts.Command = 3 * time.Second // for the steps before it, too
			c := open(t, dialogue(t, inClear+test.script), cfg)
			err := c.StartTLS(context.Background(), clientTLS(t))
			if e := failure(t, err, test.stage); !e.Timeout() {
				t.Errorf("%v, want a time-out", err)
			}
		})
		t.Run(name+" cancelled", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			nc := dialogue(t, inClear+strings.Replace(test.script, "! stall", "! call\n! stall", 1))
			nc.reached = cancel
			err := open(t, nc, patient()).StartTLS(ctx, clientTLS(t))
			// Where the cancellation falls depends on the machine.
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		})
	}
}
