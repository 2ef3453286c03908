package route

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"

	"github.com/miekg/dns"
)

// maxHosts is how many MX hosts are considered, the most preferred ones.
const maxHosts = 100

// Host is one mail exchanger.
type Host struct {
	Name       string // A-labels, lower case, no final dot; a valid host name
	Preference uint16 // lower is tried first
	Implicit   bool   // the domain itself, for lack of MX records
}

// Route is where mail for a domain goes.
type Route struct {
	Domain string // the domain asked for, as A-labels
	Name   string // where its MX records are: Domain, or what it is an alias of
	Hosts  []Host // in the order to try them, equal preferences shuffled; never empty
	// Authentic tells that the MX records, or for an implicit MX their absence,
	// were authenticated, aliases included.
	Authentic bool
}

// Route finds the hosts for a domain, given in U- or A-labels. An error is an
// *Error: NotFound where the domain does not exist or cannot, NullMX, NoUsable,
// or Temporary. Whether an implicit host has an address shows in Addresses.
func (r *Resolver) Route(ctx context.Context, domain string) (Route, error) {
	name, err := toASCII(domain)
	if err != nil {
		return Route{}, &Error{Kind: NotFound, Name: domain, Type: "MX", Err: err}
	}
	found, err := r.lookup(ctx, question{name, dns.TypeMX})
	if err != nil {
		return Route{}, err
	}
	failed := func(kind Kind, rcode string) (Route, error) {
		return Route{}, &Error{Kind: kind, Name: name, Type: "MX", Rcode: rcode, Server: found.server}
	}
	if !found.exists {
		return failed(NotFound, rcodeText(dns.RcodeNameError))
	}
	route := Route{Domain: name, Name: found.name, Authentic: found.authentic}
	switch {
	case found.empty:
		// RFC 5321, 5.1. The host keeps the name that mail was addressed to, which is
		// the one its certificate should have; Addresses follows the aliases.
		route.Hosts = []Host{{Name: name, Implicit: true}}
	case found.null:
		return failed(NullMX, "")
	case len(found.hosts) == 0:
		return failed(NoUsable, "")
	default:
		route.Hosts = shuffled(found.hosts)
	}
	return route, nil
}

// hostsOf reads MX records and drops those whose target is no host name. null
// tells that there are null MX records and nothing else: beside others they are
// ignored (RFC 7505, section 3).
func hostsOf(records []dns.RR) (hosts []Host, null bool) {
	nulls := 0
	for _, rr := range records {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		if mx.Mx == "." {
			nulls++
		} else if name, ok := hostName(mx.Mx); ok {
			hosts = append(hosts, Host{Name: name, Preference: mx.Preference})
		}
	}
	return hosts, nulls > 0 && nulls == len(records)
}

// inOrder sorts by preference, keeps each host once, where it is preferred most,
// and cuts what is too many; where the cut falls among equals, chance decides.
func inOrder(hosts []Host) []Host {
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(a.Preference, b.Preference) })
	seen := make(map[string]bool, len(hosts))
	hosts = slices.DeleteFunc(hosts, func(h Host) bool {
		again := seen[h.Name]
		seen[h.Name] = true
		return again
	})
	// A copy, since the list is kept and the rest of a long one should not be.
	return slices.Clone(hosts[:min(len(hosts), maxHosts)])
}

// shuffled returns a copy of a list in order, equal preferences shuffled
// (RFC 5321, 5.1).
func shuffled(hosts []Host) []Host {
	hosts = slices.Clone(hosts)
	for i := 0; i < len(hosts); {
		end := i + 1
		for end < len(hosts) && hosts[end].Preference == hosts[i].Preference {
			end++
		}
		equals := hosts[i:end]
		rand.Shuffle(len(equals), func(a, b int) { equals[a], equals[b] = equals[b], equals[a] })
		i = end
	}
	return hosts
}

// WithoutSelf drops ourselves, known as self, and all hosts of the same or a
// greater preference number (RFC 5321, 5.1): mail that we relay to one of those
// could come back to us. loops tells that nothing is left: mail for the domain
// should have ended here. hosts is in order of preference and not changed.
func WithoutSelf(hosts []Host, self string) (kept []Host, loops bool) {
	name, err := toASCII(self)
	if err != nil {
		return hosts, false
	}
	for _, host := range hosts {
		if host.Name != name {
			continue
		}
		kept = slices.Clone(hosts)
		kept = slices.DeleteFunc(kept, func(h Host) bool { return h.Preference >= host.Preference })
		return kept, len(kept) == 0
	}
	return hosts, false
}
