package route

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"github.com/miekg/dns"
	"github.com/mjl-/adns"
)

// maxTLSA and maxTLSABytes bound what is taken of the TLSA records of one name.
// Postfix takes a hundred; nobody has ten. A record that holds a whole certificate
// is a few kilobytes.
const (
	maxTLSA      = 100
	maxTLSABytes = 64 << 10
)

// TLSA is what is published about the certificates of one port of a host.
type TLSA struct {
	Base    string      // TLSA base domain: the records are at _port._tcp.Base, or an alias of that
	Records []adns.TLSA // sorted, shared by all who ask, not to be changed; empty if there are none
	// Authentic tells that the records, or their absence, were authenticated,
	// aliases included. Records that are not are worth nothing.
	Authentic bool
}

// TLSA finds the TLSA records for a TCP port at a base domain (RFC 6698,
// section 3). No records are no error. An error is an *Error: Temporary if it
// could not be found out, NotFound if DNS cannot hold the name.
func (r *Resolver) TLSA(ctx context.Context, base string, port int) (TLSA, error) {
	name, err := toASCII(base)
	if err == nil {
		name, err = toASCII("_" + strconv.Itoa(port) + "._tcp." + name)
	}
	if err != nil {
		return TLSA{}, &Error{Kind: NotFound, Name: base, Type: "TLSA", Err: err}
	}
	found, err := r.lookup(ctx, question{name, dns.TypeTLSA})
	if err != nil {
		return TLSA{}, err
	}
	return TLSA{Base: base, Records: found.tlsa, Authentic: found.authentic}, nil
}

// HostTLSA finds the TLSA records that count for an MX host, whose name and
// addresses were looked up before, by the rules of RFC 7672, section 2.2.2: at
// the name that the host is an alias of, if all of the way there is authentic,
// and else, or if there is nothing, at the host's own name. Records are only
// asked for where the host's name is authentic itself; from elsewhere they would
// be worth nothing, and some servers of unsigned zones do not even answer.
//
// The zero TLSA says that there is none. An error is an *Error of kind Temporary:
// nobody can say now whether the host has records, so it must not be used.
func (r *Resolver) HostTLSA(ctx context.Context, host string, at Addresses, port int) (TLSA, error) {
	var bases []string
	switch {
	case at.Authentic && at.Name != host:
		bases = []string{at.Name, host}
	case at.Authentic:
		bases = []string{host}
	case at.Name != host:
		// The alias may be authentic where its target is not.
		found, err := r.lookup(ctx, question{host, dns.TypeCNAME})
		if err != nil {
			return TLSA{}, err
		}
		if found.authentic && !found.empty {
			bases = []string{host}
		}
	}
	for _, base := range bases {
		found, err := r.TLSA(ctx, base, port)
		var failure *Error
		if errors.As(err, &failure) && failure.Kind == NotFound {
			continue // The name is so long that DNS has no room for the label of the port.
		}
		if err != nil {
			return TLSA{}, err
		}
		if found.Authentic && len(found.Records) > 0 {
			return found, nil
		}
	}
	return TLSA{}, nil
}

// tlsaOf reads TLSA records, in an order that does not change when servers turn
// them around: those of usage 3 first, which are checked in no time. What goes
// beyond the bounds loses its data, and so its use, but is not taken for absent.
func tlsaOf(records []dns.RR) []adns.TLSA {
	var found []adns.TLSA
	for _, rr := range records {
		tlsa, ok := rr.(*dns.TLSA)
		if !ok {
			continue
		}
		data, err := hex.DecodeString(tlsa.Certificate)
		if err != nil {
			data = nil
		}
		found = append(found, adns.TLSA{
			Usage:     adns.TLSAUsage(tlsa.Usage),
			Selector:  adns.TLSASelector(tlsa.Selector),
			MatchType: adns.TLSAMatchType(tlsa.MatchingType),
			CertAssoc: data,
		})
	}
	slices.SortFunc(found, func(a, b adns.TLSA) int {
		return cmp.Or(cmp.Compare(b.Usage, a.Usage), cmp.Compare(b.Selector, a.Selector),
			cmp.Compare(b.MatchType, a.MatchType), bytes.Compare(a.CertAssoc, b.CertAssoc))
	})
	found = slices.CompactFunc(found, func(a, b adns.TLSA) bool {
		return a.Usage == b.Usage && a.Selector == b.Selector && a.MatchType == b.MatchType && bytes.Equal(a.CertAssoc, b.CertAssoc)
	})
	found = slices.Clone(found[:min(len(found), maxTLSA)])
	left := maxTLSABytes
	for i := range found {
		if left -= len(found[i].CertAssoc); left < 0 {
			found[i].CertAssoc, left = nil, 0
		}
	}
	return found
}
