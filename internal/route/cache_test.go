package route

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// An answer is good for as long as its shortest-lived record says, the aliases on
// its way included, and an absence for as long as its SOA record says.
func TestRememberedForTTL(t *testing.T) {
	t.Parallel()
	const soa = "example. %d IN SOA ns.example. host.example. 1 2 3 4 %d"
	for name, c := range map[string]struct {
		answer    []string
		authority []string
		rcode     int
		questions int // for one lookup
		ttl       time.Duration
	}{
		"records": {answer: []string{"a.example. 300 IN MX 10 mx.example."}, ttl: 300 * time.Second},
		"the shortest of several": {answer: []string{
			"a.example. 300 IN MX 10 mx.example.", "a.example. 60 IN MX 20 mx2.example."}, ttl: time.Minute},
		"not records of others": {answer: []string{
			"a.example. 300 IN MX 10 mx.example.", "b.example. 60 IN MX 20 mx2.example."}, ttl: 300 * time.Second},
		"a short alias": {answer: []string{
			"a.example. 7 IN CNAME b.example.", "b.example. 300 IN MX 10 mx.example."}, ttl: 7 * time.Second},
		"a long alias": {answer: []string{
			"a.example. 300 IN CNAME b.example.", "b.example. 7 IN MX 10 mx.example."}, ttl: 7 * time.Second},
		"a day at most":     {answer: []string{"a.example. 604800 IN MX 10 mx.example."}, ttl: 24 * time.Hour},
		"the highest bit":   {answer: []string{"a.example. 4294967295 IN MX 10 mx.example."}, ttl: 24 * time.Hour},
		"none":              {answer: []string{"a.example. 0 IN MX 10 mx.example."}},
		"a null MX":         {answer: []string{"a.example. 60 IN MX 0 ."}, ttl: time.Minute},
		"no usable MX":      {answer: []string{"a.example. 60 IN MX 0 192.0.2.1."}, ttl: time.Minute},
		"an alias to blame": {answer: []string{"a.example. 300 IN CNAME 192.0.2.1."}, ttl: failureTTL},
		"no records":        {authority: []string{fmt.Sprintf(soa, 60, 120)}, ttl: time.Minute},
		"no name":           {authority: []string{fmt.Sprintf(soa, 120, 60)}, rcode: dns.RcodeNameError, ttl: time.Minute},
		"no name behind an alias": {answer: []string{"a.example. 7 IN CNAME b.example."},
			authority: []string{fmt.Sprintf(soa, 60, 60)}, rcode: dns.RcodeNameError, ttl: 7 * time.Second},
		"no name, a quarter of an hour at most": {
			authority: []string{fmt.Sprintf(soa, 86400, 86400)}, rcode: dns.RcodeNameError, ttl: 15 * time.Minute},
		"no name, no SOA":    {rcode: dns.RcodeNameError},
		"no records, no SOA": {},
		"the SOA of another": {authority: []string{"other.example. 60 IN SOA ns. host. 1 2 3 4 60"}, rcode: dns.RcodeNameError},
		"SERVFAIL":           {rcode: dns.RcodeServerFailure, questions: 2, ttl: failureTTL},
		"REFUSED":            {rcode: dns.RcodeRefused, questions: 2, ttl: failureTTL},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, func(_ int, q *dns.Msg) *dns.Msg {
				reply := replyWith(t, q, c.answer, c.authority)
				reply.Rcode = c.rcode
				return reply
			})
			r, clock := newClockedResolver(t, s.addr)
			first, firstErr := r.Route(t.Context(), "a.example")
			questions := func(want int) {
				t.Helper()
				again, err := r.Route(t.Context(), "a.example")
				if fmt.Sprint(err) != fmt.Sprint(firstErr) || again.Name != first.Name || len(again.Hosts) != len(first.Hosts) {
					t.Errorf("%+v, %v; at first %+v, %v", again, err, first, firstErr)
				}
				if n := len(s.asked()); n != want {
					t.Errorf("%d questions, want %d", n, want)
				}
			}
			once := max(c.questions, 1)
			if c.ttl > 0 {
				questions(once)
				clock.move(c.ttl - 1)
				questions(once)
				clock.move(1)
			}
			questions(2 * once)
		})
	}
}

