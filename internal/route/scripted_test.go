package route

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// clock stands in for the resolver's own.
type clock struct{ at atomic.Int64 }

func (c *clock) move(d time.Duration) { c.at.Add(int64(d)) }

// newClockedResolver returns a resolver whose time passes only as the test says.
func newClockedResolver(t testing.TB, servers ...string) (*Resolver, *clock) {
	t.Helper()
	r, c := newResolver(t, servers...), new(clock)
	r.now = func() time.Duration { return time.Duration(c.at.Load()) }
	return r, c
}

// scripted is a resolver that answers as a function says, over UDP alone.
type scripted struct {
	addr string
	mu   sync.Mutex
	from []string // where the questions came from, in order
}

// newScripted starts a resolver. answer is called for the nth question, from
// zero, also at the same time as for others; nil leaves it unanswered.
func newScripted(t testing.TB, answer func(n int, q *dns.Msg) *dns.Msg) *scripted {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: packets.LocalAddr().String()}
	serve(t, &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s.mu.Lock()
		n := len(s.from)
		s.from = append(s.from, w.RemoteAddr().String())
		s.mu.Unlock()
		if reply := answer(n, q); reply != nil {
			_ = w.WriteMsg(reply)
		}
	})})
	return s
}

// asked tells where the questions came from so far.
func (s *scripted) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.from...)
}

// newGate starts a resolver that answers with records, but not before open is
// called.
func newGate(t testing.TB, records ...string) (s *scripted, open func()) {
	t.Helper()
	gate := make(chan struct{})
	s = newScripted(t, func(_ int, q *dns.Msg) *dns.Msg {
		<-gate
		return replyWith(t, q, records, nil)
	})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	return s, open
}

// replyWith composes a reply to q.
func replyWith(t testing.TB, q *dns.Msg, records, authority []string) *dns.Msg {
	t.Helper()
	reply := new(dns.Msg).SetReply(q)
	for _, text := range records {
		reply.Answer = append(reply.Answer, record(t, text))
	}
	for _, text := range authority {
		reply.Ns = append(reply.Ns, record(t, text))
	}
	return reply
}

func record(t testing.TB, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Error(err)
	}
	return rr
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// serve runs a DNS server until the test ends.
func serve(t testing.TB, server *dns.Server) {
	t.Helper()
	started, done := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
}
