// Package internet tells addresses on the Internet from those in our own network.
//
// Where a policy host is, or who takes a report, a domain's owner says, who may be
// anybody and may name any address. What is not on the Internet is in our own
// network or nowhere, and connecting to it would be done for somebody who cannot
// reach it himself. Ask about the address that is dialled, not about a name, which
// may mean another address the next time.
package internet

import "net/netip"

// internal4 are the IPv4 networks that are not of the Internet at large (IANA's
// registry of special-purpose addresses, RFC 6890).
var internal4 = prefixes(
	"0.0.0.0/8",       // this network, unspecified
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // shared with the provider (CGNAT)
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local: metadata of cloud machines
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays, given up
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, broadcast
)

// global6 is the one part of IPv6 that is given out for use on the Internet.
// Outside are loopback, unspecified, mapped IPv4, private (ULA), link-local and
// multicast addresses, and those of NAT64.
var global6 = netip.MustParsePrefix("2000::/3")

// internal6 are the exceptions in global6.
var internal6 = prefixes(
	"2001::/23",     // protocol assignments: Teredo, benchmarks, ORCHID
	"2001:db8::/32", // documentation
	"2002::/16",     // 6to4, an IPv4 address inside
	"3fff::/20",     // documentation
)

// nat64 is where networks without IPv4 see the hosts that have nothing else; the
// IPv4 address is at the end (RFC 6052, 2.1).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Public tells whether an address is on the Internet.
func Public(ip netip.Addr) bool {
	switch {
	case ip.Zone() != "":
		return false
	case ip.Is4():
		return !within(internal4, ip)
	case nat64.Contains(ip):
		bytes := ip.As16()
		return Public(netip.AddrFrom4([4]byte(bytes[12:])))
	default:
		return global6.Contains(ip) && !within(internal6, ip)
	}
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}
