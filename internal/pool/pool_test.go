package pool

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// fake is a session that only knows its outcome and whether it was closed.
type fake struct {
	name    string
	outcome tlsplan.Outcome
	closed  atomic.Int32
	onClose chan string
}

func (f *fake) Outcome() tlsplan.Outcome { return f.outcome }
func (f *fake) Close() {
	f.closed.Add(1)
	if f.onClose != nil {
		f.onClose <- f.name
	}
}

var generous = Config{PerHost: 10, Total: 100, IdleTime: time.Hour}

// host is how an MX host behaves; state is what the contract says comes of it.
type host struct {
	name   string
	reason tlsplan.Reason // what is wrong with it, "" if nothing
	cert   bool           // TLS works, reason is about the certificate
	reqtls bool           // offers REQUIRETLS under TLS
}

type state string

const (
	fails      state = "fail"
	inClear    state = "plaintext"
	unverified state = "TLS, unverified"
	verified   state = "TLS, verified"
)

// sender is a plan in the words of the contract.
type sender struct {
	require, skip, keepUnverified bool
	floor                         tlsplan.Level
	requiretls, relaxed           bool
}

func (s sender) plan() tlsplan.Plan {
	settings := policy.Settings{RequireTLS: s.require, SkipVerification: s.skip, Fallback: policy.Plaintext}
	if s.keepUnverified {
		settings.Fallback = policy.Unverified
	}
	return tlsplan.Decide(settings, tlsplan.Floors{MinTLS: s.floor, REQUIRETLS: s.requiretls, RelaxedREQUIRETLS: s.relaxed})
}

// fresh says what a fresh connection of s to h becomes. It is written from the
// table of the contract, not from the code under test.
func fresh(s sender, h host) state {
	needTLS := s.require || s.floor == tlsplan.LevelEncrypted || s.floor == tlsplan.LevelAuthenticated || s.requiretls
	needVerified := s.require && !s.skip || s.floor == tlsplan.LevelAuthenticated || s.requiretls
	got := verified
	switch {
	case h.reason == "":
	case !h.cert:
		got = inClear
		if needTLS {
			return fails
		}
	case needVerified:
		return fails
	case needTLS || s.skip || s.keepUnverified:
		got = unverified
	default:
		got = inClear
	}
	if s.requiretls && !s.relaxed && !h.reqtls {
		return fails
	}
	return got
}

func outcomeOf(st state, h host) tlsplan.Outcome {
	problem := &tlsplan.Problem{Reason: h.reason}
	switch st {
	case inClear:
		return tlsplan.Plaintext(problem, nil)
	case unverified:
		return tlsplan.Outcome{TLS: true, Verification: tlsplan.VerifiedNone, Problem: problem, OffersREQUIRETLS: h.reqtls}
	}
	return tlsplan.Outcome{TLS: true, Verification: tlsplan.VerifiedPKIX, OffersREQUIRETLS: h.reqtls}
}

func allSenders() (all []sender) {
	bools := []bool{false, true}
	for _, require := range bools {
		for _, skip := range bools {
			for _, keep := range bools {
				for _, floor := range []tlsplan.Level{tlsplan.LevelNone, tlsplan.LevelEncrypted, tlsplan.LevelAuthenticated} {
					all = append(all, sender{require, skip, keep, floor, false, false},
						sender{require, skip, keep, floor, true, false}, sender{require, skip, keep, floor, true, true})
				}
			}
		}
	}
	return all
}

func allHosts() (all []host) {
	for _, reqtls := range []bool{false, true} {
		all = append(all, host{name: "good", reqtls: reqtls})
		for _, r := range tlsplan.Reasons() {
			if r.IsTLS() {
				all = append(all, host{name: string(r), reason: r, cert: r.IsCertificate(), reqtls: reqtls})
			}
		}
	}
	return all
}

// TestReuseIsAsGoodAsFresh is the property that the pool stands on: for every
// pair of plans and every behaviour of a host, a session opened for the first
// plan serves the second exactly when a fresh connection for the second would
// have come to the same state. So a weaker session never slips under a stricter
// plan, and nobody gets plaintext who would have got TLS.
func TestReuseIsAsGoodAsFresh(t *testing.T) {
	t.Parallel()
	senders, hosts := allSenders(), allHosts()
	pairs, taken := 0, 0
	for _, h := range hosts {
		for _, first := range senders {
			opened := fresh(first, h)
			if opened == fails {
				continue
			}
			for _, second := range senders {
				pairs++
				p := New[*fake](generous)
				s := &fake{outcome: outcomeOf(opened, h)}
				p.Put("mx", s)
				_, ok := p.Take("mx", second.plan())
				want := fresh(second, h) == opened
				if ok != want {
					t.Errorf("host %+v: opened as %q for %+v, offered to %+v (fresh: %q): taken=%v", h, opened, first, second, fresh(second, h), ok)
				}
				if ok {
					taken++
				}
				p.Close()
			}
		}
	}
	if taken == 0 || taken == pairs {
		t.Errorf("%d of %d pairs reused: the test proves nothing", taken, pairs)
	}
}