// A resolver that leaves the aliases to us makes several answers into one.
func TestAliasesRememberedAsOne(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.CNAME("a.example", "b.example")
	d.NoChase("a.example")
	d.SetTTL(60)
	d.CNAME("b.example", "c.example")
	d.NoChase("b.example")
	d.SetTTL(600)
	d.A("c.example", "192.0.2.1")
	r, clock := newClockedResolver(t, d.Addr())
	for _, step := range []struct {
		after     time.Duration
		questions int
	}{{0, 3}, {59 * time.Second, 3}, {time.Second, 6}} {
		clock.move(step.after)
		got, err := r.Addresses(t.Context(), "a.example", true)
		if err != nil || got.Name != "c.example" || len(got.IPs) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		if n := len(d.Queries()); n != step.questions {
			t.Errorf("after %v more: %d questions, want %d", step.after, n, step.questions)
		}
	}
}

// Within the TTL, mail to a known domain costs no question, in whatever spelling.
func TestWarmDomainAsksNothing(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("example.net", 10, "mx.example.net")
	d.MX("example.net", 10, "mx2.example.net")
	d.A("mx.example.net", "192.0.2.1")
	r, clock := newClockedResolver(t, d.Addr())
	first := make(map[string]bool)
	for i := range 200 {
		route, err := r.Route(t.Context(), []string{"example.net", "Example.NET."}[i%2])
		if err != nil || len(route.Hosts) != 2 {
			t.Fatalf("%+v, %v", route, err)
		}
		first[route.Hosts[0].Name] = true
		route.Hosts[0] = Host{Name: "changed by the caller"}
		got, err := r.Addresses(t.Context(), "mx.example.net", i%4 == 0)
		if err != nil || len(got.IPs) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		got.IPs[0] = got.IPs[0].Next()
		clock.move(time.Second)
	}
	if len(first) != 2 || !first["mx.example.net"] || !first["mx2.example.net"] {
		t.Errorf("equal preferences from memory are not shuffled: %v", first)
	}
	got := d.Queries()
	slices.Sort(got)
	if want := []string{"A mx.example.net.", "AAAA mx.example.net.", "MX example.net."}; !slices.Equal(got, want) {
		t.Errorf("questions: %q, want %q", got, want)
	}
}

