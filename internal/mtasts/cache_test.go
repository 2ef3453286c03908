package mtasts

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/route"
)

func TestDomainsWithoutPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache()
	w.dns.TXT("_mta-sts.spf.example", "v=spf1 -all")
	w.dns.TXT("_mta-sts.twice.example", "v=STSv1; id=1;")
	w.dns.TXT("_mta-sts.twice.example", "v=STSv1; id=2;")
	w.dns.TXT("_mta-sts.broken.example", "v=STSv1; rubbish")
	w.dns.Fail("_mta-sts.servfail.example", dns.RcodeServerFailure)
	for domain, kind := range map[string]Kind{
		"none.example": "", "spf.example": "", "[192.0.2.1]": "", "": "", "a..b": "", "no\x00name": "",
		"twice.example": Invalid, "broken.example": Invalid, "servfail.example": DNS,
	} {
		wantNone(t, c, domain, kind)
	}
	w.wantFetches(0)
}

func TestModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache()
	w.publish("testing.example", "1", mailtest.STSPage{Body: body(Testing, week, "mx.example.net")})
	if r := wantPolicy(t, c, "testing.example", "mx.example.net"); r.Policy.Mode != Testing || r.Err != nil {
		t.Errorf("%+v", r)
	}
	// RFC 8461, 8.3: how a domain leaves.
	w.publish("leaving.example", "1", page("mx.example.net"))
	wantPolicy(t, c, "leaving.example", "mx.example.net")
	w.publish("leaving.example", "2", mailtest.STSPage{Body: body(None, 24*time.Hour)})
	w.pass(time.Hour)
	wantNone(t, c, "leaving.example", "")
	wantNone(t, c, "leaving.example", "")
	w.wantFetches(3)
}

// A domain that is known costs no fetch, and with a TTL no question either.

func TestKnownDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.SetTTL(3600)
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache()
	first := wantPolicy(t, c, "example.net", "mx.example.net").Policy
	asked := len(w.dns.Queries())
	for _, spelling := range []string{"example.net", "Example.NET", "example.net."} {
		if r := wantPolicy(t, c, spelling, "mx.example.net"); r.Policy != first || r.Err != nil {
			t.Errorf("%s: %+v", spelling, r)
		}
	}
	if n := len(w.dns.Queries()) - asked; n != 0 {
		t.Errorf("%d more questions", n)
	}
	w.wantFetches(1)
}

func TestNewID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("a.example.net"))
	c := w.cache()
	wantPolicy(t, c, "example.net", "a.example.net")
	// Without a new id nobody looks for a new policy.
	w.host.Serve("example.net", page("b.example.net"))
	w.pass(time.Hour)
	wantPolicy(t, c, "example.net", "a.example.net")
	w.wantFetches(1)
	// Other fields of the record do not matter.
	w.dns.Remove("_mta-sts.example.net")
	w.dns.TXT("_mta-sts.example.net", "v=STSv1; id=1; note=x;")
	wantPolicy(t, c, "example.net", "a.example.net")
	w.wantFetches(1)
	w.announce("example.net", "2")
	if r := wantPolicy(t, c, "example.net", "b.example.net"); r.Policy.ID != "2" {
		t.Errorf("id %q", r.Policy.ID)
	}
	w.wantFetches(2)
	// Ids that change all the time cost one fetch a minute.
	for i := range 10 {
		w.announce("example.net", fmt.Sprint(100+i))
		wantPolicy(t, c, "example.net", "b.example.net")
	}
	w.wantFetches(2)
	w.pass(fetchPause)
	wantPolicy(t, c, "example.net", "b.example.net")
	w.wantFetches(3)
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("a.example.net"))
	c := w.cache()
	wantPolicy(t, c, "example.net", "a.example.net")
	w.host.Serve("example.net", page("b.example.net"))
	w.pass(week - time.Minute)
	wantPolicy(t, c, "example.net", "a.example.net")
	w.pass(2 * time.Minute)
	wantPolicy(t, c, "example.net", "b.example.net")
	w.wantFetches(2)
	// With the host gone, and then the record, there is none.
	w.host.Serve("example.net", mailtest.STSPage{Status: 500})
	w.pass(week)
	wantNone(t, c, "example.net", FetchError)
	w.dns.Remove("_mta-sts.example.net")
	wantNone(t, c, "example.net", "")
}

// max_age 0 must not mean a fetch with every message.

func TestShortLivedPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", mailtest.STSPage{Body: body(Enforce, 0, "mx.example.net")})
	c := w.cache()
	for range 5 {
		wantPolicy(t, c, "example.net", "mx.example.net")
	}
	w.wantFetches(1)
	w.pass(minAge)
	wantPolicy(t, c, "example.net", "mx.example.net")
	w.wantFetches(2)
}

// Whatever an attacker breaks, a policy at hand stays in force.

