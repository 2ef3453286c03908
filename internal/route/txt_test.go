package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestTXT(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.TXT("_mta-sts.example.net", "v=STSv1; ", "id=1;")
	d.TXT("_mta-sts.example.net", "another")
	d.CNAME("_smtp._tls.example.net", "_smtp._tls.hosted.example")
	d.TXT("_smtp._tls.hosted.example", "v=TLSRPTv1; rua=mailto:r@hosted.example")
	d.TXT("odd.example", `a\"b\\c\000d\255\195\188 `)
	d.TXT("long.example", strings.Repeat("x", 700))
	d.A("other.example", "192.0.2.1")
	d.Fail("broken.example", dns.RcodeServerFailure)
	for asked, want := range map[string][]string{
		"_mta-sts.example.net":   {"v=STSv1; id=1;", "another"},
		"_MTA-STS.Example.NET.":  {"v=STSv1; id=1;", "another"},
		"_smtp._tls.example.net": {"v=TLSRPTv1; rua=mailto:r@hosted.example"},
		"odd.example":            {"a\"b\\c\x00d\xff\u00fc "},
		"long.example":           {strings.Repeat("x", 700)},
		"other.example":          nil,
		"none.example":           nil,
	} {
		r := newResolver(t, d.Addr())
		got, err := r.TXT(t.Context(), asked)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", asked, got, err, want)
		}
		for i := range got {
			got[i] = "changed by the caller"
		}
		before := len(d.Queries())
		if again, err := r.TXT(t.Context(), asked); err != nil || !slices.Equal(again, want) {
			t.Errorf("%s, again: %q, %v; want %q", asked, again, err, want)
		}
		// The DNS of the test signs absences with the SOA of the root.
		if n := len(d.Queries()) - before; n != 0 {
			t.Errorf("%s: %d questions more", asked, n)
		}
	}
	_, err := newResolver(t, d.Addr()).TXT(t.Context(), "broken.example")
	if e := wantKind(t, err, Temporary); e.Type != "TXT" || e.Rcode != "SERVFAIL" {
		t.Errorf("%+v", e)
	}
	_, err = newResolver(t, d.Addr()).TXT(t.Context(), "_mta-sts."+strings.Repeat("a", 64)+".example")
	wantKind(t, err, NotFound)
}

// Whatever is published, little of it is kept.
func TestTXTBounds(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for i := range 100 {
		d.TXT("many.example", fmt.Sprint(i))
	}
	d.TXT("large.example", strings.Repeat("x", maxTextBytes+1))
	d.TXT("large.example", "small")
	r := newResolver(t, d.Addr())
	if got, err := r.TXT(t.Context(), "many.example"); err != nil || len(got) != maxTexts {
		t.Errorf("%d records, %v", len(got), err)
	}
	if got, err := r.TXT(t.Context(), "large.example"); err != nil || !slices.Equal(got, []string{"small"}) {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func FuzzUnescape(f *testing.F) {
	for _, octets := range []string{"", "v=STSv1; id=1;", `a\b"c`, "\x00\x7f\xff", `\1`, `\12`, `\123`, `\`, "ü"} {
		f.Add(octets)
	}
	f.Fuzz(func(t *testing.T, octets string) {
		if len(octets) > 255 {
			return
		}
		h := dns.RR_Header{Name: "a.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}
		wire := append([]byte{byte(len(octets))}, octets...)
		rr, _, err := dns.UnpackRRWithHeader(dns.RR_Header{Name: h.Name, Rrtype: h.Rrtype, Class: h.Class, Rdlength: uint16(len(wire))}, wire, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := textsOf([]dns.RR{rr}); len(got) != 1 || got[0] != octets {
			t.Errorf("%q was read as %q", octets, got)
		}
		_ = unescape(octets) // Also what no library would hand over.
	})
}
