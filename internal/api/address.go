package api

import (
	"net/mail"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"tlscontrol/internal/policy"
)

// maxRecipients is how many recipients a message may have, as documented.
const maxRecipients = 1000

// maxAddress bounds an address: 64 octets, @ and 255 (RFC 5321, section 4.5.3.1),
// and what A-labels are shorter by.
const maxAddress = 512

// address is one that was understood.
type address struct {
	mail.Address        // as it goes into the header, with A-labels where they do
	domain       string // normalised
	wire         string // as it goes into the envelope, domain normalised
	utf8         bool   // the local part needs SMTPUTF8
}

// parseAddresses reads the addresses of a parameter, all of its values.
func (f *form) parseAddresses(name string) ([]address, error) {
	var all []address
	size := 0
	for _, value := range f.values[name] {
		if size += len(value); size > maxHeader {
			return nil, tooLong(name)
		}
		list, err := mail.ParseAddressList(value)
		if err != nil {
			return nil, badAddress(name, firstBad(value))
		}
		if len(all)+len(list) > maxRecipients {
			return nil, tooManyRecipients()
		}
		for _, a := range list {
			parsed, ok := parseAddress(a)
			if !ok {
				return nil, badAddress(name, a.Address)
			}
			all = append(all, parsed)
		}
	}
	return all, nil
}

// badAddress is in Mailgun's words, which clients look for, and then says which it is.
func badAddress(name, address string) *Error {
	which := "it is empty"
	if address != "" {
		which = "unexpected " + policy.Quote(address)
	}
	return bad("%s parameter is not a valid address. please check documentation: %s", name, which)
}

// firstBad returns the first address of a list that is not well-formed, the whole list
// if each is by itself, and nothing of an empty one.
func firstBad(list string) string {
	for rest := list; rest != ""; {
		end := endOfAddress(rest)
		one := strings.TrimSpace(rest[:end])
		rest = strings.TrimPrefix(rest[end:], ",")
		if _, err := mail.ParseAddress(one); err != nil && one != "" {
			return one
		}
	}
	return strings.TrimSpace(list)
}

// endOfAddress is where the comma behind the first address of a list is, one that is
// not in quotation marks or parentheses; or where the list ends.
func endOfAddress(list string) int {
	quoted, comments := false, 0
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\':
			i++
		case c == '"' && comments == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			comments++
		case c == ')':
			comments = max(0, comments-1)
		case c == ',' && comments == 0:
			return i
		}
	}
	return len(list)
}

func tooLong(name string) *Error {
	return bad("%s parameter is too long for a header field", shown(name))
}

func tooManyRecipients() *Error {
	return bad("The message has more than %d recipients", maxRecipients)
}

// parseAddress looks at an address as closely as SMTP does, and more closely than
// net/mail.
func parseAddress(a *mail.Address) (address, bool) {
	at := strings.LastIndexByte(a.Address, '@')
	if at < 1 || len(a.Address) > maxAddress || !utf8.ValidString(a.Address+a.Name) ||
		strings.ContainsFunc(a.Address, control) || strings.ContainsFunc(a.Name, control) {
		return address{}, false
	}
	local, name := a.Address[:at], a.Address[at+1:]
	domain, err := policy.ParseDomain(name)
	if err != nil || !strings.Contains(domain, ".") {
		return address{}, false
	}
	p := address{Address: *a, domain: domain, utf8: strings.ContainsFunc(local, beyondASCII)}
	p.wire = wireLocal(local) + "@" + domain
	if !p.utf8 {
		p.Address.Address = local + "@" + asciiDomain(domain)
	}
	return p, true
}

func beyondASCII(c rune) bool { return c >= utf8.RuneSelf }

// wireLocal puts a local part into quotes if SMTP wants it (RFC 5321, section
// 4.1.2); net/mail has taken them off.
func wireLocal(local string) string {
	text := (&mail.Address{Address: local + "@x"}).String()
	return strings.TrimSuffix(strings.TrimPrefix(text, "<"), "@x>")
}

// asciiDomain is a normalised domain in A-labels, where it can be.
func asciiDomain(domain string) string {
	if ascii, err := idna.ToASCII(domain); err == nil {
		return ascii
	}
	return domain
}

// unique drops recipients that are there already.
func unique(all []address) []address {
	seen := make(map[string]bool, len(all))
	var kept []address
	for _, a := range all {
		if !seen[a.wire] {
			seen[a.wire] = true
			kept = append(kept, a)
		}
	}
	return kept
}

// sender returns the one address of a From field, which must be one of the domain
// that the message is sent for.
func sender(list []address, domain string) (address, error) {
	switch {
	case len(list) == 0:
		return address{}, missing("from")
	case len(list) > 1:
		return address{}, bad("from parameter has more than one address")
	case list[0].domain != domain:
		return address{}, bad("from parameter: the address is not one of domain %s", shown(domain))
	}
	return list[0], nil
}
