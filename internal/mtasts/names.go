package mtasts

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	recordPrefix = "_mta-sts." // RFC 8461, 3.1
	hostPrefix   = "mta-sts."  // RFC 8461, 3.3

	maxLabel = 63
	// maxDomain leaves room for recordPrefix in a name of 253 octets (RFC 1035, 3.1).
	maxDomain = 253 - len(recordPrefix)
)

// lookupProfile converts U-labels as internal/route does for MX records.
var lookupProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// policyDomain turns a domain in U- or A-labels into the form in which policies
// are kept: A-labels, lower case, no final dot. Not ok is what cannot have a
// policy: address literals, and what is no domain at all.
func policyDomain(domain string) (name string, ok bool) {
	domain = strings.TrimSuffix(domain, ".")
	if len(domain) > 4*maxDomain || !utf8.ValidString(domain) {
		return "", false
	}
	for i := range len(domain) {
		if c := domain[i]; c >= utf8.RuneSelf || lower(c) != c {
			ascii, err := lookupProfile.ToASCII(domain)
			if err != nil {
				return "", false
			}
			domain = strings.TrimSuffix(ascii, ".")
			break
		}
	}
	return domain, len(domain) <= maxDomain && validName(domain)
}

// validName tells whether a name is one of a host: lower case letters, digits,
// hyphens and, since they occur, underscores, in labels that are neither empty
// nor too long, the last of them no number (RFC 1123, 2.1).
func validName(name string) bool {
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return false
		}
		last = label
	}
	return len(name) <= 253 && strings.Trim(last, "0123456789") != ""
}

func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
