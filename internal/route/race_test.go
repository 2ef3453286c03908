package route

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A silent server gets company after a moment, and comes last for a while.
func TestSilentServerIsOvertaken(t *testing.T) {
	t.Parallel()
	var asked sync.Map // names
	silent := newScripted(t, func(_ int, q *dns.Msg) *dns.Msg {
		asked.Store(q.Question[0].Name, true)
		return nil
	})
	good := newDNS(t)
	r, clock := newClockedResolver(t, silent.addr, good.Addr())
	for i, step := range []struct {
		after   time.Duration
		demoted bool
	}{
		{0, false},
		{0, true},
		{demotedFor - 1, true},
		{1, false}, // In its place again, and demoted again.
		{0, true},
	} {
		clock.move(step.after)
		if r.hedge = time.Millisecond; step.demoted {
			r.hedge = never
		}
		name := fmt.Sprintf("n%d.example", i)
		good.MX(name, 10, "mx.example")
		if got, err := r.Route(t.Context(), name); err != nil || len(got.Hosts) != 1 {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		wasAsked := func() bool { _, ok := asked.Load(name + "."); return ok }
		if !step.demoted {
			eventually(t, name+": the silent server is asked", wasAsked)
		} else if wasAsked() {
			t.Errorf("%s: the silent server was asked", name)
		}
		if n := len(good.Queries()); n != i+1 {
			t.Errorf("%s: the good server was asked %d times, want %d", name, n, i+1)
		}
	}
}

// A lost packet is made good by asking the only server once more with another ID,
// and, unless it is on this machine, from another port.
func TestLostPacketIsRepeated(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"shared socket": false, "sockets of their own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLostPacket(t, own)
		})
	}
}

func testLostPacket(t *testing.T, own bool) {
	ids := make(chan uint16, 10)
	s := newScripted(t, func(n int, q *dns.Msg) *dns.Msg {
		ids <- q.Id
		if n == 0 {
			return nil
		}
		return replyWith(t, q, []string{mxRecord}, nil)
	})
	r := NewResolver([]string{s.addr}) // with the patience of real life
	t.Cleanup(r.Close)
	if own {
		r.servers[0].line = nil
	}
	if got, err := r.Route(t.Context(), "example.net"); err != nil || len(got.Hosts) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	from := s.asked()
	if len(from) != 2 || (from[0] != from[1]) != own {
		t.Errorf("asked from %q", from)
	}
	if first, second := <-ids, <-ids; first == second && !own { // of two sockets both may draw the same
		t.Errorf("the same ID twice: %d", first)
	}
}

// A server that fails makes room for the next at once. Who fails for one name
// keeps the place in the order, who refuses does not.
func TestFailingServerMakesRoom(t *testing.T) {
	t.Parallel()
	for rcode, firstAgain := range map[int]bool{
		dns.RcodeServerFailure: true, dns.RcodeRefused: false, dns.RcodeNotImplemented: false,
	} {
		t.Run(dns.RcodeToString[rcode], func(t *testing.T) {
			t.Parallel()
			failing, good := newDNS(t), newDNS(t)
			r, clock := newClockedResolver(t, failing.Addr(), good.Addr())
			lookup := func(name string, wantFirst bool) {
				t.Helper()
				failing.Fail(name, rcode)
				good.MX(name, 10, "mx.example")
				before := len(failing.Queries())
				if got, err := r.Route(t.Context(), name); err != nil || len(got.Hosts) != 1 {
					t.Fatalf("%s: %+v, %v", name, got, err)
				}
				if first := len(failing.Queries()) > before; first != wantFirst {
					t.Errorf("%s: the failing server was asked first: %v", name, first)
				}
			}
			lookup("first.example", true)
			lookup("second.example", firstAgain)
			clock.move(demotedFor)
			lookup("third.example", true) // And demoted again, if so before.
			// An answer makes it good at once.
			good.Fail("fourth.example", dns.RcodeServerFailure)
			failing.MX("fourth.example", 10, "mx.example")
			if _, err := r.Route(t.Context(), "fourth.example"); err != nil {
				t.Error(err)
			}
			lookup("fifth.example", true)
		})
	}
}

// A resolver whose word is no evidence does not overtake one that is merely slow.
func TestEvidenceIsNotOvertaken(t *testing.T) {
	t.Parallel()
	slow, open := newGate(t, mxRecord)
	far := newDNS(t)
	far.MX("example.net", 10, "mx.far.example")
	r := newResolver(t, slow.addr, far.Addr())
	r.servers[1].trusted, r.mixed = false, true
	r.hedge = time.Millisecond
	i := r.inquire(t.Context(), question{"example.net", dns.TypeMX})
	eventually(t, "the slow server is asked once more", func() bool { return len(slow.asked()) == 2 })
	open()
	if found, err := i.wait(t.Context()); err != nil || found.server != slow.addr || len(far.Queries()) != 0 {
		t.Errorf("%+v, %v; the other was asked %q", found, err, far.Queries())
	}
}

// It is asked when the other fails, but its answer is not believed for longer
// than it takes to try the other again.
func TestEvidenceIsSoughtAgain(t *testing.T) {
	t.Parallel()
	near, far := newDNS(t), newDNS(t)
	near.Fail("example.net", dns.RcodeRefused)
	far.MX("example.net", 10, "mx.far.example")
	near.MX("signed.example", 10, "mx.signed.example")
	near.Authentic("signed.example")
	far.MX("signed.example", 10, "mx.far.example")
	r, clock := newClockedResolver(t, near.Addr(), far.Addr())
	r.servers[1].trusted, r.mixed = false, true
	for _, step := range []struct {
		after     time.Duration
		questions int
	}{{0, 1}, {demotedFor - 1, 1}, {1, 2}} {
		clock.move(step.after)
		if got, err := r.Route(t.Context(), "example.net"); err != nil || got.Hosts[0].Name != "mx.far.example" {
			t.Errorf("%+v, %v", got, err)
		}
		// The trusted one is asked first.
		if n, f := len(near.Queries()), len(far.Queries()); n != step.questions || f != step.questions {
			t.Errorf("after %v more: %d and %d questions, want %d each", step.after, n, f, step.questions)
		}
	}
	// A moment after its failure too.
	if got, err := r.Route(t.Context(), "signed.example"); err != nil || !got.Authentic {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMixedServers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		servers []string
		mixed   bool
	}{
		{nil, false},
		{[]string{"127.0.0.1:53", "[::1]:53"}, false},
		{[]string{"192.0.2.1:53", "192.0.2.2:53"}, false},
		{[]string{"127.0.0.1:53", "192.0.2.2:53"}, true},
		{[]string{"192.0.2.1:53", "127.0.0.1:53"}, true},
	} {
		if r := newResolver(t, c.servers...); r.mixed != c.mixed {
			t.Errorf("%q: mixed is %v", c.servers, r.mixed)
		}
	}
}
