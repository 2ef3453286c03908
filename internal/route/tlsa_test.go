package route

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

// hostTLSA looks up addresses and TLSA records of a host, as delivery does.
func hostTLSA(t *testing.T, r *Resolver, host string) (TLSA, error) {
	t.Helper()
	at, err := r.Addresses(t.Context(), host, false)
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	return r.HostTLSA(t.Context(), host, at, 25)
}

// TestTLSABase: where TLSA records are looked for, and which count
// (RFC 7672, section 2.2.2).
func TestTLSABase(t *testing.T) {
	t.Parallel()
	const (
		own    = "TLSA _25._tcp.mx.test."
		target = "TLSA _25._tcp.target.test."
		alias  = "CNAME mx.test."
	)
	at := func(base string) func(*mailtest.DNS) {
		return func(d *mailtest.DNS) { d.TLSA("_25._tcp."+base, 3, 1, 1, make([]byte, 32)) }
	}
	secure := func(names ...string) func(*mailtest.DNS) {
		return func(d *mailtest.DNS) {
			for _, name := range names {
				d.Authentic(name)
			}
		}
	}
	aliased := func(d *mailtest.DNS) {
		d.CNAME("mx.test", "target.test")
		d.A("target.test", "192.0.2.1")
	}
	plain := func(d *mailtest.DNS) { d.A("mx.test", "192.0.2.1", "2001:db8::1") }
	fail := func(name string, qtype uint16) func(*mailtest.DNS) {
		return func(d *mailtest.DNS) { d.FailType(name, qtype, dns.RcodeServerFailure) }
	}
	for name, c := range map[string]struct {
		zone  []func(*mailtest.DNS)
		base  string   // "" for none
		asked []string // of TLSA and CNAME
		fails bool
	}{
		"signed":                 {zone: []func(*mailtest.DNS){plain, secure("mx.test", "_25._tcp.mx.test"), at("mx.test")}, base: "mx.test", asked: []string{own}},
		"signed, none published": {zone: []func(*mailtest.DNS){plain, secure("mx.test", "_25._tcp.mx.test")}, asked: []string{own}},
		"signed, none published, the denial is not signed": {zone: []func(*mailtest.DNS){plain, secure("mx.test")}, asked: []string{own}},
		"signed, records are not":                          {zone: []func(*mailtest.DNS){plain, secure("mx.test"), at("mx.test")}, asked: []string{own}},
		"addresses not signed, records are":                {zone: []func(*mailtest.DNS){plain, secure("_25._tcp.mx.test"), at("mx.test")}},
		"addresses not signed, TLSA fails":                 {zone: []func(*mailtest.DNS){plain, fail("_25._tcp.mx.test", dns.TypeTLSA)}},
		"signed, TLSA fails":                               {zone: []func(*mailtest.DNS){plain, secure("mx.test"), fail("_25._tcp.mx.test", dns.TypeTLSA)}, asked: []string{own, own}, fails: true},
		"signed, AAAA fails": {zone: []func(*mailtest.DNS){plain, fail("mx.test", dns.TypeAAAA), secure("mx.test", "_25._tcp.mx.test"), at("mx.test")},
			base: "mx.test", asked: []string{own}},
		"records behind an alias": {zone: []func(*mailtest.DNS){plain, secure("mx.test", "_25._tcp.mx.test", "tlsa.test"),
			func(d *mailtest.DNS) {
				d.CNAME("_25._tcp.mx.test", "tlsa.test")
				d.TLSA("tlsa.test", 3, 1, 1, make([]byte, 32))
			}}, base: "mx.test", asked: []string{own}},
		"records behind an alias that is not signed": {zone: []func(*mailtest.DNS){plain, secure("mx.test", "tlsa.test"),
			func(d *mailtest.DNS) {
				d.CNAME("_25._tcp.mx.test", "tlsa.test")
				d.TLSA("tlsa.test", 3, 1, 1, make([]byte, 32))
			}}, asked: []string{own}},
		"alias, records at its target": {zone: []func(*mailtest.DNS){aliased, secure("mx.test", "target.test", "_25._tcp.target.test", "_25._tcp.mx.test"),
			at("mx.test"), at("target.test")}, base: "target.test", asked: []string{target}},
		"alias, records at its own name": {zone: []func(*mailtest.DNS){aliased, secure("mx.test", "target.test", "_25._tcp.target.test", "_25._tcp.mx.test"),
			at("mx.test")}, base: "mx.test", asked: []string{target, own}},
		"alias, those at its target are not signed": {zone: []func(*mailtest.DNS){aliased, secure("mx.test", "target.test", "_25._tcp.mx.test"),
			at("mx.test"), at("target.test")}, base: "mx.test", asked: []string{target, own}},
		"alias, lookup at its target fails": {zone: []func(*mailtest.DNS){aliased, secure("mx.test", "target.test", "_25._tcp.mx.test"),
			at("mx.test"), fail("_25._tcp.target.test", dns.TypeTLSA)}, asked: []string{target, target}, fails: true},
		"signed alias of an unsigned name": {zone: []func(*mailtest.DNS){aliased, secure("mx.test", "_25._tcp.mx.test"),
			at("mx.test"), at("target.test")}, base: "mx.test", asked: []string{alias, own}},
		"unsigned alias of a signed name": {zone: []func(*mailtest.DNS){aliased, secure("target.test", "_25._tcp.target.test"),
			at("mx.test"), at("target.test")}, asked: []string{alias}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDNS(t)
			for _, change := range c.zone {
				change(d)
			}
			r := newResolver(t, d.Addr())
			got, err := hostTLSA(t, r, "mx.test")
			if c.fails {
				wantKind(t, err, Temporary)
			} else if err != nil {
				t.Fatal(err)
			}
			if got.Base != c.base || (len(got.Records) > 0) != (c.base != "") || got.Authentic != (c.base != "") {
				t.Errorf("%+v, want those of %q", got, c.base)
			}
			var asked []string
			for _, q := range d.Queries() {
				if strings.HasPrefix(q, "TLSA") || strings.HasPrefix(q, "CNAME") {
					asked = append(asked, q)
				}
			}
			if !slices.Equal(asked, c.asked) {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
			if c.fails {
				return
			}
			before := len(d.Queries())
			if again, err := hostTLSA(t, r, "mx.test"); err != nil && !c.fails || again.Base != got.Base {
				t.Errorf("again: %+v, %v", again, err)
			}
			// A failed AAAA lookup is repeated after a second at the earliest.
			if n := len(d.Queries()) - before; n != 0 {
				t.Errorf("%d questions within the TTL", n)
			}
		})
	}
}

