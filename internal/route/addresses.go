package route

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// maxAddresses bounds the addresses of one host; each may cost a connection
// attempt.
const maxAddresses = 16

// Addresses is where a host is.
type Addresses struct {
	IPs  []netip.Addr // in the order to try them; never empty
	Name string       // the host, or what it is an alias of
	// Authentic tells that the answers used were authenticated, aliases included.
	Authentic bool
}

// Addresses finds the addresses of a host, those of IPv6 and IPv4 in turn,
// beginning with IPv6 (RFC 8305, section 4), or those of IPv4 only. If one of
// the families cannot be looked up, the other serves. An error is an *Error:
// NotFound if there is no address, Temporary if that is not certain.
func (r *Resolver) Addresses(ctx context.Context, host string, ipv4Only bool) (Addresses, error) {
	name, err := toASCII(host)
	if err != nil {
		return Addresses{}, &Error{Kind: NotFound, Name: host, Type: "A/AAAA", Err: err}
	}
	six, four := family{absent: ipv4Only}, family{}
	var sixes inquiry
	if !six.absent {
		sixes = r.inquire(ctx, question{name, dns.TypeAAAA})
	}
	fours := r.inquire(ctx, question{name, dns.TypeA})
	// Both are on their way now.
	if !six.absent {
		six.found, six.err = sixes.wait(ctx)
	}
	four.found, four.err = fours.wait(ctx)
	return merge(name, six, four)
}

// family is the result for one address family.
type family struct {
	absent bool // not asked for
	found  finding
	err    error
}

// usable reads address records, each address once. Addresses to which no
// connection can go, and IPv4 in the guise of IPv6, are left out.
func usable(records []dns.RR) []netip.Addr {
	var ips []netip.Addr
	for _, rr := range records {
		var bytes net.IP
		switch rr := rr.(type) {
		case *dns.A:
			bytes = rr.A.To4()
		case *dns.AAAA:
			bytes = rr.AAAA
		}
		ip, ok := netip.AddrFromSlice(bytes)
		if !ok || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() ||
			ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || slices.Contains(ips, ip) {
			continue
		}
		if ips = append(ips, ip); len(ips) == maxAddresses {
			break
		}
	}
	return ips
}

// merge joins the families.
func merge(name string, six, four family) (Addresses, error) {
	ips := interleave(six.found.ips, four.found.ips)
	if len(ips) == 0 {
		return Addresses{}, noAddress(name, six, four)
	}
	result := Addresses{IPs: ips, Authentic: true}
	for _, f := range []family{six, four} {
		// A family that could not be looked up has no say: otherwise whoever can
		// make one lookup fail could make a signed name look unsigned.
		if f.absent || f.err != nil {
			continue
		}
		result.Authentic = result.Authentic && f.found.authentic
		if len(f.found.ips) > 0 {
			result.Name = f.found.name
		}
	}
	return result, nil
}

// noAddress says why there is none: a family that failed might have had some.
func noAddress(name string, six, four family) error {
	for _, f := range []family{six, four} {
		var failure *Error
		if errors.As(f.err, &failure) {
			temporary := *failure
			temporary.Name, temporary.Type = name, "A/AAAA"
			return &temporary
		}
	}
	failure := &Error{Kind: NotFound, Name: name, Type: "A/AAAA", Server: four.found.server}
	if !four.found.exists {
		failure.Rcode = rcodeText(dns.RcodeNameError)
	} else {
		failure.Err = errors.New("the name has no address")
	}
	return failure
}

// interleave takes from each list in turn, at most maxAddresses in all.
func interleave(first, second []netip.Addr) []netip.Addr {
	if len(first)+len(second) == 0 {
		return nil
	}
	ips := make([]netip.Addr, 0, len(first)+len(second))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			ips = append(ips, first[i])
		}
		if i < len(second) {
			ips = append(ips, second[i])
		}
	}
	return ips[:min(len(ips), maxAddresses)]
}
