package mailtest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/mailtest"
)

// hang is long enough for anything that happens at all.
const hang = 30 * time.Second

func newMX(t *testing.T, b mailtest.Behaviour) *mailtest.MX {
	t.Helper()
	hosts, _, err := mailtest.NewMXs(1, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hosts[0].Close(); err != nil {
			t.Error(err)
		}
	})
	return hosts[0]
}

// client is the least that speaks SMTP.
type client struct {
	t    *testing.T
	raw  net.Conn
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, m *mailtest.MX) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", m.Addr().String(), hang)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(hang))
	return &client{t: t, raw: conn, conn: conn, r: bufio.NewReader(conn)}
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// read returns one reply, lines joined by LF.
func (c *client) read() (string, error) {
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return strings.Join(append(lines, line), "\n"), err
		}
		line = strings.TrimSuffix(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n"), nil
		}
	}
}

// say is a dialogue: lines beginning with "> " are sent, those with "< " are
// prefixes of the replies expected.
func (c *client) say(script string) {
	c.t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if command, ok := strings.CutPrefix(line, "> "); ok {
			c.write(command + "\r\n")
		} else if want, ok := strings.CutPrefix(line, "< "); ok {
			if got, err := c.read(); err != nil || !strings.HasPrefix(got, want) {
				c.t.Fatalf("reply %q, %v; want %q", got, err, want)
			}
		}
	}
}

// startTLS does the handshake after the 220 was read.
func (c *client) startTLS(config *tls.Config) error {
	config.InsecureSkipVerify = true
	secured := tls.Client(c.raw, config)
	if err := secured.Handshake(); err != nil {
		return err
	}
	c.conn, c.r = secured, bufio.NewReader(secured)
	return nil
}

