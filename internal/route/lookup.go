package route

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAMEs; longer ones are loops in all but name.
const maxAliases = 8

// finding is the end of a lookup: the records at the end of the chain of aliases.
type finding struct {
	records   []dns.RR // of the type asked; none: name exists without them
	name      string   // where they are: the name asked, or what it is an alias of
	exists    bool     // false: name does not exist
	authentic bool     // all answers used were
	server    string
}

// lookup asks for records and follows aliases, also where the resolver leaves
// that to us. Errors are *Error of kind Temporary.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (finding, error) {
	f := finding{name: name, exists: true, authentic: true}
	fail := func(err error) (finding, error) {
		return finding{}, &Error{
			Kind: Temporary, Name: name, Type: dns.TypeToString[qtype], Server: f.server, Err: err,
		}
	}
	aliases := 0
	for {
		a, err := r.exchange(ctx, f.name, qtype)
		if err != nil {
			return finding{}, err
		}
		f.server, f.authentic = a.server, f.authentic && a.authentic
		start := f.name
		for {
			if f.records = recordsOf(a.records, f.name, qtype); len(f.records) > 0 {
				return f, nil
			}
			target, ok := aliasOf(a.records, f.name)
			if !ok {
				break
			}
			if aliases++; aliases > maxAliases {
				return fail(fmt.Errorf("more than %d aliases (CNAME) in a row", maxAliases))
			}
			if f.name, ok = hostName(target); !ok {
				return fail(errors.New("alias (CNAME) for an invalid name"))
			}
		}
		if a.rcode == dns.RcodeNameError {
			f.exists = false
			return f, nil
		}
		if f.name == start || a.negative {
			return f, nil
		}
	}
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

func aliasOf(records []dns.RR, name string) (target string, ok bool) {
	for _, rr := range recordsOf(records, name, dns.TypeCNAME) {
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