// The evidence stays with its answer, whatever the resolver says meanwhile.
func TestAuthenticIsRemembered(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for _, name := range []string{"signed.example", "unsigned.example"} {
		d.MX(name, 10, "mx.example")
	}
	d.Authentic("signed.example")
	r, clock := newClockedResolver(t, d.Addr())
	want := map[string]bool{"signed.example": true, "unsigned.example": false, "nothing.example": false}
	check := func() {
		t.Helper()
		for name, authentic := range want {
			got, err := r.Route(t.Context(), name)
			if name == "nothing.example" {
				wantKind(t, err, NotFound)
			} else if err != nil || got.Authentic != authentic {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	check()
	d.SetAuthenticated(true)
	check()
	clock.move(300 * time.Second)
	want["unsigned.example"] = true
	check()
	d.SetAuthenticated(false)
	check()
}

// A failure is remembered for a moment only, stays temporary, and does not hide
// what the other family answered.
func TestFailureIsForgotten(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.A("host.example", "192.0.2.1")
	d.Empty("empty.example")
	for _, name := range []string{"host.example", "empty.example"} {
		d.FailType(name, dns.TypeAAAA, dns.RcodeServerFailure)
	}
	r, clock := newClockedResolver(t, d.Addr())
	for range 3 {
		if got, err := r.Addresses(t.Context(), "host.example", false); err != nil || len(got.IPs) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		_, err := r.Addresses(t.Context(), "empty.example", false)
		wantKind(t, err, Temporary)
		_, err = r.lookup(t.Context(), question{"empty.example", dns.TypeAAAA})
		wantKind(t, err, Temporary).Kind = NotFound // Each caller has an error of its own.
	}
	if n := len(d.Queries()); n != 6 {
		t.Errorf("%d questions: %q", n, d.Queries())
	}
	d.FailType("host.example", dns.TypeAAAA, dns.RcodeSuccess)
	d.FailType("empty.example", dns.TypeAAAA, dns.RcodeSuccess)
	d.A("host.example", "2001:db8::1")
	clock.move(failureTTL)
	if got, err := r.Addresses(t.Context(), "host.example", false); err != nil || len(got.IPs) != 2 {
		t.Errorf("after the failure: %+v, %v", got, err)
	}
	_, err := r.Addresses(t.Context(), "empty.example", false)
	wantKind(t, err, NotFound)
}

func TestCacheBounds(t *testing.T) {
	t.Parallel()
	named := func(i int) question { return question{fmt.Sprintf("n%03d.example", i), dns.TypeMX} }
	large := entry{expires: time.Hour, finding: finding{hosts: make([]Host, maxHosts)}}
	held := func(c *cache) (n int, first bool) {
		for i := range 300 {
			if _, ok := c.get(named(i), 0); ok {
				n++
			}
		}
		_, first = c.get(named(0), 0)
		return n, first
	}
	few, small := newCache(10, 1<<30), newCache(1000, 10*large.size(named(0)))
	for i := range 300 {
		few.put(named(i), entry{expires: time.Hour})
		few.put(named(i), large)
		small.put(named(i), large)
		// What is used stays.
		few.get(named(0), 0)
		small.get(named(0), 0)
	}
	for name, c := range map[string]*cache{"by number": few, "by size": small} {
		if n, first := held(c); n != 10 || !first {
			t.Errorf("%s: %d entries, the used one among them: %v", name, n, first)
		}
		if want := 10 * large.size(named(0)); c.bytes != want {
			t.Errorf("%s: %d bytes counted, want %d", name, c.bytes, want)
		}
		c.put(named(7), entry{expires: 2 * time.Hour})
		c.sweep(time.Hour)
		if _, ok := c.get(named(7), time.Hour); !ok || c.len() != 1 {
			t.Errorf("%s: %d entries after most have expired, the living one among them: %v", name, c.len(), ok)
		}
		c.sweep(2 * time.Hour)
		if c.len() != 0 || c.bytes != 0 {
			t.Errorf("%s: %d entries of %d bytes after all have expired", name, c.len(), c.bytes)
		}
	}
	huge := newCache(10, 100)
	huge.put(named(0), large)
	if huge.len() != 0 || huge.bytes != 0 {
		t.Errorf("an entry larger than the cache: %d entries of %d bytes", huge.len(), huge.bytes)
	}
}

// What has expired goes without anybody asking, and so does the timer.
func TestExpiredIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(t)
		pending := func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.sweep != nil
		}
		for range 2 {
			for i := range 10 {
				ttl := time.Duration(i+1) * time.Minute
				r.remember(question{fmt.Sprintf("n%d.example", i), dns.TypeMX}, entry{}, ttl)
			}
			time.Sleep(5*time.Minute + time.Second)
			if n := r.answers.len(); n != 5 || !pending() {
				t.Errorf("%d entries after five of ten minutes, timer: %v", n, pending())
			}
			time.Sleep(5 * time.Minute)
			if n := r.answers.len(); n != 0 || pending() {
				t.Errorf("%d entries after all have expired, timer: %v", n, pending())
			}
		}
	})
}

// A table that was large is given back, with what is still good kept in its order.
func TestLargeTableIsGivenBack(t *testing.T) {
	t.Parallel()
	c := newCache(10*smallTable, maxBytes)
	named := func(i int) question { return question{fmt.Sprintf("d%d.example", i), dns.TypeMX} }
	for i := range 4 * smallTable {
		expires := time.Hour
		if i < 10 {
			expires = 2 * time.Hour
		}
		c.put(named(i), entry{expires: expires})
	}
	c.get(named(0), 0) // used last
	before := c.entries
	c.sweep(time.Hour)
	if c.entries == before || c.most != 10 {
		t.Errorf("the table is the same, or was larger than ten: %d", c.most)
	}
	want := 10 * (&entry{}).size(named(0))
	if c.len() != 10 || c.bytes != want {
		t.Errorf("%d entries of %d octets are left, want 10 of %d", c.len(), c.bytes, want)
	}
	if q, _, _ := c.entries.GetOldest(); q != named(1) {
		t.Errorf("%v was used longest ago, want %v", q, named(1))
	}
	c.put(named(20), entry{expires: 2 * time.Hour})
	before = c.entries
	c.sweep(time.Hour)
	if c.entries != before {
		t.Error("a small table was made anew")
	}
	c.sweep(2 * time.Hour)
	if c.len() != 0 || c.bytes != 0 {
		t.Errorf("%d entries of %d octets after all have expired", c.len(), c.bytes)
	}
}
