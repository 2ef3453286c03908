package smtpwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// failing returns good, then an error or a panic.
type failing struct {
	good   io.Reader
	panics bool
	closed *bool
}

var errDisk = errors.New("disk on fire")

func (f failing) Read(b []byte) (int, error) {
	n, err := f.good.Read(b)
	if err == io.EOF {
		if f.panics {
			panic("reader gone mad")
		}
		err = errDisk
	}
	return n, err
}

func (f failing) Close() error { *f.closed = true; return nil }

// A message that cannot be read to its end is never completed.
func TestContentFails(t *testing.T) {
	t.Parallel()
	const half = 400 << 10
	for name, ext := range map[string][]string{
		"DATA": {"PIPELINING"}, "BDAT": {"PIPELINING", "CHUNKING"},
	} {
		for _, panics := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				script := hello(ext...) + cMail + cRcptB
				if name == "DATA" {
					script += cData + sOK + sOK + "S: 354 go\n"
				} else {
					script += sOK + sOK
				}
				client, received, answered := recorded(t, script)
				c := open(t, client, patient())
				tx := transaction("b@example.net")
				tx.Size = 2 * half
				closed, counted := false, name == "DATA"
				tx.Content = func() (io.ReadCloser, error) {
					if !counted {
						counted = true
						return io.NopCloser(strings.NewReader(strings.Repeat("x", 2*half))), nil
					}
					// It fails after the envelope was answered: the client closes a
					// connection on which it has read everything, and what it sent stays.
					content := io.MultiReader(strings.NewReader(strings.Repeat("x", half/2)),
						gate(answered), strings.NewReader(strings.Repeat("x", half/2)))
					return failing{content, panics, &closed}, nil
				}
				r := c.Send(context.Background(), tx)
				e := failure(t, r.Recipients[0].Err, StageBody)
				want := errDisk
				if panics {
					want = ErrPanic
				}
				if !errors.Is(e, want) || !errors.Is(r.Err, want) || !e.Temporary() || r.Clean || !closed {
					t.Errorf("result %+v, content closed %v", r, closed)
				}
				got := <-received
				size, chunk := len(got)+1, got
				if name == "BDAT" {
					line, rest, _ := strings.Cut(got, "\r\n")
					chunk = rest
					if _, err := fmt.Sscanf(line, "BDAT %d LAST", &size); err != nil {
						t.Errorf("%q: %v", line, err)
					}
				}
				if len(chunk) >= size || strings.Contains(got, "\r\n.\r\n") {
					t.Error("the message was completed")
				}
				if !strings.Contains(got, "xxx") {
					t.Error("the body did not begin")
				}
			})
		}
	}
}

// gate is a reader of nothing that waits until it is opened.
type gate <-chan struct{}

func (g gate) Read([]byte) (int, error) { <-g; return 0, io.EOF }

// recorded plays script, then collects all that the client sends until it hangs up.
func recorded(t *testing.T, script string) (nc *watchedConn, received <-chan string, played <-chan struct{}) {
	t.Helper()
	client, srv := pipe(t)
	ch, over := make(chan string, 1), make(chan struct{})
	s := newServer(t, srv)
	go func() {
		defer close(ch)
		for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
			if _, err := s.step(line); err != nil {
				t.Errorf("at %q: %v", line, err)
				return
			}
		}
		close(over)
		rest, _ := io.ReadAll(s.br)
		ch <- string(rest)
	}()
	return &watchedConn{Conn: client}, ch, over
}

// Content that fails before a byte of the transaction was sent costs no session.
func TestContentDoesNotOpen(t *testing.T) {
	t.Parallel()
	c := open(t, dialogue(t, hello("PIPELINING", "CHUNKING")+"C: RSET\n"+sOK), patient())
	tx := transaction("b@example.net")
	tx.Content = func() (io.ReadCloser, error) { return nil, errDisk }
	r := c.Send(context.Background(), tx)
	if e := failure(t, r.Recipients[0].Err, StageBody); !errors.Is(e, errDisk) || r.Err != nil || !r.Clean {
		t.Errorf("result %+v", r)
	}
	if err := c.Reset(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestContentIsOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ext    []string
		script string
		size   int64
		opened int
	}{
		"DATA":               {nil, cMail + sOK + cRcptB + sOK + cData + "S: 354 go\n" + dataMessage + sOK, 0, 1},
		"DATA refused":       {nil, cMail + sOK + cRcptB + sOK + cData + "S: 451 no\n", 0, 0},
		"BDAT":               {[]string{"CHUNKING"}, cMail + sOK + cRcptB + sOK + bdatMessage + sOK, 0, 1},
		"BDAT large refused": {[]string{"CHUNKING"}, cMail + sOK + cRcptB + "S: 550 no\n", 1 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, dialogue(t, hello(test.ext...)+test.script), patient())
			tx := transaction("b@example.net")
			tx.Size = test.size
			opened := 0
			content := tx.Content
			tx.Content = func() (io.ReadCloser, error) { opened++; return content() }
			c.Send(context.Background(), tx)
			if opened != test.opened {
				t.Errorf("opened %d times, want %d", opened, test.opened)
			}
		})
	}
}
