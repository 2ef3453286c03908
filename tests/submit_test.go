package tests

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mail is a message to be submitted.
type mail struct {
	from       string
	to         []string
	header     string // more header lines, each with \r\n
	body       string
	options    *smtp.MailOptions
	anonymous  bool   // without AUTH
	startTLS   bool   // with STARTTLS; the certificate is for relay.example.com
	port       string // of the endpoint; the default is the submission one
	rcptOption *smtp.RcptOptions
}

// submit sends m through an endpoint and returns its refusal, if any.
func (s *server) submit(m mail) error {
	s.Helper()
	if m.port == "" {
		m.port = "2587"
	}
	nc, err := net.Dial("tcp", net.JoinHostPort(s.ip, m.port))
	if err != nil {
		s.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(hang))
	c := smtp.NewClient(nc)
	if m.startTLS {
		c, err = smtp.NewClientStartTLS(nc, &tls.Config{ServerName: "relay.example.com", RootCAs: s.ca.Pool()})
		if err != nil {
			return err
		}
	}
	defer c.Close()
	if err := c.Hello("client.example.com"); err != nil {
		return err
	}
	if !m.anonymous {
		if err := c.Auth(sasl.NewPlainClient("", user, password)); err != nil {
			return err
		}
	}
	return transact(c, m)
}

// transact sends m over an open session.
func transact(c *smtp.Client, m mail) error {
	if m.from == "" {
		m.from = user
	}
	if m.from == "<>" {
		m.from = ""
	}
	if m.to == nil {
		m.to = []string{"b@example.net"}
	}
	if err := c.Mail(m.from, m.options); err != nil {
		return err
	}
	for _, to := range m.to {
		if err := c.Rcpt(to, m.rcptOption); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if m.body == "" {
		m.body = "a secret body\r\n"
	}
	fmt.Fprintf(w, "From: <%s>\r\nTo: <b@example.net>\r\nSubject: a secret\r\nMessage-Id: <x%d@example.com>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n%s\r\n%s",
		m.from, rand.Int64(), m.header, m.body)
	return w.Close()
}

// mustSubmit is submit for mail that must be accepted.
func (s *server) mustSubmit(m mail) {
	s.Helper()
	if err := s.submit(m); err != nil {
		s.Fatalf("not accepted: %v\n%s", err, s.stderr)
	}
}
