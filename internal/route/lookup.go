package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/mjl-/adns"
)

// maxAliases bounds a chain of CNAMEs; longer ones are loops in all but name.
const maxAliases = 8

// finding is the end of a lookup: what is at the end of the chain of aliases. It
// is shared by all who ask, and not changed once it is found.
type finding struct {
	hosts     []Host       // of MX records, in order of preference
	ips       []netip.Addr // of A and AAAA records
	texts     []string     // of TXT records
	tlsa      []adns.TLSA  // of TLSA records
	name      string       // where they are: the name asked, or what it is an alias of
	server    string
	exists    bool // false: name does not exist
	empty     bool // name has no records of the type asked
	null      bool // the MX records say that no mail is taken
	authentic bool // all answers used were
}

// read takes what mail needs from the records of one type.
func (f *finding) read(records []dns.RR, qtype uint16) {
	f.empty = len(records) == 0
	switch qtype {
	case dns.TypeMX:
		f.hosts, f.null = hostsOf(records)
		f.hosts = inOrder(f.hosts)
	case dns.TypeA, dns.TypeAAAA:
		f.ips = usable(records)
	case dns.TypeTLSA:
		f.tlsa = tlsaOf(records)
	case dns.TypeTXT:
		f.texts = textsOf(records)
	}
}

// follow asks for records and follows aliases, also where the resolver leaves
// that to us. ttl is how long the finding may be believed: as long as the
// shortest-lived record that led to it. A failure is of kind Temporary.
func (r *Resolver) follow(ctx context.Context, q question) (f finding, ttl time.Duration, failure *Error) {
	f = finding{name: q.name, exists: true, authentic: true}
	ttl = maxTTL
	fail := func(err error) (finding, time.Duration, *Error) {
		failure := q.failed(err)
		failure.Server = f.server
		return finding{}, 0, failure
	}
	aliases := 0
	for {
		a, failure := r.exchange(ctx, question{f.name, q.qtype})
		if failure != nil {
			return finding{}, 0, failure
		}
		f.server, f.authentic = a.server, f.authentic && a.authentic
		ttl = min(ttl, a.limit)
		start := f.name
		for {
			if records := recordsOf(a.records, f.name, q.qtype); len(records) > 0 {
				f.read(records, q.qtype)
				return f, min(ttl, shortest(records)), nil
			}
			alias := recordsOf(a.records, f.name, dns.TypeCNAME)
			target, ok := aliasOf(alias)
			if !ok {
				break
			}
			ttl = min(ttl, shortest(alias))
			if aliases++; aliases > maxAliases {
				return fail(fmt.Errorf("more than %d aliases (CNAME) in a row", maxAliases))
			}
			if f.name, ok = hostName(target); !ok {
				return fail(errors.New("alias (CNAME) for an invalid name"))
			}
		}
		f.exists = a.rcode != dns.RcodeNameError
		if !f.exists || f.name == start || a.soa != nil {
			f.read(nil, q.qtype)
			return f, min(ttl, denialTTL(a.soa, f.name)), nil
		}
	}
}

// shortest is the lowest TTL of some records. A set whose TTLs differ is as
// short-lived as its first to go (RFC 2181, 5.2).
func shortest(records []dns.RR) time.Duration {
	ttl := maxTTL
	for _, rr := range records {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return ttl
}

// denialTTL is how long an absence may be believed: as long as the SOA record
// says that came with it (RFC 2308, section 5). Without one, or with one that has
// no say over the name, it is good for one use.
func denialTTL(soa *dns.SOA, name string) time.Duration {
	if soa == nil || !dns.IsSubDomain(soa.Hdr.Name, dns.Fqdn(name)) {
		return 0
	}
	return min(maxNegativeTTL, time.Duration(min(soa.Hdr.Ttl, soa.Minttl))*time.Second)
}

// recordsOf picks the records of one type that belong to name.
func recordsOf(records []dns.RR, name string, qtype uint16) []dns.RR {
	var own []dns.RR
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype == qtype && h.Class == dns.ClassINET && sameName(h.Name, name) {
			own = append(own, rr)
		}
	}
	return own
}

// aliasOf is where the first of some CNAME records points.
func aliasOf(records []dns.RR) (target string, ok bool) {
	for _, rr := range records {
		if alias, ok := rr.(*dns.CNAME); ok {
			return alias.Target, true
		}
	}
	return "", false
}

// sameName compares an owner name from DNS with one of ours.
func sameName(owner, name string) bool {
	return lowerASCII(strings.TrimSuffix(owner, ".")) == name
}
