package route

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deadServer returns the address of a resolver that is down. Its port is taken for as
// long as the test lasts, by a socket that hears only from another one.
func deadServer(t *testing.T) string {
	t.Helper()
	loopback := net.IPv4(127, 0, 0, 1)
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: loopback}, &net.UDPAddr{IP: loopback, Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// The same reply counts or not depending on where the resolver is.
func TestAuthenticOnlyFromLoopback(t *testing.T) {
	t.Parallel()
	reply := new(dns.Msg)
	reply.AuthenticatedData = true
	for server, want := range map[string]bool{
		"127.0.0.1:53": true, "127.1.2.3:5353": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.1:53": false, "10.0.0.1:53": false, "[2001:db8::1]:53": false, "[fe80::1%lo]:53": false,
		"[::ffff:192.0.2.1]:53": false, "0.0.0.0:53": false, "localhost:53": false, "": false,
	} {
		if got := newAnswer(reply, server).authentic; got != want {
			t.Errorf("AD from %q: %v", server, got)
		}
	}
	reply.AuthenticatedData = false
	if newAnswer(reply, "127.0.0.1:53").authentic {
		t.Error("authentic without AD")
	}
}

func TestServersInTurn(t *testing.T) {
	t.Parallel()
	good, failing, dead := newDNS(t), newDNS(t), deadServer(t)
	good.MX("example.net", 10, "mx.example.net")
	failing.Fail("example.net", dns.RcodeServerFailure)
	failing.Fail("other.example", dns.RcodeRefused)
	got, err := newResolver(t, dead, failing.Addr(), good.Addr()).Route(t.Context(), "example.net")
	if err != nil || len(got.Hosts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(good.Queries()); n != 1 {
		t.Errorf("the good server was asked %d times", n)
	}

	_, err = newResolver(t, dead).Route(t.Context(), "example.net")
	if e := wantKind(t, err, Temporary); e.Server != dead || e.Rcode != "" {
		t.Errorf("resolver down: %+v", e)
	}
	_, err = newResolver(t).Route(t.Context(), "example.net")
	wantKind(t, err, Temporary)
	_, err = newResolver(t, "not an address").Route(t.Context(), "example.net")
	wantKind(t, err, Temporary)
	if _, err = newResolver(t, failing.Addr()).Route(t.Context(), "other.example"); err == nil {
		t.Fatal("no error")
	}
	if queries := failing.Queries(); len(queries) != 3 {
		t.Errorf("a refusal is tried %d times, want two rounds", len(queries)-1)
	}
}

// A server that knows no EDNS0 is asked without.
func TestWithoutEDNS(t *testing.T) {
	t.Parallel()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		if q.IsEdns0() != nil {
			reply.Rcode, reply.Question = dns.RcodeFormatError, nil
		} else if rr, err := dns.NewRR("old.example. 60 IN MX 10 mx.old.example."); err == nil {
			reply.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(reply)
	})}
	serve(t, server)
	got, err := newResolver(t, packets.LocalAddr().String()).Route(t.Context(), "old.example")
	if err != nil || len(got.Hosts) != 1 || got.Hosts[0].Name != "mx.old.example" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Replies that do not belong to the question are not believed.
func TestForeignReplies(t *testing.T) {
	t.Parallel()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		name := q.Question[0].Name
		answer := func(owner string) *dns.Msg {
			reply := new(dns.Msg).SetReply(q)
			if rr, err := dns.NewRR(owner + " 60 IN MX 10 mx.evil.example."); err == nil {
				reply.Answer = []dns.RR{rr}
			}
			return reply
		}
		switch reply := answer(name); name {
		case "query.example.":
			reply.Response = false
			_ = w.WriteMsg(reply)
		case "question.example.":
			reply.Question[0].Name = "other.example."
			_ = w.WriteMsg(reply)
		case "id.example.":
			reply.Id++
			_ = w.WriteMsg(reply)
			_ = w.WriteMsg(answer(name))
		case "owner.example.":
			_ = w.WriteMsg(answer("other.example."))
		}
	})}
	serve(t, server)
	r := newResolver(t, packets.LocalAddr().String())
	for _, domain := range []string{"query.example", "question.example"} {
		_, err := r.Route(t.Context(), domain)
		if e := wantKind(t, err, Temporary); !strings.Contains(e.Error(), "malformed") {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if got, err := r.Route(t.Context(), "id.example"); err != nil || len(got.Hosts) != 1 {
		t.Errorf("the true reply behind a forged one: %+v, %v", got, err)
	}
	if got, err := r.Route(t.Context(), "owner.example"); err != nil || !got.Hosts[0].Implicit {
		t.Errorf("a record of another name: %+v, %v", got, err)
	}
}

func TestContextEndsLookup(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.Drop("silent.example")
	r := newResolver(t, d.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.Route(ctx, "silent.example")
	if wantKind(t, err, Temporary); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := r.Addresses(ctx, "silent.example", false)
		done <- err
	}()
	for len(d.Queries()) < 3 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	err = <-done
	if wantKind(t, err, Temporary); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := r.Route(ctx, "example.net"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}
