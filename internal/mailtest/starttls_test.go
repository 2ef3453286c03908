package mailtest_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

func TestMXHandshakeFaults(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	for mode, fits := range map[string]func(error) bool{
		"eof":     func(err error) bool { return errors.Is(err, io.EOF) },
		"garbage": func(err error) bool { var e tls.RecordHeaderError; return errors.As(err, &e) },
		"alert":   func(err error) bool { return strings.Contains(err.Error(), "handshake failure") },
		"version": func(err error) bool { return strings.Contains(err.Error(), "protocol version") },
		"cipher":  func(err error) bool { return strings.Contains(err.Error(), "handshake failure") },
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMX(t, mailtest.Behaviour{Certificate: &cert, Handshake: mode})
			c := dial(t, m)
			c.say("< 220\n> STARTTLS\n< 220")
			if err := c.startTLS(&tls.Config{ServerName: host}); err == nil || !fits(err) {
				t.Errorf("handshake: %v %T", err, err)
			}
			c.raw.Close()
			m.Close()
			if s := m.Sessions()[0]; s.HandshakeErr == nil || s.TLS || s.Handshakes != 1 || string(s.ClearBytes) != "STARTTLS\r\n" {
				t.Errorf("session: %+v", s)
			}
		})
	}
	for _, mode := range []string{"alert-after", "eof-after"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMX(t, mailtest.Behaviour{Certificate: &cert, Handshake: mode})
			c := dial(t, m)
			c.say("< 220\n> STARTTLS\n< 220")
			if err := c.startTLS(&tls.Config{ServerName: host}); err != nil {
				t.Fatalf("the handshake itself failed: %v", err)
			}
			_, err := c.read()
			if err == nil || (mode == "alert-after") != strings.Contains(err.Error(), "bad certificate") {
				t.Errorf("first read: %v", err)
			}
		})
	}
	t.Run("stall", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{Handshake: "stall"})
		c := dial(t, m)
		c.say("< 220\n> STARTTLS\n< 220")
		_ = c.raw.SetDeadline(time.Now().Add(50 * time.Millisecond))
		var timeout net.Error
		if err := c.startTLS(&tls.Config{}); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("handshake: %v", err)
		}
	})
	t.Run("inject", func(t *testing.T) {
		t.Parallel()
		m := newMX(t, mailtest.Behaviour{Certificate: &cert, Handshake: "inject"})
		c := dial(t, m)
		c.say("< 220\n> STARTTLS\n< 220\n< 250 2.0.0 injected")
		if err := c.startTLS(&tls.Config{}); err != nil {
			t.Error(err)
		}
	})
}

// What a client says in clear after a broken handshake is on record.
func TestMXCatchesClearText(t *testing.T) {
	t.Parallel()
	m := newMX(t, mailtest.Behaviour{Handshake: "stall"})
	c := dial(t, m)
	c.say("< 220\n> STARTTLS\n< 220")
	c.write("\x16\x03\x01\x00\x05hello\x15\x03\x03\x00\x02\x01")
	c.write("\x00\x16\x03MAIL FROM:<secret@example.com>\r\n")
	c.raw.(*net.TCPConn).CloseWrite()
	if _, err := c.read(); err == nil {
		t.Error("a stalled host answers")
	}
	want := "STARTTLS\r\n\x16\x03MAIL FROM:<secret@example.com>\r\n"
	if got := string(m.Sessions()[0].ClearBytes); got != want {
		t.Errorf("in clear: %q", got)
	}
}

func TestMXChoosesCertificateBySNI(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	named, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ca.Issue(mailtest.SelfSigned, "default.invalid")
	if err != nil {
		t.Fatal(err)
	}
	m := newMX(t, mailtest.Behaviour{Certificate: &named, NoSNICertificate: &other})
	for sni, want := range map[string]tls.Certificate{host: named, "": other, "else.example": other} {
		c := dial(t, m)
		c.say("< 220\n> STARTTLS\n< 220")
		if err := c.startTLS(&tls.Config{ServerName: sni}); err != nil {
			t.Fatal(err)
		}
		shown := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		if !shown.Equal(want.Leaf) {
			t.Errorf("SNI %q: %s is shown", sni, shown.Subject)
		}
	}
}

func TestMXResumesTLS(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	m := newMX(t, mailtest.Behaviour{Certificate: &cert})
	cache := tls.NewLRUClientSessionCache(1)
	for range 2 {
		c := dial(t, m)
		c.say("< 220\n> STARTTLS\n< 220")
		if err := c.startTLS(&tls.Config{ServerName: host, ClientSessionCache: cache}); err != nil {
			t.Fatal(err)
		}
		c.say("> QUIT\n< 221")
	}
	if s := m.Sessions(); s[0].Resumed || !s[1].Resumed {
		t.Errorf("resumed: %v, %v", s[0].Resumed, s[1].Resumed)
	}
}

func TestMXSTARTTLSReplies(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	m := newMX(t, mailtest.Behaviour{})
	c := dial(t, m)
	offered := func(want string) {
		t.Helper()
		c.write("EHLO a\r\n")
		reply, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		got := "none"
		for _, keyword := range []string{"STARTTLS", "starttls"} {
			if strings.Contains(reply, keyword) {
				got = keyword
			}
		}
		if got != want {
			t.Errorf("offered: %s, want %s", got, want)
		}
	}
	c.say("< 220")
	offered("none")
	c.say("> STARTTLS\n< 502")
	m.Set(mailtest.Behaviour{STARTTLSReply: "454 4.7.0 not now"})
	offered("STARTTLS")
	c.say("> STARTTLS\n< 454")
	m.Set(mailtest.Behaviour{Certificate: &cert, Replies: map[string]string{"starttls": "501 5.5.4 no"}, LowerCaseKeywords: true})
	offered("starttls")
	c.say("> STARTTLS\n< 501")
	m.Set(mailtest.Behaviour{
		Certificate: &cert, HideSTARTTLS: true, MinTLS: tls.VersionTLS12, MaxTLS: tls.VersionTLS12,
		Replies: map[string]string{"mail": "250 clear", "mail-tls": "450 tls"},
	})
	offered("none")
	c.say("> MAIL FROM:<a@example.com>\n< 250 clear\n> STARTTLS\n< 220")
	if err := c.startTLS(&tls.Config{}); err != nil {
		t.Fatal(err)
	}
	if v := c.conn.(*tls.Conn).ConnectionState().Version; v != tls.VersionTLS12 {
		t.Errorf("version %x", v)
	}
	offered("none")
	c.say("> MAIL FROM:<a@example.com>\n< 450 tls\n> STARTTLS\n< 502")
	if s := m.Sessions()[0]; s.Handshakes != 1 {
		t.Errorf("%d handshakes", s.Handshakes)
	}
}

func TestMXAsksForClientCertificate(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, host)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ca.Issue(mailtest.WrongUsage, "relay.example.com")
	if err != nil {
		t.Fatal(err)
	}
	m := newMX(t, mailtest.Behaviour{
		Certificate: &cert, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	})
	with, without := dial(t, m), dial(t, m)
	with.say("< 220\n> STARTTLS\n< 220")
	if err := with.startTLS(&tls.Config{Certificates: []tls.Certificate{mine}}); err != nil {
		t.Fatal(err)
	}
	with.say("> NOOP\n< 250")
	without.say("< 220\n> STARTTLS\n< 220")
	if err := without.startTLS(&tls.Config{}); err == nil {
		if _, err := without.read(); err == nil {
			t.Error("a client without certificate is served")
		}
	}
}
