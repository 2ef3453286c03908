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

func TestFirstRCPT(t *testing.T) {
	t.Parallel()
	for prefix := range 9 {
		for _, suffix := range []int{0, 1, 2, 3, 4, 7} {
			for _, word := range []string{"RCPT", "rcpt", "rCpT", "", "RCP", "CPT", "R CPT", "rcqt"} {
				text := strings.Repeat("r", prefix) + word + strings.Repeat("t", suffix)
				if got, want := firstRCPT([]byte(text)), strings.Index(strings.ToUpper(text), "RCPT"); got != want {
					t.Errorf("%q: %d, want %d", text, got, want)
				}
			}
		}
	}
}

func TestNamesRecipient(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"RCPT TO:<a@example.net>":            true,
		"Subject: x\r\nrcpt to:a@b\r\n":      true,
		"RCPT\tTO:<a@b>":                     true,
		"RCPTTO:<a@b>\n":                     true,
		"xxRCPTxx <a@b>":                     true,
		"RCPT":                               false,
		"RCPT\r\nTO:<a@b>\r\n":               false,
		"aGVsbG8gd29ybGQRCPTaGVsbG8=\r\nx y": false,
		"rCpT+/=\nfor all to see":            false,
		"RCPT\x00":                           true,
		"rcptrcpt\u00a0":                     true,
	} {
		if got := namesRecipient([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// mayNameRecipient is what scanner finds, found the slow way.
func mayNameRecipient(text string) bool {
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\r' || r == '\n' }) {
		at := bytes.Index(bytes.ToUpper([]byte(line)), []byte("RCPT"))
		if at >= 0 && strings.Trim(line[at:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=") != "" {
			return true
		}
	}
	return false
}

func FuzzNamesRecipient(f *testing.F) {
	f.Add([]byte("Subject: hi\r\n\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.net>\r\n"), 7)
	f.Add([]byte("rrcpt"), 2)
	f.Add([]byte("rcp\x14"), 1)
	f.Add([]byte("rcptAAAA=\nrcptAA a"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		// Letters outside ASCII change their length in upper case.
		for i := range b {
			if b[i] >= 0x80 {
				b[i] = 0x80
			}
		}
		want := mayNameRecipient(strings.ReplaceAll(string(b), "\x80", "\x7f"))
		if got := namesRecipient(b); got != want {
			t.Errorf("%q: %v", b, got)
		}
		var s scanner
		for rest, n := b, max(cut%17, 1); len(rest) > 0; {
			n = min(n, len(rest))
			s.add(rest[:n])
			rest = rest[n:]
		}
		if s.found != want {
			t.Errorf("%q in blocks: %v", b, s.found)
		}
	})
}

// A text that is nothing but the word costs no more than another.
func BenchmarkNamesRecipient(b *testing.B) {
	for _, line := range []string{"Lorem ipsum dolor sit amet, consectetur adipiscing elit.\r\n", "RCPT"} {
		b.Run(line[:4], func(b *testing.B) {
			text := bytes.Repeat([]byte(line), 64<<10/len(line))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if namesRecipient(text) {
					b.Fatal("found")
				}
			}
		})
	}
}
