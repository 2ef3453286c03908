package smtpwire

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// go-smtp's server does not discard a chunk that it refuses for lack of
// recipients, but takes it for commands.

// A message that would lead such a server on is sent only once a recipient is
// accepted; here nobody gets it, and nobody gets what it smuggles.
func TestPeerIsNotLedOn(t *testing.T) {
	t.Parallel()
	smuggled := "MAIL FROM:<x@example.org>\nRCPT TO:<y@example.org>\nDATA\nSubject: smuggled\n\nhi\n.\n"
	for name, body := range map[string]string{
		"lines":     smuggled,
		"lone CR":   strings.ReplaceAll(smuggled, "\n", "\r"),
		"same mail": "RCPT TO:<y@example.org>\nDATA\nSubject: smuggled\n\nhi\n.\n",
		"lowercase": strings.ToLower(smuggled),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			box, dial := peer(t)
			nc := &watchedConn{Conn: dial()}
			c := open(t, nc, patient())
			tx := transaction("bad@example.net")
			tx.Content = message([]byte(body))
			r := c.Send(ctx, tx)
			if diff := cmp.Diff([]string{"rcpt: 550 5.1.1 no such user"}, fates(r)); diff != "" || r.Err != nil {
				t.Fatal(diff, r.Err)
			}
			for _, w := range nc.written() {
				if strings.Contains(w, "BDAT") {
					t.Errorf("sent %q", w)
				}
			}
			// The session is in step and goes on.
			if err := c.Reset(ctx); err != nil {
				t.Fatal(err)
			}
			tx = transaction("b@example.net")
			tx.Content = message([]byte(body))
			if r := c.Send(ctx, tx); r.Recipients[0].Err != nil {
				t.Fatal(r.Recipients[0].Err)
			}
			if got := box.take(); len(got) != 1 || got[0].to[0] != "b@example.net" {
				t.Errorf("arrived: %+v", got)
			}
		})
	}
}

// Replies that such a server makes of the text of a message are never taken for
// the replies to the next one: the session ends with the refusal.
func TestPeerOutOfStep(t *testing.T) {
	t.Parallel()
	for range 20 {
		ctx := context.Background()
		box, dial := peer(t)
		c := open(t, dial(), patient())
		tx := transaction("bad@example.net")
		tx.Content = message(bytes.Repeat([]byte("NOOP\r\n"), 50))
		r := c.Send(ctx, tx)
		if diff := cmp.Diff([]string{"rcpt: 550 5.1.1 no such user"}, fates(r)); diff != "" || r.Clean || r.Err != nil {
			t.Fatal(diff, r.Clean, r.Err)
		}
		if err := c.Reset(ctx); err == nil {
			t.Fatal("a session out of step passed for clean")
		}
		if r := c.Send(ctx, transaction("b@example.net")); r.Err == nil || r.Recipients[0].Err == nil || len(box.take()) > 0 {
			t.Fatalf("result %+v", r)
		}
	}
}

func TestNamesRecipient(t *testing.T) {
	t.Parallel()
	for prefix := range 9 {
		for _, suffix := range []int{0, 1, 2, 3, 4, 7} {
			around := func(s string) []byte {
				return []byte(strings.Repeat("r", prefix) + s + strings.Repeat("t", suffix))
			}
			for _, word := range []string{"RCPT", "rcpt", "rCpT"} {
				if !namesRecipient(around(word)) {
					t.Errorf("not found in %q", around(word))
				}
			}
			for _, word := range []string{"", "RCP", "CPT", "R CPT", "rcqt"} {
				text := around(word)
				if want := bytes.Contains(bytes.ToUpper(text), []byte("RCPT")); namesRecipient(text) != want {
					t.Errorf("%q: %v", text, !want)
				}
			}
		}
	}
}

func FuzzNamesRecipient(f *testing.F) {
	f.Add([]byte("Subject: hi\r\n\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\n"))
	f.Add([]byte("rrcpt"))
	f.Add([]byte("rcp\x14"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(bytes.ToUpper(b), []byte("RCPT")) && !namesRecipient(b) {
			t.Errorf("not found in %q", b)
		}
	})
}

func BenchmarkNamesRecipient(b *testing.B) {
	text := bytes.Repeat([]byte("Lorem ipsum dolor sit amet, consectetur adipiscing elit.\r\n"), 70)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if namesRecipient(text) {
			b.Fatal("found")
		}
	}
}