func TestMXTakesMail(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	m := newMX(t, mailtest.Behaviour{
		Certificate:   &cert,
		ExtensionsTLS: append(mailtest.DefaultExtensions(), "REQUIRETLS"),
		RejectRcpt:    map[string]string{"bad@example.net": "550 5.1.1 no such user"},
	})
	c := dial(t, m)
	c.say(`< 220
		> EHLO relay.example.com
		< 250-mx.mailtest.invalid
		> MAIL FROM:<a@example.com> REQUIRETLS
		< 555 5.5.4
		> STARTTLS
		< 220`)
	if err := c.startTLS(&tls.Config{ServerName: host}); err != nil {
		t.Fatal(err)
	}
	c.say(`> MAIL FROM:<a@example.com>
		< 503
		> EHLO relay.example.com
		< 250-mx.mailtest.invalid
		> MAIL FROM:<a@example.com> SIZE=10 REQUIRETLS
		> RCPT TO:<b@example.net> NOTIFY=NEVER
		> RCPT TO:<Bad@example.net>
		> RCPT TO:<"odd > one"@example.net>
		> DATA
		< 250 2.1.0
		< 250 2.1.5
		< 550 5.1.1
		< 250 2.1.5
		< 354`)
	c.write("Subject: x\r\n\r\n..stuffed\r\nbare\n.\nlf\r\n.\r\n")
	c.say(`< 250
		> MAIL FROM:<> BODY=8BITMIME
		> RCPT TO:<c@example.net>`)
	c.write("BDAT 5\r\nhelloBDAT 4 LAST\r\n.\r\nx")
	c.say(`< 250 2.1.0
		< 250 2.1.5
		< 250 2.0.0 chunk
		< 250 2.0.0 accepted
		> RSET
		< 250
		> NOOP
		< 250
		> QUIT
		< 221`)
	if _, err := c.read(); !errors.Is(err, io.EOF) {
		t.Errorf("after QUIT: %v", err)
	}

	got := m.Messages()
	if len(got) != 2 || got[0].TLSState == nil || !got[0].RemoteIP.IsLoopback() {
		t.Fatalf("messages: %+v", got)
	}
	for i := range got {
		got[i].TLSState, got[i].RemoteIP = nil, mailtest.Message{}.RemoteIP
	}
	first := []byte("Subject: x\r\n\r\n.stuffed\r\nbare\n.\nlf\r\n")
	want := []mailtest.Message{
		{
			From: "a@example.com", MailParams: "SIZE=10 REQUIRETLS",
			Recipients: []string{"b@example.net", `"odd > one"@example.net`},
			RcptParams: []string{"NOTIFY=NEVER", ""},
			Data:       first, Size: len(first), TLS: true, Connection: 1, Helo: "relay.example.com",
		},
		{
			MailParams: "BODY=8BITMIME", Recipients: []string{"c@example.net"}, RcptParams: []string{""},
			Data: []byte("hello.\r\nx"), Size: 9, TLS: true, Chunking: true, Connection: 1, Helo: "relay.example.com",
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	session := m.Sessions()[0]
	if session.SNI != host || session.Handshakes != 1 || session.HandshakeErr != nil || !session.TLS {
		t.Errorf("session: %+v", session)
	}
	clear := "EHLO relay.example.com\r\nMAIL FROM:<a@example.com> REQUIRETLS\r\nSTARTTLS\r\n"
	if string(session.ClearBytes) != clear {
		t.Errorf("in clear: %q", session.ClearBytes)
	}
	if session.Commands[0] != "C: EHLO relay.example.com" || session.Commands[len(session.Commands)-1] != "T: QUIT" {
		t.Errorf("commands: %q", session.Commands)
	}
}

func TestMXReplies(t *testing.T) {
	t.Parallel()
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	eof := func(err error) bool { return errors.Is(err, io.EOF) }
	stalled := func(err error) bool { var e net.Error; return errors.As(err, &e) && e.Timeout() }
	for mode, c := range map[string]struct {
		reply string // prefix
		err   func(error) bool
		next  func(error) bool // of the following read
	}{
		"451 4.3.0 later":     {reply: "451 4.3.0 later"},
		"250-a\n250-b\n250 c": {reply: "250-a\n250-b\n250 c"},
		"421 4.3.0 bye":       {reply: "421 4.3.0 bye", next: eof},
		"eof":                 {err: eof},
		"reset":               {err: reset},
		"ok-reset":            {reply: "250 2.0.0 ok", next: reset},
		"stall":               {err: stalled},
		"ok-stall":            {err: stalled},
		"control":             {reply: "250 2.0.0 bell \a"},
		"invalid":             {reply: "this is no"},
		"dribble":             {reply: "250 2.0.0 ok"},
		"longline":            {reply: "250 " + strings.Repeat("x", 1<<20)},
	} {
		t.Run(strings.Fields(mode)[0], func(t *testing.T) {
			t.Parallel()
			m := newMX(t, mailtest.Behaviour{Replies: map[string]string{"noop": mode}})
			client := dial(t, m)
			client.say("< 220\n> NOOP")
			if strings.HasSuffix(mode, "stall") {
				_ = client.raw.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			}
			reply, err := client.read()
			if c.err == nil && (err != nil || !strings.HasPrefix(reply, c.reply)) {
				t.Errorf("%.100q, %v", reply, err)
			}
			if c.err != nil && !c.err(err) {
				t.Errorf("%.100q, %v", reply, err)
			}
			if c.next != nil {
				if reply, err := client.read(); !c.next(err) {
					t.Errorf("next: %.100q, %v", reply, err)
				}
			}
		})
	}
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{Greeting: "endless"})
		n, err := io.CopyN(io.Discard, dial(t, m).raw, 4<<20)
		if err != nil {
			t.Errorf("ends after %d bytes: %v", n, err)
		}
	})
}

