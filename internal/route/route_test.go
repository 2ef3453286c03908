package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

// newDNS starts a DNS server that ends with the test.
func newDNS(t testing.TB) *mailtest.DNS {
	t.Helper()
	d, err := mailtest.NewDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// never is longer than any test.
const never = time.Hour

// newResolver returns a resolver that ends with the test. It asks nobody twice
// only because this machine is busy.
func newResolver(t testing.TB, servers ...string) *Resolver {
	t.Helper()
	r := NewResolver(servers)
	r.hedge = never
	t.Cleanup(r.Close)
	return r
}

// wantKind checks that err is an *Error of the kind, and returns it.
func wantKind(t testing.TB, err error, kind Kind) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want an *Error", err, err)
	}
	if e.Kind != kind {
		t.Fatalf("error of kind %q, want %q: %v", e.Kind, kind, err)
	}
	return e
}

func TestRoute(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("example.net", 20, "MX2.Example.NET")
	d.MX("example.net", 10, "mx1.example.net")
	d.MX("example.net", 30, "mx1.example.net")
	d.A("implicit.example", "192.0.2.1")
	d.MX("mixed.example", 0, ".")
	d.MX("mixed.example", 10, "mx.mixed.example")
	d.MX("dirty.example", 1, "192.0.2.1")
	d.MX("dirty.example", 2, `ev\000il.example`)
	d.MX("dirty.example", 3, `sp\032ace.example`)
	d.MX("dirty.example", 4, "-mx.example")
	d.MX("dirty.example", 5, `\195\188.example`)
	d.MX("dirty.example", 6, "under_score.example")
	d.MX("xn--bcher-kva.example", 10, "mx.xn--bcher-kva.example")
	d.CNAME("a.alias.example", "b.alias.example")
	d.CNAME("b.alias.example", "Example.net")
	d.CNAME("short.example", "example.net")
	d.NoChase("short.example")
	d.CNAME("toaddress.example", "implicit.example")
	exampleNet := []Host{{Name: "mx1.example.net", Preference: 10}, {Name: "mx2.example.net", Preference: 20}}
	bucher := []Host{{Name: "mx.xn--bcher-kva.example", Preference: 10}}
	for asked, want := range map[string]Route{
		"example.net":           {Domain: "example.net", Name: "example.net", Hosts: exampleNet},
		"EXAMPLE.Net.":          {Domain: "example.net", Name: "example.net", Hosts: exampleNet},
		"implicit.example":      {Domain: "implicit.example", Name: "implicit.example", Hosts: []Host{{Name: "implicit.example", Implicit: true}}},
		"mixed.example":         {Domain: "mixed.example", Name: "mixed.example", Hosts: []Host{{Name: "mx.mixed.example", Preference: 10}}},
		"dirty.example":         {Domain: "dirty.example", Name: "dirty.example", Hosts: []Host{{Name: "under_score.example", Preference: 6}}},
		"Bücher.example":        {Domain: "xn--bcher-kva.example", Name: "xn--bcher-kva.example", Hosts: bucher},
		"XN--Bcher-KVA.example": {Domain: "xn--bcher-kva.example", Name: "xn--bcher-kva.example", Hosts: bucher},
		"a.alias.example":       {Domain: "a.alias.example", Name: "example.net", Hosts: exampleNet},
		"short.example":         {Domain: "short.example", Name: "example.net", Hosts: exampleNet},
		"toaddress.example":     {Domain: "toaddress.example", Name: "implicit.example", Hosts: []Host{{Name: "toaddress.example", Implicit: true}}},
	} {
		got, err := newResolver(t, d.Addr()).Route(t.Context(), asked)
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", asked, diff)
		}
	}
}

