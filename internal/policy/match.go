package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/foxcpp/maddy/framework/dns"
	"golang.org/x/net/idna"
)

// matcher finds the blocks for a domain. Patterns are kept normalised.
type matcher struct {
	exact map[string]Block
	below map[string]Block // *.name, under name
}

// add enters a pattern.
func (m *matcher) add(pattern string, b Block) error {
	name, wildcard := strings.CutPrefix(pattern, "*.")
	name = Normalize(name)
	if err := checkName(name); err != nil {
		return fmt.Errorf("bad pattern %s: %w, expected a domain name or *.domain", Quote(pattern), err)
	}
	blocks := &m.exact
	if wildcard {
		blocks = &m.below
	}
	if earlier, ok := (*blocks)[name]; ok {
		return fmt.Errorf("pattern %s is already used at %s", Quote(pattern), earlier.Place)
	}
	if *blocks == nil {
		*blocks = make(map[string]Block)
	}
	(*blocks)[name] = b
	return nil
}

// find returns the blocks that match a domain, the longest match first.
func (m *matcher) find(domain string) []Block {
	if len(m.exact) == 0 && len(m.below) == 0 {
		return nil
	}
	name := Normalize(domain)
	var found []Block
	if b, ok := m.exact[name]; ok {
		found = append(found, b)
	}
	for {
		label, parent, ok := strings.Cut(name, ".")
		if !ok {
			return found
		}
		if b, ok := m.below[parent]; ok && label != "" {
			found = append(found, b)
		}
		name = parent
	}
}

// maxName bounds what is converted between A- and U-labels. No domain name is
// longer in either form: 253 octets as A-labels (RFC 1035, section 2.3.4).
const maxName = 1024

// lookup is how a name is mapped before it is looked up (UTS 46): full-width
// letters, ideographic full stops, soft hyphens and the like are other spellings
// of the same name, and must not be another domain to the policy than to DNS.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// Normalize returns a domain in the form in which domains are compared:
// U-labels, NFC, lower case, no final dot, as maddy does it. All spellings that
// lead to one name in DNS have one form. The letter case of "xn--" does not
// matter either. What cannot be converted there and back is only put in lower
// case, so that a made-up A-label never equals a real name.
func Normalize(domain string) string {
	if len(domain) <= maxName && strings.ContainsFunc(domain, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if ascii, err := lookup.ToASCII(domain); err == nil {
			domain = ascii
		}
	}
	lower := strings.TrimSuffix(strings.ToLower(domain), ".")
	if len(lower) > maxName {
		return lower
	}
	name, err := dns.ForLookup(lower)
	if err != nil {
		return lower
	}
	aLabels := false
	for label := range strings.SplitSeq(lower, ".") {
		if strings.HasPrefix(label, "xn--") {
			aLabels = true
			if !realALabel(label) {
				return lower
			}
		}
	}
	// Beside a label that is written from right to left others may not stand (RFC 5893,
	// section 2), though each is good by itself.
	if aLabels && !convertsTo(name, lower) {
		return lower
	}
	return name
}

// realALabel reports whether a label that starts with xn-- is what its own
// U-label is converted to (RFC 5890, section 2.3.2.1).
func realALabel(label string) bool {
	u, err := dns.ForLookup(label)
	if err != nil {
		return false
	}
	return convertsTo(u, label) && u != label
}

// convertsTo reports whether the A-labels of a name are these.
func convertsTo(name, ascii string) bool {
	a, err := lookup.ToASCII(name)
	return err == nil && a == ascii
}

// ParseDomain returns a domain name as Normalize does, or an error that says why
// it is none. A pattern with a * is none.
func ParseDomain(s string) (string, error) {
	name := Normalize(s)
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("bad domain %s: %w", Quote(s), err)
	}
	return name, nil
}

// checkName refuses what cannot be a domain name, so that a typing error in a
// pattern is found at start and not when mail goes out unprotected.
func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("no domain name")
	}
	for label := range strings.SplitSeq(name, ".") {
		if strings.HasPrefix(label, "xn--") { // Normalize could not convert it
			return fmt.Errorf("%s is no valid A-label", Quote(label))
		}
	}
	ascii, err := idna.ToASCII(name)
	if err != nil {
		return fmt.Errorf("not a domain name")
	}
	if len(ascii) > 253 { // RFC 1035, section 2.3.4, without length octets
		return fmt.Errorf("longer than a domain name can be")
	}
	for label := range strings.SplitSeq(ascii, ".") {
		switch {
		case label == "":
			return fmt.Errorf("empty label")
		case len(label) > 63: // RFC 1035, section 2.3.4
			return fmt.Errorf("label longer than 63 octets")
		case label[0] == '-' || label[len(label)-1] == '-': // RFC 1123, section 2.1
			return fmt.Errorf("label starts or ends with a hyphen")
		}
		for _, c := range []byte(label) {
			if !isNameByte(c) {
				return fmt.Errorf("character %q not allowed", c)
			}
		}
	}
	return nil
}

// isNameByte allows the underscore besides letters, digits and hyphens: some
// hosts have it, and DNS does not mind.
func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
