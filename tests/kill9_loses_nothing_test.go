package tests

import (
	"bufio"
	"bytes"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// messageIDs is the set of Message-Id fields of what arrived at a host.
func messageIDs(m *mailtest.MX) map[string]bool {
	ids := make(map[string]bool)
	for _, message := range m.Messages() {
		header, _ := textproto.NewReader(bufio.NewReader(bytes.NewReader(message.Data))).ReadMIMEHeader()
		ids[header.Get("Message-Id")] = true
	}
	return ids
}

// TestKill9LosesNothing: two hundred messages are accepted; the process is killed
// while it delivers them; the next one delivers what is left. Some may come
// twice, none is lost.
func TestKill9LosesNothing(t *testing.T) {
	t.Parallel()
	const n = 200
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b := certificate(t, ca, mailtest.Good, host(0))
	slow := b
	slow.Delay = 250 * time.Millisecond
	s := newServerCA(t, ca, slow)
	s.config(blocks{policy: "require_tls yes", queue: "max_parallelism 10"})
	s.start()
	var senders sync.WaitGroup
	var accepted atomic.Int64
	for range 10 {
		senders.Go(func() {
			for range n / 10 {
				if err := s.submit(mail{}); err != nil {
					t.Error(err)
				}
				accepted.Add(1)
			}
		})
	}
	// A machine may be so busy that messages come in more slowly than they leave: then
	// the rest of them has to wait for the kill.
	s.eventually("all are accepted, or a quarter is delivered", func() bool { return accepted.Load() == n || s.mx[0].Delivered() >= n/4 })
	if accepted.Load() < n {
		held := b
		held.Replies = map[string]string{"body": "stall"}
		s.mx[0].Set(held)
	}
	senders.Wait()
	s.eventually("some are delivered", func() bool { return s.mx[0].Delivered() >= 20 })
	s.kill()
	// What was on the wire when the process died may still be booked.
	s.eventually("connections end", func() bool {
		for _, session := range s.mx[0].Sessions() {
			if !session.Closed {
				return false
			}
		}
		return true
	})
	if before := len(messageIDs(s.mx[0])); before >= n {
		t.Fatalf("all %d messages had arrived before the kill", before)
	}
	s.mx[0].Set(b)
	s.start()
	s.eventually("nothing is left in the queue", func() bool { return len(s.pending()) == 0 })
	if got := len(messageIDs(s.mx[0])); got != n {
		t.Errorf("%d of %d messages arrived", got, n)
	}
	s.neverInClear()
}

// killedBehind250 is a moment at which a process dies whose message a host has taken.
type killedBehind250 struct {
	name      string
	behaviour mailtest.Behaviour
	log       string
	// taken tells that the process is to be killed now.
	taken func(s *server) bool
	// tries is how many processes are killed to find one whose queue did not know
	// yet; 0 if either will do.
	tries int
}

// kill kills a server, and tells how many messages its queue has left.
func (tt killedBehind250) kill(t *testing.T) (s *server, left int) {
	t.Helper()
	s = newServer(t, tt.behaviour)
	if tt.log != "" {
		fullPipe(t, s.path("pipe"))
	}
	s.config(blocks{endpoints: twoDoors, log: tt.log})
	s.start()
	s.mustSubmit(mail{anonymous: true, port: atQueue})
	s.eventually("the message is taken", func() bool { return tt.taken(s) })
	s.kill()
	// A queue that knows of the delivery removes the header first and what pending
	// looks at last: it may have been killed in between.
	headers, err := filepath.Glob(s.path("state/remote_queue/*.header"))
	if err != nil {
		t.Fatal(err)
	}
	return s, len(headers)
}

// TestKill9BetweenReplyAndCommit: the host has taken the message, and the process
// dies before the queue knows: before the 250 came, or right behind it. The
// message comes again, rather than never.
func TestKill9BetweenReplyAndCommit(t *testing.T) {
	t.Parallel()
	delivered := func(s *server) bool { return s.mx[0].Delivered() == 1 }
	for _, tt := range []killedBehind250{
		{"250 on its way", answering("body", "ok-stall"), "", delivered, 1},
		{"connection reset behind the 250", answering("body", "ok-reset"), "", delivered, 0},
		// The document goes to all outputs, and the queue is told when they have it:
		// one that is full holds that up for a second, in which the other one tells that
		// the 250 was read. On a busy machine the kill may come later than that.
		{"250 read", mailtest.Behaviour{}, "output file {dir}/pipe", func(s *server) bool {
			return len(wholeLines(s.T, s.path("deliveries.jsonl"))) == 1
		}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, left := tt.kill(t)
			for try := 1; left != 1 && try < tt.tries; try++ {
				s, left = tt.kill(t)
			}
			if left != 1 && tt.tries > 0 {
				t.Fatal("the queue knew already")
			}
			s.mx[0].Set(mailtest.Behaviour{})
			s.config(blocks{endpoints: twoDoors})
			s.start()
			s.eventually("nothing is left in the queue", func() bool { return len(s.pending()) == 0 })
			if got := len(s.mx[0].Messages()); got != 1+left || len(messageIDs(s.mx[0])) != 1 {
				t.Errorf("the message arrived %d times, want %d", got, 1+left)
			}
			for _, d := range s.documents(left) {
				if d.status() != "delivered 250" {
					t.Errorf("document %v", d)
				}
			}
		})
	}
}

// fullPipe makes a named pipe that takes not one octet more, as long as the test
// runs.
func fullPipe(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("SKIPPED: no named pipes here: %v", err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pipe.Close() })
	raw, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{64 << 10, 1} {
		if err := raw.Control(func(fd uintptr) {
			for block := make([]byte, size); ; {
				if _, err := syscall.Write(int(fd), block); err != nil {
					return
				}
			}
		}); err != nil {
			t.Fatal(fmt.Errorf("filling %s: %w", path, err))
		}
	}
}