func TestRouteErrors(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("null.example", 0, ".")
	d.MX("nulls.example", 0, ".")
	d.MX("nulls.example", 5, ".")
	d.MX("unusable.example", 10, "192.0.2.1")
	d.MX("unusable.example", 20, `ev\010il.example`)
	d.MX("unusable.example", 30, ".")
	d.Fail("servfail.example", dns.RcodeServerFailure)
	d.Fail("refused.example", dns.RcodeRefused)
	d.Fail("notimp.example", dns.RcodeNotImplemented)
	d.Fail("formerr.example", dns.RcodeFormatError)
	d.Fail("odd.example", 14)
	d.Malformed("malformed.example")
	d.A("tc.example", "192.0.2.1")
	d.Truncate("tc.example", true)
	d.CNAME("loop.example", "pool.example")
	d.CNAME("pool.example", "loop.example")
	d.CNAME("self.example", "self.example")
	d.NoChase("self.example")
	for i := range 10 {
		d.CNAME(fmt.Sprintf("c%d.example", i), fmt.Sprintf("c%d.example", i+1))
	}
	d.MX("c10.example", 10, "mx.example")
	d.CNAME("badalias.example", `ev\000il.example`)
	d.CNAME("dangling.example", "nothing.example")
	for asked, want := range map[string]struct {
		kind  Kind
		rcode string
		text  string
	}{
		"null.example":                         {NullMX, "", "accepts no mail"},
		"nulls.example":                        {NullMX, "", "accepts no mail"},
		"unusable.example":                     {NoUsable, "", "no MX record has a usable host name"},
		"none.example":                         {NotFound, "NXDOMAIN", "does not exist, NXDOMAIN from 127.0.0.1:"},
		"dangling.example":                     {NotFound, "NXDOMAIN", "does not exist"},
		"servfail.example":                     {Temporary, "SERVFAIL", "failed, SERVFAIL from 127.0.0.1:"},
		"refused.example":                      {Temporary, "REFUSED", "failed, REFUSED"},
		"notimp.example":                       {Temporary, "NOTIMP", "failed, NOTIMP"},
		"formerr.example":                      {Temporary, "FORMERR", "failed, FORMERR"},
		"odd.example":                          {Temporary, "RCODE14", "failed, RCODE14"},
		"malformed.example":                    {Temporary, "", "failed from 127.0.0.1:"},
		"tc.example":                           {Temporary, "", "truncated over UDP, and over TCP"},
		"loop.example":                         {Temporary, "", "more than 8 aliases"},
		"self.example":                         {Temporary, "", "more than 8 aliases"},
		"c0.example":                           {Temporary, "", "more than 8 aliases"},
		"badalias.example":                     {Temporary, "", "alias (CNAME) for an invalid name"},
		"[192.0.2.1]":                          {NotFound, "", "address literals"},
		"192.0.2.1":                            {NotFound, "", "not a valid domain name"},
		"":                                     {NotFound, "", "not a valid domain name"},
		"a..example":                           {NotFound, "", "not a valid domain name"},
		"a b.example":                          {NotFound, "", "not a valid domain name"},
		"a\x00b.example":                       {NotFound, "", "not a valid domain name"},
		"\u200d.example":                       {NotFound, "", "cannot be converted to A-labels"},
		"\xff.example":                         {NotFound, "", "not UTF-8"},
		strings.Repeat("a.", 130) + "example":  {NotFound, "", "not a valid domain name"},
		strings.Repeat("ü", 60) + ".example":   {NotFound, "", "not a valid domain name"},
		strings.Repeat("a", 5000) + ".example": {NotFound, "", "too long"},
	} {
		_, err := newResolver(t, d.Addr()).Route(t.Context(), asked)
		e := wantKind(t, err, want.kind)
		if e.Rcode != want.rcode || e.Type != "MX" || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%.60q: rcode %q, type %q, text %q; want %q, %q", asked, e.Rcode, e.Type, err, want.rcode, want.text)
		}
		if len(err.Error()) > 1000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%.60q: text of %d bytes: %q", asked, len(err.Error()), err)
		}
		if e.Temporary() != (want.kind == Temporary || want.kind == NoUsable) {
			t.Errorf("%.60q: Temporary is %v", asked, e.Temporary())
		}
	}
	// Eight aliases are still followed.
	if got, err := newResolver(t, d.Addr()).Route(t.Context(), "c2.example"); err != nil || got.Name != "c10.example" {
		t.Errorf("eight aliases: %+v, %v", got, err)
	}
}