// TestFamiliesDiffer: a host whose IPv4 addresses are signed and whose IPv6
// addresses are not has no TLSA records.
func TestFamiliesDiffer(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(_ int, q *dns.Msg) *dns.Msg {
		var answer []string
		switch q.Question[0].Qtype {
		case dns.TypeA:
			answer = []string{"mx.test. 300 IN A 192.0.2.1"}
		case dns.TypeAAAA:
			answer = []string{"mx.test. 300 IN AAAA 2001:db8::1"}
		default:
			answer = []string{"_25._tcp.mx.test. 300 IN TLSA 3 1 1 " + strings.Repeat("00", 32)}
		}
		reply := replyWith(t, q, answer, nil)
		reply.AuthenticatedData = q.Question[0].Qtype != dns.TypeAAAA
		return reply
	})
	if got, err := hostTLSA(t, newResolver(t, s.addr), "mx.test"); err != nil || len(got.Records) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestTLSARecords: the order does not depend on that of the answer, and what is
// out of bounds is there, without use.
func TestTLSARecords(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.SetAuthenticated(true)
	d.TLSA("_25._tcp.mx.test", 0, 0, 1, []byte{1})
	d.TLSA("_25._tcp.mx.test", 3, 1, 2, []byte{4})
	d.TLSA("_25._tcp.mx.test", 3, 1, 1, []byte{3})
	d.TLSA("_25._tcp.mx.test", 3, 1, 1, []byte{2})
	d.TLSA("_2525._tcp.mx.test", 2, 0, 0, nil)
	for i := range 2 * maxTLSA {
		d.TLSA("_25._tcp.many.test", 3, 1, 1, []byte{byte(i)})
	}
	for i := range 3 {
		d.TLSA("_25._tcp.large.test", 3, 0, 0, slices.Repeat([]byte{byte(i)}, 20<<10))
	}
	r := newResolver(t, d.Addr())
	got, err := r.TLSA(t.Context(), "mx.test", 25)
	var order []string
	for _, record := range got.Records {
		order = append(order, record.Record())
	}
	if want := []string{"3 1 2 04", "3 1 1 02", "3 1 1 03", "0 0 1 01"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("%q, %v; want %q", order, err, want)
	}
	if got, err := r.TLSA(t.Context(), "mx.test", 2525); err != nil || len(got.Records) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := r.TLSA(t.Context(), "many.test", 25); err != nil || len(got.Records) != maxTLSA {
		t.Errorf("%d records, %v", len(got.Records), err)
	}
	if got, err := r.TLSA(t.Context(), "large.test", 25); err != nil || len(got.Records) != 3 {
		t.Errorf("%d records, %v", len(got.Records), err)
	}
	_, err = r.TLSA(t.Context(), strings.Repeat("a.", 120)+"mx.test", 25)
	wantKind(t, err, NotFound)
	_, err = newResolver(t, "127.0.0.1:1").TLSA(t.Context(), "mx.test", 25)
	wantKind(t, err, Temporary)
}

// TestTLSAFromAfar: the AD bit of a resolver that is not on loopback counts for
// nothing, so it is not even asked.
func TestTLSAFromAfar(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.SetAuthenticated(true)
	r := newResolver(t, d.Addr())
	if !r.Validates() {
		t.Error("a resolver on loopback does not count")
	}
	if newResolver(t, "192.0.2.1:53").Validates() || !newResolver(t, "192.0.2.1:53", d.Addr()).Validates() {
		t.Error("a resolver that is not on loopback counts, or keeps one from counting that is")
	}
}

func FuzzTLSA(f *testing.F) {
	f.Add(uint8(3), uint8(1), uint8(1), []byte{1, 2})
	f.Add(uint8(2), uint8(0), uint8(0), []byte{0x30, 0x82})
	f.Add(uint8(255), uint8(255), uint8(255), []byte{})
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		wire := append([]byte{usage, selector, matching}, data...)
		if len(wire) > 60_000 {
			return
		}
		rr, _, err := dns.UnpackRRWithHeader(dns.RR_Header{Name: "a.", Rrtype: dns.TypeTLSA, Class: dns.ClassINET, Rdlength: uint16(len(wire))}, wire, 0)
		if err != nil {
			return
		}
		got := tlsaOf([]dns.RR{rr})
		if len(got) != 1 || string(got[0].CertAssoc) != string(data) || uint8(got[0].Usage) != usage {
			t.Errorf("%x was read as %+v", wire, got)
		}
	})
}
