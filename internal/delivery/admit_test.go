package delivery_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/internet"
	"tlscontrol/internal/tlsplan"
)

const noAddress = "451 4.4.4 mx-lookup"

// dialBook remembers where connections went.
type dialBook struct {
	mu  sync.Mutex
	ips []string
}

func (d *dialBook) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	d.mu.Lock()
	d.ips = append(d.ips, host)
	d.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// guarded is a world whose engine dials public addresses only, and those of the
// hosts that are admitted.
func guarded(t *testing.T, dane bool, admit ...int) (*world, *dialBook) {
	t.Helper()
	var w *world
	seen := &dialBook{}
	ours := func(ip netip.Addr) bool {
		return slices.ContainsFunc(admit, func(i int) bool { return w.mx[i].IP() == ip.String() })
	}
	w = newWorld(t, func(c *delivery.Config) {
		c.Dial, c.DANE = seen.dial, dane
		c.Admits = func(ip netip.Addr) bool { return internet.Admission{}.Admits(ip) || ours(ip) }
	}, good(), good())
	return w, seen
}

// Addresses that the operator does not want are not dialled, however a domain leads
// to them; a host that has others is used at those.
func TestUnwantedAddresses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		admit []int
		zone  func(w *world)
		want  string
		hosts int // listed as given up, of which those with an address are unwanted
	}{
		"both hosts":   {nil, nil, noAddress, 2},
		"the first":    {[]int{1}, nil, "delivered", 1},
		"neither":      {[]int{0, 1}, nil, "delivered", 0},
		"the domain":   {nil, func(w *world) { w.dns.Remove("example.net"); w.dns.A("example.net", w.mx[0].IP()) }, noAddress, 1},
		"some of many": {[]int{0}, func(w *world) { w.dns.A("mx1.test", "127.255.255.254", "10.0.0.1", "::1", "fd00::1") }, "delivered", 4},
		"behind an alias": {nil, func(w *world) {
			w.dns.Remove("mx1.test")
			w.dns.Remove("mx2.test")
			w.dns.CNAME("mx1.test", "inside.test")
			w.dns.CNAME("mx2.test", "inside.test")
			w.dns.A("inside.test", w.mx[0].IP())
		}, noAddress, 2},
		"NAT64": {nil, func(w *world) {
			w.dns.Remove("mx1.test")
			w.dns.Remove("mx2.test")
			w.dns.A("mx1.test", "64:ff9b::7f00:1")
			w.dns.A("mx2.test", "64:ff9b::a9fe:a9fe")
		}, noAddress, 2},
		"IPv4 in the guise of IPv6": {nil, func(w *world) {
			for _, host := range []string{"mx1.test", "mx2.test"} {
				w.dns.Remove(host)
				if err := w.dns.Add(host + ". 60 IN AAAA ::ffff:127.0.0.1"); err != nil {
					w.Fatal(err)
				}
			}
		}, noAddress, 2},
	} {
		for _, dane := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, seen := guarded(t, dane, tt.admit...)
				if tt.zone != nil {
					tt.zone(w)
				}
				if got := code(w.sendOne()); got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
				a := w.last()
				if len(a.Hosts) != tt.hosts {
					t.Errorf("hosts %+v, want %d", a.Hosts, tt.hosts)
				}
				for _, h := range a.Hosts {
					if h.IP.IsValid() != h.Unwanted || h.Reason != tlsplan.MXLookup || slices.Contains(seen.ips, h.IP.String()) {
						t.Errorf("host %+v, dialled %q", h, seen.ips)
					}
				}
				if tt.want == "delivered" == (len(seen.ips) == 0) {
					t.Errorf("dialled %q", seen.ips)
				}
			})
		}
	}
}

// An explanation says the same, whether it looks at the hosts or not.
func TestExplainUnwanted(t *testing.T) {
	t.Parallel()
	for _, probe := range []bool{false, true} {
		w, seen := guarded(t, false, 1)
		x, err := w.Explain(context.Background(), delivery.Question{Message: message("b@example.net"), Probe: probe})
		if err != nil {
			t.Fatal(err)
		}
		first := x.Hosts[0]
		if x.Via != 1 || code(first.Failure) != noAddress || len(first.GaveUp) != 1 || !first.GaveUp[0].Unwanted {
			t.Errorf("via %d, first host %+v", x.Via, first)
		}
		if slices.Contains(seen.ips, w.mx[0].IP()) {
			t.Errorf("dialled %q", seen.ips)
		}
	}
}
