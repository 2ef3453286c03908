package tests

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// startDirect starts a process with the target right behind an SMTP and an LMTP
// endpoint, and destinations of which each has its own way of answering.
func startDirect(t *testing.T) *server {
	t.Helper()
	s := newServer(t, mailtest.Behaviour{},
		answering("rcpt", "450 4.2.0 later"), answering("rcpt", "550 5.1.1 nobody"), answering("greeting", "eof"))
	for i, name := range []string{"takes.example", "later.example", "never.example", "gone.example"} {
		s.dns.MX(name, 10, host(i))
	}
	s.config(blocks{endpoints: `smtp tcp://{ip}:{smtp} {
    hostname relay.example.com
    tls off
    modify {
        replace_rcpt static {
            entry alias@takes.example postmaster
        }
    }
    deliver_to &outbound
}
lmtp tcp://{ip}:{smtp2} {
    hostname relay.example.com
    deliver_to &outbound
}`})
	s.start()
	return s
}

// results is the status of each document, by recipient. A recipient has one.
func results(t *testing.T, docs []document) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, d := range docs {
		to := fmt.Sprint(d["recipient"])
		if found[to] != "" {
			t.Errorf("two documents for %s", to)
		}
		found[to] = d.status()
	}
	return found
}

// TestOneStatusForAll: a client that can hear only one status for all recipients
// hears the worst, where a temporary failure is worse than a permanent one: a
// message that comes twice is better than one that never comes.
func TestOneStatusForAll(t *testing.T) {
	t.Parallel()
	s := startDirect(t)
	known := 0
	for _, tt := range []struct {
		to   []string
		want int
		text string
		docs []string
	}{
		{[]string{"b@takes.example", "c@takes.example"}, 250, "", []string{"delivered 250", "delivered 250"}},
		{[]string{"b@later.example"}, 450, "later", []string{"failed temporary 450 rcpt-rejected"}},
		{[]string{"b@never.example"}, 550, "nobody", []string{"failed permanent 550 rcpt-rejected"}},
		{[]string{"b@takes.example", "b@later.example"}, 450, "later; another attempt may result in duplicates",
			[]string{"delivered 250", "failed temporary 450 rcpt-rejected"}},
		{[]string{"b@takes.example", "b@never.example"}, 550, "1 of 2 recipients",
			[]string{"delivered 250", "failed permanent 550 rcpt-rejected"}},
		{[]string{"b@never.example", "b@gone.example"}, 451, "2 of 2 recipients",
			[]string{"failed permanent 550 rcpt-rejected", "failed temporary 451 connection-lost"}},
		{[]string{"b@never.example", "c@never.example"}, 550, "2 of 2 recipients",
			[]string{"failed permanent 550 rcpt-rejected", "failed permanent 550 rcpt-rejected"}},
	} {
		err := s.submit(mail{to: tt.to, anonymous: true, port: "2525"})
		if code := smtpCode(t, err); code != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%v: the client heard %v, want %d %q", tt.to, err, tt.want, tt.text)
		}
		docs := s.documents(known + len(tt.to))[known:]
		known += len(docs)
		got := results(t, docs)
		for i, to := range tt.to {
			if got[to] != tt.docs[i] || len(docs) != len(tt.to) {
				t.Errorf("%v: documents %v", tt.to, got)
			}
		}
	}
	if n := len(s.mx[0].Messages()); n != 3 {
		t.Errorf("%d messages arrived, want 3", n)
	}
}

// TestOneStatusEach: over LMTP each recipient hears its own status.
func TestOneStatusEach(t *testing.T) {
	t.Parallel()
	s := startDirect(t)
	nc, err := net.Dial("tcp", net.JoinHostPort(s.ip, "2526"))
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(hang))
	c := smtp.NewClientLMTP(nc)
	defer c.Close()
	want := map[string]string{
		"b@takes.example": "250 delivered 250",
		"c@takes.example": "250 delivered 250",
		"b@later.example": "450 failed temporary 450 rcpt-rejected",
		"b@never.example": "550 failed permanent 550 rcpt-rejected",
		"b@gone.example":  "451 failed temporary 451 connection-lost",
	}
	if err := c.Mail("a@example.com", nil); err != nil {
		t.Fatal(err)
	}
	for to := range want {
		if err := c.Rcpt(to, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := make(map[string]string)
	w, err := c.LMTPData(func(to string, status *smtp.SMTPError) {
		var err error
		if status != nil {
			err = status
		}
		got[to] = fmt.Sprint(smtpCode(t, err))
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "Subject: a secret\r\n\r\na secret body\r\n")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	for to, status := range results(t, s.documents(len(want))) {
		got[to] += " " + status
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if m := s.mx[0].Messages(); len(m) != 1 || len(m[0].Recipients) != 2 {
		t.Errorf("arrived %+v", m)
	}
}

// TestRefusedAtRCPT: what can never be delivered is refused when it is named,
// has its document, and leaves the other recipients alone.
func TestRefusedAtRCPT(t *testing.T) {
	t.Parallel()
	s := startDirect(t)
	nc, err := net.Dial("tcp", net.JoinHostPort(s.ip, "2525"))
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(hang))
	c := smtp.NewClient(nc)
	defer c.Close()
	if err := c.Mail("a@example.com", nil); err != nil {
		t.Fatal(err)
	}
	// maddy itself refuses <postmaster> in RCPT, but an alias may stand for it.
	for i, tt := range []struct{ to, recipient string }{
		{"alias@takes.example", "postmaster"},
		{"b@[127.0.0.1]", "b@[127.0.0.1]"},
		{"b@[IPv6:::1]", "b@[IPv6:::1]"},
	} {
		var se *smtp.SMTPError
		if err := c.Rcpt(tt.to, nil); !errors.As(err, &se) || se.Code != 550 || se.EnhancedCode[0] != 5 {
			t.Errorf("RCPT TO:<%s>: %v", tt.to, err)
		}
		d := s.lastDocument(i + 1)
		if !strings.EqualFold(fmt.Sprint(d["recipient"]), tt.recipient) || d.status() != "failed permanent 550 rcpt-rejected" {
			t.Errorf("document %v", d)
		}
	}
	if err := c.Rcpt("b@takes.example", nil); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "Subject: a secret\r\n\r\na secret body\r\n")
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if docs := s.documents(4); len(docs) != 4 || docs[3].status() != "delivered 250" {
		t.Errorf("documents %v", docs)
	}
	if m := s.mx[0].Messages(); len(m) != 1 || !slices.Equal(m[0].Recipients, []string{"b@takes.example"}) {
		t.Errorf("arrived %+v", m)
	}
}
