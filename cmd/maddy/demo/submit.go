package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mail is the message of a row.
type mail struct {
	id, from, to string
	secret       string // a word of the body, to look for on the wire
	text         string
}

// newMail writes the message of a row.
func newMail(h host, sc scene) mail {
	m := mail{
		id:     rand.Text() + "@" + sc.from,
		from:   "alice@" + sc.from,
		to:     "bob@" + h.domain(),
		secret: "secret-" + rand.Text(),
	}
	field := ""
	if sc.field != "" {
		field = sc.field + "\r\n"
	}
	m.text = fmt.Sprintf("Message-ID: <%s>\r\nDate: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: %s\r\n%s\r\n%s\r\n",
		m.id, time.Now().Format("Mon, 02 Jan 2006 15:04:05 -0700"), m.from, m.to, sc.title(), field, m.secret)
	return m
}

// title is the row in one line.
func (sc scene) title() string {
	if sc.field == "" {
		return sc.label
	}
	return sc.label + " + " + sc.field
}

// submitter is an open session with the submission endpoint.
type submitter struct {
	*smtp.Client
	release func() bool
}

// dialSubmission opens the session, which the end of ctx breaks.
func dialSubmission(ctx context.Context, addr string) (*submitter, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &submitter{Client: smtp.NewClient(conn)}
	s.release = context.AfterFunc(ctx, func() { conn.Close() })
	if err := s.Auth(sasl.NewPlainClient("", user, password)); err != nil {
		return nil, errors.Join(fmt.Errorf("submission: %w", err), s.Close())
	}
	return s, nil
}

// Close ends the session.
func (s *submitter) Close() error {
	s.release()
	return s.Client.Close()
}

// send submits m and returns the refusal, "" if there is none. An error means that the session is broken.
func (s *submitter) send(m mail) (refusal string, err error) {
	err = s.SendMail(m.from, []string{m.to}, strings.NewReader(m.text))
	if reply := (*smtp.SMTPError)(nil); errors.As(err, &reply) {
		code := reply.EnhancedCode
		return fmt.Sprintf("%d %d.%d.%d %s", reply.Code, code[0], code[1], code[2], reply.Message), s.Reset()
	}
	if err != nil {
		err = fmt.Errorf("submission: %w", err)
	}
	return "", err
}
