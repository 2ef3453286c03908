package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A record is a stranger's: its https URI may name a host of ours. So reports go
// to addresses of the public Internet only, unless the operator allows others.
// What is checked is the address that is dialled, not a name that may change its
// mind between two look-ups.

// unreachable lists what the methods of netip.Addr do not know of: blocks that are
// not globally reachable (RFC 6890 and the IANA registries it began), and those
// that hide an IPv4 address in an IPv6 one.
var unreachable = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
	"2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// public reports whether an address is one of the public Internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false // also loopback, link-local, multicast, unspecified
	}
	for _, p := range unreachable {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// connectTimeout bounds one connection to one address.
const connectTimeout = 15 * time.Second

// maxDialled is how many addresses of a host are tried.
const maxDialled = 4

// dial connects to a host through the configured resolver and the guard.
func (r *Reporter) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ips, err := r.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTimeout, Control: r.guard}
	var failure error
	for _, ip := range ips[:min(len(ips), maxDialled)] {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			return conn, nil
		}
		failure = err
	}
	return nil, failure
}

func (r *Reporter) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	found, err := r.cfg.Resolver.Addresses(ctx, host, false)
	return found.IPs, err
}

var errNotPublic = errors.New("is not an address of the public Internet")

// guard is asked by the dialer for each address that it is about to connect to.
func (r *Reporter) guard(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !r.cfg.AllowPrivate && !public(to.Addr()) {
		return fmt.Errorf("%v %w", to.Addr(), errNotPublic)
	}
	return nil
}
