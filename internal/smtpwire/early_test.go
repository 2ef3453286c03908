package smtpwire

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// earlyText is a large message that names no recipient, though it has the letters.
var earlyText = bytes.Repeat([]byte("aGVsbG8gd29ybGQRCPTaGVsbG8gd29ybGQaGVsbG8gd29ybGQ=\r\n"), 8<<10)

// openFar opens a session with a server that is far away.
func openFar(t *testing.T, nc net.Conn) *Conn {
	c := open(t, nc, patient())
	c.roundTrip = time.Second
	return c
}

// earlyServer reads MAIL and RCPT, and what follows them as act says.
func earlyServer(t *testing.T, act func(s *server) error) (net.Conn, <-chan error) {
	t.Helper()
	client, nc := pipe(t)
	s := newServer(t, nc)
	done := make(chan error, 1)
	go func() {
		if _, err := s.script(hello("PIPELINING", "CHUNKING") + cMail + cRcptB); err != nil {
			done <- err
			return
		}
		done <- act(s)
	}()
	return client, done
}

// A large message follows its envelope at once: a server that says nothing until
// it has all of it gets all of it.
func TestEarlyInOneFlight(t *testing.T) {
	t.Parallel()
	var got []byte
	client, done := earlyServer(t, func(s *server) (err error) {
		got, err = takeChunk(s, "250 ok\r\n250 ok\r\n250 taken")
		return err
	})
	tx := transaction("b@example.net")
	tx.Content = message(earlyText)
	r := openFar(t, client).Send(context.Background(), tx)
	if diff := cmp.Diff([]string{"ok"}, fates(r)); diff != "" || !r.Clean || r.Final.Text != "taken" {
		t.Errorf("%s %+v", diff, r)
	}
	if err := <-done; err != nil || !bytes.Equal(got, append(tx.Header[:len(tx.Header):len(tx.Header)], earlyText...)) {
		t.Errorf("%d octets arrived, or others than were sent: %v", len(got), err)
	}
}

// As soon as it is known that nobody wants a message no more of it is sent, and
// the session is over.
func TestEarlyRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ replies, want string }{
		"recipient": {"250 ok\r\n550 5.1.1 no such user\r\n", "rcpt: 550 5.1.1 no such user"},
		"sender":    {"550 5.7.1 not you\r\n503 who\r\n", "mail: 550 5.7.1 not you"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answered := make(chan struct{})
			var rest []byte
			client, done := earlyServer(t, func(s *server) (err error) {
				_, err = io.WriteString(s.nc, test.replies)
				close(answered)
				if err == nil {
					rest, err = io.ReadAll(s.br)
				}
				return err
			})
			tx := transaction("b@example.net")
			tx.Size = int64(len(earlyText)) // so it is opened twice
			opened := 0
			tx.Content = func() (io.ReadCloser, error) {
				if opened++; opened == 1 {
					return message(earlyText)()
				}
				half := len(earlyText) / 2
				return io.NopCloser(io.MultiReader(bytes.NewReader(earlyText[:half]), gate(answered), bytes.NewReader(earlyText[half:]))), nil
			}
			c := openFar(t, client)
			r := c.Send(context.Background(), tx)
			if diff := cmp.Diff([]string{test.want}, fates(r)); diff != "" || r.Clean || r.Written || !r.Replied {
				t.Errorf("%s %+v", diff, r)
			}
			if c.Reset(context.Background()) == nil {
				t.Error("the session goes on in the middle of a chunk")
			}
			if err := <-done; err != nil || len(rest) >= len(earlyText) {
				t.Errorf("%d octets were sent, %v", len(rest), err)
			}
		})
	}
}

// A message that could be taken for commands waits for the envelope's replies, and
// so does one whose envelope has to go first.
func TestNotEarly(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Transaction){
		"text": func(tx *Transaction) {
			tx.Content = message(append([]byte("rcpt to:<x@example.net>\r\n"), earlyText...))
		},
		"envelope first": func(tx *Transaction) { tx.EnvelopeFirst = true },
		"too large":      func(tx *Transaction) { tx.Size = maxEarly + 1 },
		"near":           nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, nc := pipe(t)
			s := newServer(t, nc)
			done := make(chan error, 1)
			go func() {
				_, err := s.script(hello("PIPELINING", "CHUNKING") + cMail + cRcptB + quiet + "S: 250 ok\n" + "S: 550 no\n" + "C: RSET\n" + sOK)
				done <- err
			}()
			tx := transaction("b@example.net")
			tx.Content = message(earlyText)
			c := openFar(t, client)
			if change != nil {
				change(tx)
			} else {
				c.roundTrip = time.Microsecond
			}
			if diff := cmp.Diff([]string{"rcpt: 550 no"}, fates(c.Send(context.Background(), tx))); diff != "" {
				t.Error(diff)
			}
			if err := c.Reset(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// Replies may come at any moment of the flight; none is lost or taken for another.
func TestEarlyRepliesInBetween(t *testing.T) {
	t.Parallel()
	for _, after := range []int{0, 1, 1 << 10, 100 << 10, 400 << 10} {
		t.Logf("after %d octets", after)
		client, done := earlyServer(t, func(s *server) error {
			line, err := s.br.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "BDAT ") {
				return err
			}
			size := 0
			for _, digit := range strings.TrimSuffix(strings.TrimPrefix(line, "BDAT "), " LAST\r\n") {
				size = size*10 + int(digit-'0')
			}
			if _, err := s.br.Discard(after); err != nil {
				return err
			}
			if _, err := io.WriteString(s.nc, "250 ok\r\n250"); err != nil {
				return err
			}
			if _, err := s.br.Discard((size - after) / 2); err != nil {
				return err
			}
			if _, err := io.WriteString(s.nc, " ok\r\n"); err != nil {
				return err
			}
			if _, err := s.br.Discard(size - after - (size-after)/2); err != nil {
				return err
			}
			_, err = io.WriteString(s.nc, "250 taken\r\n")
			return err
		})
		tx := transaction("b@example.net")
		tx.Content = message(earlyText)
		r := openFar(t, client).Send(context.Background(), tx)
		if diff := cmp.Diff([]string{"ok"}, fates(r)); diff != "" || !r.Clean || r.Final.Text != "taken" {
			t.Errorf("after %d octets: %s %+v", after, diff, r)
		}
		if err := <-done; err != nil {
			t.Errorf("after %d octets: %v", after, err)
		}
	}
}
