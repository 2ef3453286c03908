package internet

import (
	"errors"
	"net/netip"
)

// Admission is which addresses an operator lets be dialled that a stranger may have
// named. Those on the Internet always are. The zero value admits no others.
type Admission struct {
	All      bool           // every address
	Networks []netip.Prefix // these besides
}

// Admits reports whether an address may be dialled.
func (a Admission) Admits(ip netip.Addr) bool {
	return a.All || Public(ip) || within(a.Networks, ip)
}

// Errors of Network.
var (
	errNoNetwork = errors.New("a network such as 10.1.0.0/16 or an address")
	errPublic    = errors.New("a network that is not on the Internet, whose addresses are not held back")
)

// Network reads a network, or the address of one host, that is not on the Internet.
// The error says what was expected.
func Network(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return netip.Prefix{}, errNoNetwork
		}
		network = netip.PrefixFrom(ip, ip.BitLen())
	}
	switch {
	case network.Addr().Is4In6(): // DNS has no such address that is used
		return netip.Prefix{}, errNoNetwork
	case network != network.Masked():
		return netip.Prefix{}, errors.New(network.Masked().String() + ", whose first address this is not")
	case Public(network.Addr()):
		return netip.Prefix{}, errPublic
	}
	return network, nil
}