func TestMXSteps(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{
		Greeting:  "220-first\n220 second",
		EHLOReply: "250-odd\n250 CHUNKING",
		Replies: map[string]string{
			"mail": "450 4.0.1 mail", "rset": "451 4.0.2 rset", "quit": "452 4.0.3 quit", "helo": "453 4.0.4 helo",
		},
		LowerCaseKeywords: true,
	})
	c := dial(t, m)
	c.say(`< 220-first
		> HELO a
		< 453 4.0.4
		> EHLO a
		< 250-odd
		> MAIL FROM:<a@example.com>
		< 450 4.0.1
		> RCPT TO:<b@example.net>
		< 503
		> RSET
		< 451 4.0.2`)
	m.Set(mailtest.Behaviour{
		LowerCaseKeywords: true, HELOOnly: false, MaxRecipients: 1,
		AfterMessages: 1, AfterReply: "451 4.7.0 enough",
		Replies: map[string]string{"data": "354 go on", "body": "550 5.7.1 spam"},
	})
	c.say(`> EHLO a
		< 250-mx.mailtest.invalid
		> MAIL FROM:<a@example.com>
		< 250
		> RCPT TO:<b@example.net>
		< 250
		> RCPT TO:<c@example.net>
		< 452 4.5.3
		> DATA
		< 354 go on
		> .
		< 550 5.7.1`)
	if got := m.Messages(); len(got) != 0 {
		t.Errorf("refused message is on record: %+v", got)
	}
	m.Set(mailtest.Behaviour{AfterMessages: 1, DiscardData: true, HELOOnly: true})
	c.say(`> MAIL FROM:<a@example.com>
		< 250
		> DATA
		< 503 5.5.1 no valid
		> RCPT TO:<b@example.net>
		< 250
		> DATA
		< 354
		> body
		> .
		< 250
		> MAIL FROM:<a@example.com>
		< 421 4.7.0`)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	got, err := m.WaitMessages(ctx, 1)
	if err != nil || len(got) != 1 || got[0].Data != nil || got[0].Size != 6 || got[0].TLS {
		t.Errorf("%+v, %v", got, err)
	}
	if dial(t, m).say("< 220\n> EHLO a\n< 502\n> HELO a\n< 250"); m.Connections() != 2 {
		t.Errorf("%d connections", m.Connections())
	}
	cancelled, stop := context.WithCancel(t.Context())
	stop()
	if _, err := m.WaitMessages(cancelled, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for what does not come: %v", err)
	}
}

func TestMXBreaksBody(t *testing.T) {
	t.Parallel()
	opening := "< 220\n> EHLO a\n< 250\n> MAIL FROM:<a@b.example>\n< 250\n> RCPT TO:<b@c.example>\n< 250\n"
	body := bytes.Repeat([]byte("0123456789abcdef\r\n"), 1<<20)
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{ResetInBody: 10_000})
		c := dial(t, m)
		c.say(opening + "> DATA\n< 354")
		if _, err := c.conn.Write(body); err == nil {
			t.Error("the whole body is taken")
		}
	})
	t.Run("stall", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{StallInBody: 10_000})
		c := dial(t, m)
		c.say(opening + "> BDAT 18874368")
		_ = c.conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		var timeout net.Error
		if n, err := c.conn.Write(body); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%d bytes are taken: %v", n, err)
		}
	})
	t.Run("eof", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{})
		c := dial(t, m)
		c.say(opening + "> DATA\n< 354\n> half a body")
		c.raw.(*net.TCPConn).CloseWrite()
		if _, err := c.read(); !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
		if got := m.Messages(); len(got) != 0 {
			t.Errorf("half a message is on record: %+v", got)
		}
	})
}

// A CRLF that the reader's buffer cuts in two still ends its line.
func TestMXLineAtBufferEnd(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{})
	c := dial(t, m)
	c.say("< 220\n> EHLO a\n< 250\n> MAIL FROM:<a@b.example>\n< 250\n> RCPT TO:<b@c.example>\n< 250\n> DATA\n< 354")
	var body strings.Builder
	for n := 4080; n < 4110; n++ {
		body.WriteString(strings.Repeat("x", n) + "\r\n..\r\n")
	}
	c.write(body.String() + ".\r\n")
	c.say("< 250 2.0.0 accepted")
	want := strings.ReplaceAll(body.String(), "..", ".")
	if got := m.Messages()[0].Data; string(got) != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
}
