package mailtest_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

func TestMXIdleClose(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{IdleClose: time.Millisecond, IdleReply: "421 4.4.2 idle"})
	c := dial(t, m)
	c.say(`
		< 220
		> EHLO client.example
		< 250
		> MAIL FROM:<a@example.com>
		< 250
		> RCPT TO:<b@example.net>
		< 250
		> DATA
		< 354
		> .
		< 250
		< 421 4.4.2 idle`)
	if _, err := c.read(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// Garbage is answered or the connection closed, never more.
func TestMXSurvivesGarbage(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{Handshake: "version"})
	for _, garbage := range []string{
		"\x00\xff\r\n", "MAIL\r\nMAIL FROM:\r\nMAIL FROM:<\r\nMAIL FROM:<\"\\\r\n", "BDAT 99999999999999999999 LAST\r\n",
		"EHLO a\r\nBDAT -1\r\nBDAT\r\nBDAT 0 LAST X\r\n", "STARTTLS\r\n\x16\x03\x01\xff\xff", "STARTTLS\r\n\x16\x03",
		strings.Repeat("A", 1<<20) + "\r\n", "RCPT TO:<a@b>\r\nDATA\r\n.\r\n", "\r\n \r\n",
		"EHLO a\r\nMAIL FROM:<a> SIZE=x =y REQUIRETLS==\r\n",
	} {
		c := dial(t, m)
		c.say("< 220")
		_, _ = io.WriteString(c.conn, garbage)
		_ = c.raw.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c.r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%.40q: %v", garbage, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestMXCloseEndsEverything(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{Greeting: "stall"})
	c := dial(t, m)
	waitFor(t, func() bool { return m.Connections() == 1 })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.read(); err == nil {
		t.Error("the connection is still open")
	}
	if s := m.Sessions(); !s[0].Closed {
		t.Error("the session is not marked closed")
	}
	if err := m.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestNewMXs(t *testing.T) {
	t.Parallel()
	hosts, port, err := mailtest.NewMXs(3, mailtest.Behaviour{Greeting: "220 one"}, mailtest.Behaviour{Greeting: "220 two"})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for i, m := range hosts {
		defer m.Close()
		seen[m.IP()] = true
		if m.Port() != port {
			t.Errorf("port %d, want %d", m.Port(), port)
		}
		dial(t, m).say([]string{"< 220 one", "< 220 two", "< 220 two"}[i])
	}
	if len(seen) != 3 {
		t.Errorf("addresses: %v", seen)
	}
	if _, _, err := mailtest.NewMXs(0); err == nil {
		t.Error("no hosts at all are accepted")
	}
	free, err := mailtest.FreePort("127.0.0.1")
	if err != nil || free == 0 {
		t.Errorf("FreePort: %d, %v", free, err)
	}
}

// waitFor polls a condition of the host's own record.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

// A delay ends with the host.
func TestMXCloseEndsDelay(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{Delay: time.Hour})
	dial(t, m)
	waitFor(t, func() bool { return m.Connections() == 1 })
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
