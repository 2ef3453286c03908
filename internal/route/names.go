package route

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // RFC 1035, 3.1: 255 octets on the wire
	maxLabel = 63
)

// lookupProfile converts U-labels as browsers and mail servers do (UTS 46, not
// transitional). Underscores and odd hyphens pass: such names exist in DNS, and
// hostName judges them.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// ASCII returns a domain as users write it, in U- or A-labels, in the form in
// which it is looked up: A-labels, lower case, no final dot.
func ASCII(domain string) (string, error) { return toASCII(domain) }

// toASCII turns a domain as users write it, in U- or A-labels, into the form in
// which it is asked for: A-labels, lower case, no final dot.
func toASCII(domain string) (string, error) {
	if len(domain) > 4*maxName {
		return "", errors.New("the name is too long")
	}
	if !utf8.ValidString(domain) {
		// The conversion would put a replacement character into the name.
		return "", errors.New("the name is not UTF-8")
	}
	if strings.HasPrefix(domain, "[") {
		return "", errors.New("mail to address literals is not supported")
	}
	ascii := domain
	for i := range len(domain) {
		if domain[i] >= 0x80 {
			var err error
			if ascii, err = lookupProfile.ToASCII(domain); err != nil {
				return "", fmt.Errorf("the name cannot be converted to A-labels: %w", err)
			}
			break
		}
	}
	name, ok := hostName(ascii)
	if !ok {
		return "", errors.New("the name is not a valid domain name")
	}
	return name, nil
}

// hostName returns a name from DNS in lower case and without the final dot. It
// refuses what is no host name: octets other than letters, digits, hyphen and
// underscore, empty and overlong labels, hyphens at the ends of a label, and
// names whose last label is a number, which is how an IPv4 address looks
// (RFC 1123, 2.1).
func hostName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return "", false
	}
	name = lowerASCII(name)
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "", false
		}
		last = label
	}
	return name, strings.Trim(last, "0123456789") != ""
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

// lowerASCII lowers A to Z alone: strings.ToLower would turn some letters
// outside ASCII (the Kelvin sign) into ASCII ones.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
