package mtasts

import (
	"strings"

	"tlscontrol/internal/route"
)

const (
	recordPrefix = "_mta-sts." // RFC 8461, 3.1
	hostPrefix   = "mta-sts."  // RFC 8461, 3.3

	// maxDomain leaves room for recordPrefix in a name of 253 octets (RFC 1035, 3.1).
	maxDomain = 253 - len(recordPrefix)
)

// policyDomain turns a domain in U- or A-labels into the form in which policies
// are kept: A-labels, lower case, no final dot. Not ok is what cannot have a
// policy: address literals, and what is no domain at all.
func policyDomain(domain string) (name string, ok bool) {
	name, err := route.ASCII(strings.TrimSuffix(domain, "."))
	return name, err == nil && len(name) <= maxDomain
}

// validName tells whether a name in lower case is one of a host.
func validName(name string) bool {
	ascii, err := route.ASCII(name)
	return err == nil && ascii == name
}
