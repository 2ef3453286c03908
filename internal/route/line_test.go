package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Questions to a resolver on loopback share a socket, each with its own answer,
// and the socket is given up when nothing is asked any more.
func TestLineIsShared(t *testing.T) {
	t.Parallel()
	const questions = 200
	s := newScripted(t, func(_ int, q *dns.Msg) *dns.Msg {
		return replyWith(t, q, []string{q.Question[0].Name + " 60 IN MX 10 mx." + q.Question[0].Name}, nil)
	})
	r := newResolver(t, s.addr)
	r.lines[0].idle = time.Millisecond
	var all sync.WaitGroup
	for i := range questions {
		all.Go(func() {
			domain := fmt.Sprintf("d%d.example", i)
			got, err := r.Route(t.Context(), domain)
			if err != nil || len(got.Hosts) != 1 || got.Hosts[0].Name != "mx."+domain {
				t.Errorf("%s: %+v, %v", domain, got, err)
			}
		})
	}
	all.Wait()
	ports := make(map[string]bool)
	for _, from := range s.asked() {
		ports[from] = true
	}
	// The idle time is so short that a socket may be given up in between.
	if len(s.asked()) < questions || len(ports) > questions/4 {
		t.Errorf("%d questions from %d ports", len(s.asked()), len(ports))
	}
	eventually(t, "the socket is closed", func() bool {
		l := r.lines[0]
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.conn == nil
	})
	if _, err := r.Route(t.Context(), "later.example"); err != nil {
		t.Errorf("after it was closed: %v", err)
	}
}

// Whatever comes over the line, nobody gets an answer to another question, and
// nonsense hurts only the one who asked.
func TestLineHearsNonsense(t *testing.T) {
	t.Parallel()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	t.Cleanup(done.Wait)
	t.Cleanup(func() { _ = server.Close() })
	done.Go(func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(packet[:n]); err != nil {
				t.Error(err)
				return
			}
			send := func(b []byte) { _, _ = server.WriteTo(b, from) }
			send(nil)
			send([]byte{1})
			reply := new(dns.Msg).SetReply(q)
			if q.Question[0].Name == "cut.example." {
				send(packet[:5])
				continue
			}
			reply.Id++
			if b, err := reply.Pack(); err == nil {
				send(b) // nobody's
			}
			reply.Id--
			if b, err := reply.Pack(); err == nil {
				send(b)
				send(b)
			}
		}
	})
	r := newResolver(t, server.LocalAddr().String())
	l := r.lines[0]
	exchange := func(name string) error {
		_, err := l.exchange(t.Context(), new(dns.Msg).SetQuestion(name, dns.TypeMX))
		return err
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := exchange("good.example."); err != nil {
				t.Errorf("good: %v", err)
			}
		})
		all.Go(func() {
			if err := exchange("cut.example."); err == nil {
				t.Error("a reply of five octets was taken")
			}
		})
	}
	all.Wait()
}

// A line that is full sends others elsewhere; one that is closed ends the wait.
func TestLineIsBounded(t *testing.T) {
	t.Parallel()
	silent := newScripted(t, func(int, *dns.Msg) *dns.Msg { return nil })
	r := newResolver(t, silent.addr)
	l := r.lines[0]
	waiting, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for range maxAsked {
		all.Go(func() {
			_, err := l.exchange(waiting, new(dns.Msg).SetQuestion("example.net.", dns.TypeMX))
			// Or the time for one answer is over before all have asked.
			if !errors.Is(err, errClosed) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ended with %v", err)
			}
		})
	}
	eventually(t, "all have asked", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.asked) == maxAsked
	})
	if _, err := l.exchange(waiting, new(dns.Msg).SetQuestion("example.net.", dns.TypeMX)); err != errBusy {
		t.Errorf("one too many: %v", err)
	}
	r.Close()
	all.Wait()
	if _, err := l.exchange(waiting, new(dns.Msg).SetQuestion("example.net.", dns.TypeMX)); err != errClosed {
		t.Errorf("after it was closed: %v", err)
	}
}

// Whoever leaves after the socket was given up takes no ID from those who ask over
// the next one.
func TestLineForgetsItsOwn(t *testing.T) {
	t.Parallel()
	silent := newScripted(t, func(int, *dns.Msg) *dns.Msg { return nil })
	r := newResolver(t, silent.addr)
	l := r.lines[0]
	query, gone, waits := new(dns.Msg), make(chan heard, 1), make(chan heard, 1)
	if _, err := l.enter(query, gone); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.asked = map[uint16]chan<- heard{query.Id: waits} // IDs are chosen at random
	l.mu.Unlock()
	l.leave(query.Id, gone)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked[query.Id] != waits {
		t.Error("the question of another was forgotten")
	}
}
