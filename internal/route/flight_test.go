package route

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const mxRecord = "example.net. 300 IN MX 10 mx.example.net."

// However many want to know at once, one question goes out.
func TestOneQuestionForAll(t *testing.T) {
	t.Parallel()
	s, open := newGate(t, mxRecord)
	r := newResolver(t, s.addr)
	var done sync.WaitGroup
	for range 100 {
		done.Go(func() {
			if got, err := r.Route(t.Context(), "example.net"); err != nil || got.Hosts[0].Name != "mx.example.net" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	eventually(t, "the question has arrived", func() bool { return len(s.asked()) > 0 })
	open()
	done.Wait()
	// Who looked just before the answer came finds it on the way.
	r.fly(question{"example.net", dns.TypeMX})
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// An answer that may not be kept still serves all who wait for it.
func TestUncachedAnswerIsShared(t *testing.T) {
	t.Parallel()
	s, open := newGate(t, "example.net. 0 IN MX 10 mx.example.net.")
	r := newResolver(t, s.addr)
	q := question{"example.net", dns.TypeMX}
	first, second := r.inquire(t.Context(), q), r.inquire(t.Context(), q)
	open()
	for _, i := range []inquiry{first, second} {
		if found, err := i.wait(t.Context()); err != nil || len(found.hosts) != 1 {
			t.Errorf("%+v, %v", found, err)
		}
	}
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d questions for both", n)
	}
	if _, err := r.lookup(t.Context(), q); err != nil || len(s.asked()) != 2 {
		t.Errorf("afterwards: %d questions, %v", len(s.asked()), err)
	}
}

// Who gives up is let go at once; the others, and those who come later, get the
// answer.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	s, open := newGate(t, mxRecord)
	r := newResolver(t, s.addr)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error)
	go func() {
		_, err := r.Route(ctx, "example.net")
		gone <- err
	}()
	eventually(t, "the question has arrived", func() bool { return len(s.asked()) > 0 })
	patient := r.inquire(t.Context(), question{"example.net", dns.TypeMX})
	reason := errors.New("the sender hung up")
	cancel(reason)
	err := <-gone // While the gate is closed.
	if wantKind(t, err, Temporary); !errors.Is(err, reason) {
		t.Errorf("gave up: %v", err)
	}
	open()
	if found, err := patient.wait(t.Context()); err != nil || len(found.hosts) != 1 {
		t.Errorf("the patient one: %+v, %v", found, err)
	}
	// Even who has given up may know what is known.
	if got, err := r.Route(ctx, "example.net"); err != nil || len(got.Hosts) != 1 {
		t.Errorf("from memory: %+v, %v", got, err)
	}
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// A question that nobody waits for any more is still answered into the cache, and
// giving up is no failure to be remembered.
func TestEverybodyGivesUp(t *testing.T) {
	t.Parallel()
	s, open := newGate(t, mxRecord)
	r := newResolver(t, s.addr)
	ctx, cancel := context.WithCancel(t.Context())
	abandoned := r.inquire(ctx, question{"example.net", dns.TypeMX})
	cancel()
	if _, err := abandoned.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("gave up: %v", err)
	}
	open()
	if got, err := r.Route(t.Context(), "example.net"); err != nil || len(got.Hosts) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(s.asked()); n != 1 {
		t.Errorf("%d questions", n)
	}
}

func TestCloseEndsLookups(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("known.example", 10, "mx.known.example")
	d.Drop("silent.example")
	r := newResolver(t, d.Addr())
	if _, err := r.Route(t.Context(), "known.example"); err != nil {
		t.Error(err)
	}
	waiting := r.inquire(t.Context(), question{"silent.example", dns.TypeMX})
	eventually(t, "the question has arrived", func() bool { return len(d.Queries()) == 2 })
	r.Close()
	if _, err := waiting.wait(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("a waiting lookup: %v", err)
	}
	for range 2 {
		_, err := r.Route(t.Context(), "known.example")
		if wantKind(t, err, Temporary); !errors.Is(err, errClosed) {
			t.Errorf("a later lookup: %v", err)
		}
		r.Close()
	}
	if n := r.answers.len(); n != 0 || len(d.Queries()) != 2 {
		t.Errorf("%d answers are left, questions: %q", n, d.Queries())
	}
}

// A mistake of ours costs the lookup, not the process.
func TestPanicIsTemporary(t *testing.T) {
	t.Parallel()
	r := newResolver(t, "127.0.0.1:1")
	r.servers[0] = nil
	_, err := r.Route(t.Context(), "example.net")
	if e := wantKind(t, err, Temporary); !strings.Contains(e.Error(), "internal error") {
		t.Errorf("%v", err)
	}
}

// Everything at once, for the race detector.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for i := range 8 {
		name := fmt.Sprintf("n%d.example", i)
		d.SetTTL(uint32(i))
		d.MX(name, 10, "mx."+name)
		d.A("mx."+name, "192.0.2.1", "2001:db8::1")
	}
	d.Fail("n7.example", dns.RcodeServerFailure)
	failing := newDNS(t)
	for i := range 8 {
		failing.Fail(fmt.Sprintf("n%d.example", i), dns.RcodeRefused)
		failing.Fail(fmt.Sprintf("mx.n%d.example", i), dns.RcodeServerFailure)
	}
	r, clock := newClockedResolver(t, failing.Addr(), d.Addr())
	r.hedge = time.Millisecond
	var done sync.WaitGroup
	for worker := range 16 {
		done.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("n%d.example", (worker+i)%8)
				if _, err := r.Route(t.Context(), name); (err != nil) != (name == "n7.example") {
					t.Errorf("%s: %v", name, err)
				}
				if got, err := r.Addresses(t.Context(), "mx."+name, i%2 == 0); err != nil || len(got.IPs) == 0 {
					t.Errorf("mx.%s: %+v, %v", name, got, err)
				}
				if worker == 0 {
					clock.move(time.Second)
					r.tidy()
				}
			}
		})
	}
	done.Wait()
}
