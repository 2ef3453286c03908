package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.A("both.example", "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2")
	d.A("four.example", "192.0.2.1", "192.0.2.1")
	d.A("six.example", "2001:db8::1")
	d.A("odd.example", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:192.0.2.9", "192.0.2.9")
	d.CNAME("alias.example", "Four.example")
	d.A("half.example", "192.0.2.7")
	d.FailType("half.example", dns.TypeAAAA, dns.RcodeServerFailure)
	d.A("otherhalf.example", "2001:db8::7")
	d.FailType("otherhalf.example", dns.TypeA, dns.RcodeRefused)
	d.A("xn--bcher-kva.example", "192.0.2.8")
	for i := range 20 {
		d.A("many.example", fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%x", i+1))
		d.A("many4.example", fmt.Sprintf("192.0.2.%d", i+1))
	}
	for _, c := range []struct {
		host     string
		ipv4Only bool
		name     string
		ips      string
	}{
		{"both.example", false, "both.example", "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3"},
		{"both.example", true, "both.example", "192.0.2.1 192.0.2.2 192.0.2.3"},
		{"FOUR.example.", false, "four.example", "192.0.2.1"},
		{"six.example", false, "six.example", "2001:db8::1"},
		{"odd.example", false, "odd.example", "192.0.2.9"},
		{"alias.example", false, "four.example", "192.0.2.1"},
		{"half.example", false, "half.example", "192.0.2.7"},
		{"half.example", true, "half.example", "192.0.2.7"},
		{"otherhalf.example", false, "otherhalf.example", "2001:db8::7"},
		{"bücher.example", false, "xn--bcher-kva.example", "192.0.2.8"},
	} {
		got, err := newResolver(t, d.Addr()).Addresses(t.Context(), c.host, c.ipv4Only)
		if err != nil {
			t.Errorf("%s: %v", c.host, err)
			continue
		}
		var ips []string
		for _, ip := range got.IPs {
			ips = append(ips, ip.String())
		}
		if text := strings.Join(ips, " "); text != c.ips || got.Name != c.name || got.Authentic {
			t.Errorf("%s: %s at %s (authentic %v), want %s at %s", c.host, text, got.Name, got.Authentic, c.ips, c.name)
		}
	}
	for host, sixes := range map[string]int{"many.example": 8, "many4.example": 0} {
		got, err := newResolver(t, d.Addr()).Addresses(t.Context(), host, false)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, ip := range got.IPs {
			if ip.Is6() {
				n++
			}
		}
		if len(got.IPs) != maxAddresses || n != sixes {
			t.Errorf("%s: %d addresses, %d of IPv6", host, len(got.IPs), n)
		}
	}
}

func TestAddressesErrors(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("nothing.example", 10, "mx.example")
	d.A("only6.example", "2001:db8::1")
	d.A("unusable.example", "0.0.0.0")
	d.FailType("maybe.example", dns.TypeAAAA, dns.RcodeServerFailure)
	d.Empty("maybe.example")
	d.Fail("down.example", dns.RcodeRefused)
	d.CNAME("loop.example", "loop.example")
	for _, c := range []struct {
		host     string
		ipv4Only bool
		kind     Kind
		text     string
	}{
		{"none.example", false, NotFound, "does not exist, NXDOMAIN"},
		{"nothing.example", false, NotFound, "the name has no address"},
		{"only6.example", true, NotFound, "the name has no address"},
		{"unusable.example", false, NotFound, "the name has no address"},
		{"maybe.example", false, Temporary, "SERVFAIL"},
		{"maybe.example", true, NotFound, "the name has no address"},
		{"down.example", false, Temporary, "REFUSED"},
		{"loop.example", false, Temporary, "aliases"},
		{"192.0.2.1", false, NotFound, "not a valid domain name"},
		{"a\r\nb", false, NotFound, `a\r\nb`},
	} {
		_, err := newResolver(t, d.Addr()).Addresses(t.Context(), c.host, c.ipv4Only)
		if e := wantKind(t, err, c.kind); e.Type != "A/AAAA" || !strings.Contains(e.Error(), c.text) {
			t.Errorf("%q: type %q, text %q, want %q", c.host, e.Type, e, c.text)
		}
	}
}

// With force_ipv4, nobody is asked for IPv6 addresses.
func TestAddressesIPv4OnlyAsksForA(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.A("host.example", "192.0.2.1", "2001:db8::1")
	if _, err := newResolver(t, d.Addr()).Addresses(t.Context(), "host.example", true); err != nil {
		t.Fatal(err)
	}
	if got := d.Queries(); !slices.Equal(got, []string{"A host.example."}) {
		t.Errorf("queries: %q", got)
	}
}