func TestCachedPolicyStays(t *testing.T) {
	t.Parallel()
	type breakage struct {
		kind Kind
		do   func(w *world)
	}
	failing := func(p mailtest.STSPage) func(*world) {
		return func(w *world) { w.publish("example.net", "2", p) }
	}
	for name, b := range map[string]breakage{
		"record gone":     {"", func(w *world) { w.dns.Remove("_mta-sts.example.net") }},
		"record doubled":  {Invalid, func(w *world) { w.dns.TXT("_mta-sts.example.net", "v=STSv1; id=2;") }},
		"record broken":   {Invalid, func(w *world) { w.dns.Remove("_mta-sts.example.net"); w.dns.TXT("_mta-sts.example.net", "v=STSv1; x") }},
		"servfail":        {DNS, func(w *world) { w.dns.Fail("_mta-sts.example.net", dns.RcodeServerFailure) }},
		"bad certificate": {WebPKIInvalid, failing(mailtest.STSPage{Certificate: mailtest.UnknownCA})},
		"redirect":        {FetchError, failing(mailtest.STSPage{Status: 302, Header: map[string]string{"Location": "https://elsewhere.example/"}})},
		"html":            {Invalid, failing(mailtest.STSPage{Header: map[string]string{"Content-Type": "text/html"}})},
		"rubbish":         {Invalid, failing(mailtest.STSPage{Body: "rubbish"})},
		"host gone":       {FetchError, func(w *world) { w.announce("example.net", "2"); w.dns.Remove("mta-sts.example.net") }},
		"resolver panics": {Internal, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish("example.net", "1", page("mx.example.net"))
			resolver := &panicking{Resolver: w.resolver}
			c := w.cache(func(cfg *Config) { cfg.Resolver = resolver })
			wantPolicy(t, c, "example.net", "mx.example.net")
			w.pass(time.Hour)
			if b.do != nil {
				b.do(w)
			} else {
				resolver.broken("TXT")
			}
			for range 3 {
				wantKind(t, wantPolicy(t, c, "example.net", "mx.example.net"), b.kind)
			}
			w.pass(week)
			if r := lookup(t, c, "example.net"); r.Policy != nil {
				t.Errorf("an expired policy is used: %+v", r.Policy)
			}
		})
	}
}

// Mail to a domain with a valid policy waits for a newer one for a moment only.

// Only so many fetches run at a time; the others wait for their turn.

// The way of most mail: a known domain whose record the resolver remembers.

func TestKnownDomainAllocatesLittle(t *testing.T) {
	w := newWorld(t)
	w.publish("example.net", "1", page("mx.example.net"))
	resolver := &remembering{Resolver: w.resolver}
	c := w.cache(func(cfg *Config) { cfg.Resolver = resolver })
	wantPolicy(t, c, "example.net", "mx.example.net")
	wantPolicy(t, c, "example.net", "mx.example.net")
	if n := testing.AllocsPerRun(100, func() { c.Lookup(t.Context(), "example.net") }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

// remembering keeps the first answer.

type remembering struct {
	Resolver
	texts []string
}

func (r *remembering) TXT(ctx context.Context, name string) (_ []string, err error) {
	if r.texts == nil {
		r.texts, err = r.Resolver.TXT(ctx, name)
	}
	return r.texts, err
}

// DNS that was dead a moment ago is not waited for again.

func TestDNSTroubleIsNotAskedAgainAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("mx.example.net"))
	c := w.cache()
	wantPolicy(t, c, "example.net", "mx.example.net")
	w.dns.Fail("_mta-sts.example.net", dns.RcodeServerFailure)
	wantKind(t, wantPolicy(t, c, "example.net", "mx.example.net"), DNS)
	asked := len(w.dns.Queries())
	wantKind(t, wantPolicy(t, c, "example.net", "mx.example.net"), DNS)
	if n := len(w.dns.Queries()) - asked; n != 0 {
		t.Errorf("%d more questions", n)
	}
	w.dns.Fail("_mta-sts.example.net", dns.RcodeSuccess)
	w.pass(askAgain + 2*time.Second)
	eventually(t, "DNS is asked again", func() bool { return lookup(t, c, "example.net").Err == nil || passed(w) })
}

// passed lets the resolver's own memory of a failure pass.

func passed(w *world) bool { w.pass(askAgain); return false }

// panicking is a resolver with a fault.

type panicking struct {
	Resolver
	mu   sync.Mutex
	kind string
}

func (p *panicking) broken(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kind = kind
}

func (p *panicking) is(kind string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kind == kind
}

func (p *panicking) TXT(ctx context.Context, name string) ([]string, error) {
	if p.is("TXT") {
		panic("a fault")
	}
	return p.Resolver.TXT(ctx, name)
}

func (p *panicking) Addresses(ctx context.Context, host string, ipv4Only bool) (route.Addresses, error) {
	if p.is("A") {
		panic("a fault")
	}
	return p.Resolver.Addresses(ctx, host, ipv4Only)
}

func TestClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("example.net", "1", page("mx.example.net"))
	w.publish("other.example", "1", page("mx.example.net"))
	c := w.cache(in(t.TempDir()))
	wantPolicy(t, c, "example.net", "mx.example.net")
	c.Close()
	c.Close()
	wantPolicy(t, c, "example.net", "mx.example.net")
	r := wantNone(t, c, "other.example", Internal)
	if !errors.Is(r.Err, errClosed) {
		t.Error(r.Err)
	}
	w.wantFetches(1)
}

func TestMistakesInConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, cfg := range []Config{{}, {Resolver: w.resolver, Port: 65536}, {Resolver: w.resolver, Port: -1}} {
		if c, err := New(cfg); err == nil {
			c.Close()
			t.Errorf("%+v is accepted", cfg)
		}
	}
	c, err := New(Config{Resolver: w.resolver})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