func any1() tlsplan.Plan { return sender{}.plan() }

func good(name string) *fake {
	return &fake{name: name, outcome: tlsplan.Outcome{TLS: true, Verification: tlsplan.VerifiedPKIX}, onClose: make(chan string, 1)}
}

func TestTakeIsByHostAndNewestFirst(t *testing.T) {
	t.Parallel()
	p := New[*fake](generous)
	defer p.Close()
	p.Put("mx1", good("a"))
	p.Put("mx1", good("b"))
	p.Put("mx2", good("c"))
	if _, ok := p.Take("mx3", any1()); ok {
		t.Error("took a session of another host")
	}
	for _, want := range []string{"b", "a"} {
		s, ok := p.Take("mx1", any1())
		if !ok || s.name != want {
			t.Fatalf("took %v, want %s", s, want)
		}
	}
	if _, ok := p.Take("mx1", any1()); ok {
		t.Error("took a session twice")
	}
	if p.Idle() != 1 {
		t.Errorf("%d idle, want 1", p.Idle())
	}
}

func TestTakePassesOverWhatDoesNotMeetThePlan(t *testing.T) {
	t.Parallel()
	p := New[*fake](generous)
	defer p.Close()
	strong := good("strong")
	p.Put("mx", strong)
	p.Put("mx", &fake{name: "clear", outcome: tlsplan.Plaintext(&tlsplan.Problem{Reason: tlsplan.TLSNotOffered}, nil)})
	s, ok := p.Take("mx", sender{require: true}.plan())
	if !ok || s != strong {
		t.Fatalf("took %v", s)
	}
	if _, ok := p.Take("mx", sender{require: true}.plan()); ok {
		t.Error("plaintext session taken for a plan that requires TLS")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	p := New[*fake](Config{PerHost: 2, Total: 3, IdleTime: time.Hour})
	defer p.Close()
	a, b, c, d, e := good("a"), good("b"), good("c"), good("d"), good("e")
	for _, s := range []*fake{a, b, c} {
		p.Put("mx1", s)
	}
	if name := <-a.onClose; name != "a" {
		t.Error("the oldest of the host goes first")
	}
	p.Put("mx2", d)
	p.Put("mx3", e)
	if name := <-b.onClose; name != "b" {
		t.Error("the oldest of all goes first")
	}
	if p.Idle() != 3 {
		t.Errorf("%d idle, want 3", p.Idle())
	}
}

func TestIdleTime(t *testing.T) {
	t.Parallel()
	p := New[*fake](Config{PerHost: 2, Total: 3, IdleTime: time.Millisecond})
	defer p.Close()
	s := good("s")
	p.Put("mx", s)
	<-s.onClose
	if _, ok := p.Take("mx", any1()); ok {
		t.Error("an expired session was taken")
	}
}

func TestKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{PerHost: 0, Total: 1, IdleTime: 1}, {PerHost: 1, Total: 0, IdleTime: 1}, {PerHost: 1, Total: 1}} {
		p := New[*fake](cfg)
		s := good("s")
		if p.Put("mx", s) || s.closed.Load() != 0 || p.Idle() != 0 {
			t.Errorf("%+v kept a session, or closed one that is not its own", cfg)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	var idle atomic.Int64
	cfg := generous
	cfg.IdleChanged = func(by int) { idle.Add(int64(by)) }
	p := New[*fake](cfg)
	a, b := good("a"), good("b")
	p.Put("mx", a)
	p.Put("mx", b)
	if idle.Load() != 2 {
		t.Errorf("idle gauge %d, want 2", idle.Load())
	}
	p.Close()
	if p.Put("mx", good("late")) {
		t.Error("a closed pool took a session")
	}
	for _, s := range []*fake{a, b} {
		if n := s.closed.Load(); n != 1 {
			t.Errorf("%s closed %d times", s.name, n)
		}
	}
	if _, ok := p.Take("mx", any1()); ok || idle.Load() != 0 {
		t.Errorf("closed pool gives sessions (idle gauge %d)", idle.Load())
	}
	p.Close()
}

// TestManyHands: every session is closed exactly once or in the hands of one
// taker, whatever runs at the same time.
func TestManyHands(t *testing.T) {
	t.Parallel()
	p := New[*fake](Config{PerHost: 3, Total: 10, IdleTime: 50 * time.Microsecond})
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []*fake
	)
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 300 {
				mx := fmt.Sprintf("mx%d", (g+i)%5)
				s, ok := p.Take(mx, any1())
				if !ok {
					s = &fake{outcome: tlsplan.Outcome{TLS: true, Verification: tlsplan.VerifiedPKIX}}
					mu.Lock()
					all = append(all, s)
					mu.Unlock()
				}
				if s.closed.Load() != 0 {
					t.Error("took a closed session")
				}
				p.Put(mx, s)
			}
		}()
	}
	wg.Wait()
	p.Close()
	for _, s := range all {
		if n := s.closed.Load(); n != 1 {
			t.Fatalf("a session was closed %d times", n)
		}
	}
}
