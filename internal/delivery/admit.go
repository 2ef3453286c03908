package delivery

import (
	"net/netip"
	"strings"

	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// What a host's addresses are, its owner says, who may be anybody and may name hosts
// of our own network, which he cannot reach himself. Here those are taken out that
// the operator does not want to be dialled. Addresses are dialled as they stand in
// this list, names never are: nothing can change between the check and the dial.

// admitted leaves the addresses of a host that may be dialled. A host all of whose
// addresses are unwanted is one without an address, and may be mended as such.
func (d *run) admitted(g *group, h route.Host, at route.Addresses) (route.Addresses, bool) {
	if d.e.cfg.Admits == nil {
		return at, true
	}
	var wanted, unwanted []netip.Addr
	for _, ip := range at.IPs {
		if d.e.cfg.Admits(ip) {
			wanted = append(wanted, ip)
		} else {
			unwanted = append(unwanted, ip)
		}
	}
	if len(unwanted) == 0 {
		return at, true
	}
	for _, ip := range unwanted {
		g.hosts = append(g.hosts, HostFailure{Host: h.Name, IP: ip, Reason: tlsplan.MXLookup, Text: unwantedText, Unwanted: true})
	}
	if at.IPs = wanted; len(wanted) > 0 {
		return at, true
	}
	f := failf(451, [3]int{4, 4, 4}, tlsplan.MXLookup, unwantedError(unwanted), "The mail host %s has no address that may be used", h.Name)
	d.troubled(f.Reason, true)
	g.blame(f, nil)
	return route.Addresses{}, false
}

// unwantedText names the directive, for whoever wonders.
const unwantedText = "the address is not on the Internet, and allow_private does not admit it"

type unwantedError []netip.Addr

func (u unwantedError) Error() string {
	words := make([]string, len(u))
	for i, ip := range u {
		words[i] = ip.String()
	}
	return "not on the Internet, and not admitted by allow_private: " + strings.Join(words, " ")
}