func TestRouteBounds(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for i := range 300 {
		d.MX("many.example", uint16(300-i), fmt.Sprintf("mx%d.many.example", i))
	}
	got, err := newResolver(t, d.Addr()).Route(t.Context(), "many.example")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Hosts) != maxHosts || got.Hosts[0].Preference != 1 || got.Hosts[99].Preference != 100 {
		t.Errorf("%d hosts, from %+v to %+v", len(got.Hosts), got.Hosts[0], got.Hosts[len(got.Hosts)-1])
	}
	// The answer came over TCP, since it does not fit into a UDP packet.
	if queries := d.Queries(); !slices.Equal(queries, []string{"MX many.example.", "MX many.example."}) {
		t.Errorf("queries: %q", queries)
	}
}

func TestEqualPreferencesAreShuffled(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		hosts := inOrder([]Host{{Name: "z", Preference: 5}, {Name: "a"}, {Name: "b"}, {Name: "c"}})
		if hosts[3].Name != "z" {
			t.Fatalf("order: %v", hosts)
		}
		seen[hosts[0].Name+hosts[1].Name+hosts[2].Name] = true
	}
	if len(seen) != 6 {
		t.Errorf("orders seen: %v", seen)
	}
}

func TestAuthentic(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("signed.example", 10, "mx.signed.example")
	d.A("mx.signed.example", "192.0.2.1", "2001:db8::1")
	d.A("implicit.example", "192.0.2.1")
	d.CNAME("half.example", "signed.example")
	d.CNAME("whole.example", "signed.example")
	d.CNAME("halfmx.example", "mx.signed.example")
	d.CNAME("step.example", "signed.example")
	d.NoChase("step.example")
	d.CNAME("badstep.example", "unsigned.example")
	d.NoChase("badstep.example")
	d.MX("unsigned.example", 10, "mx.signed.example")
	for _, name := range []string{
		"signed.example", "mx.signed.example", "implicit.example", "whole.example", "step.example", "badstep.example",
	} {
		d.Authentic(name)
	}
	r := newResolver(t, d.Addr())
	for domain, want := range map[string]bool{
		"signed.example": true, "implicit.example": true, "whole.example": true, "step.example": true,
		"half.example": false, "badstep.example": false, "unsigned.example": false,
	} {
		if got, err := r.Route(t.Context(), domain); err != nil || got.Authentic != want {
			t.Errorf("%s: authentic %v, %v", domain, got.Authentic, err)
		}
	}
	for host, want := range map[string]bool{"mx.signed.example": true, "halfmx.example": false} {
		got, err := r.Addresses(t.Context(), host, false)
		if err != nil || got.Authentic != want || got.Name != "mx.signed.example" {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
	// A lookup that fails cannot make the other look unsigned.
	d.FailType("mx.signed.example", dns.TypeAAAA, dns.RcodeServerFailure)
	if got, err := newResolver(t, d.Addr()).Addresses(t.Context(), "mx.signed.example", false); err != nil || !got.Authentic {
		t.Errorf("with AAAA failing: %+v, %v", got, err)
	}
}

func TestWithoutSelf(t *testing.T) {
	t.Parallel()
	hosts := []Host{{Name: "a.example", Preference: 10}, {Name: "b.example", Preference: 20},
		{Name: "c.example", Preference: 20}, {Name: "xn--bcher-kva.example", Preference: 30}}
	for self, want := range map[string]struct {
		kept  int
		loops bool
	}{
		"other.example": {4, false}, "A.example.": {0, true}, "b.example": {1, false}, "C.EXAMPLE": {1, false},
		"bücher.example": {3, false}, "": {4, false}, "not a name": {4, false},
	} {
		kept, loops := WithoutSelf(hosts, self)
		if len(kept) != want.kept || loops != want.loops || !slices.Equal(kept, hosts[:want.kept]) {
			t.Errorf("%q: %v, %v", self, kept, loops)
		}
	}
	if kept, loops := WithoutSelf(nil, "a.example"); len(kept) != 0 || loops {
		t.Errorf("no hosts: %v, %v", kept, loops)
	}
	if hosts[0].Name != "a.example" || hosts[3].Preference != 30 {
		t.Errorf("the list was changed: %v", hosts)
	}
}
