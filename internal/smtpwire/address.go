package smtpwire

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxAddress bounds an address, ENVID and ORCPT. RFC 5321, section 4.5.3.1.3 has
// 256 octets for a path; the server is the one to say so to those in between.
const maxAddress = 1000

// lookup is how a resolver reads a domain: lower case, NFC, then A-labels. It
// does not insist on letters and digits, as domains with an underscore exist. Its
// options are those of package route: what could be looked up can be written.
var lookup = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
	idna.StrictDomainName(false), idna.CheckHyphens(false))

// wireAddress returns addr as it goes between the angle brackets of a command.
// Without SMTPUTF8 the domain is written in A-labels, and a local part that is
// not ASCII is ErrUTF8. What could end the path or the command early, or is no
// address at all, is ErrBadAddress.
func wireAddress(addr string, utf8InUse bool) (string, error) {
	if !utf8.ValidString(addr) {
		return "", fmt.Errorf("%w: invalid UTF-8", ErrBadAddress)
	}
	if len(addr) > maxAddress {
		return "", fmt.Errorf("%w: longer than %d octets", ErrBadAddress, maxAddress)
	}
	if !utf8InUse && !isASCII(addr) {
		var err error
		if addr, err = toASCII(addr); err != nil {
			return "", err
		}
	}
	// Checked last: mapping a domain may turn a harmless character into "<".
	return addr, checkAddress(addr)
}

// toASCII converts the domain of addr to A-labels.
func toASCII(addr string) (string, error) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 || !isASCII(addr[:at]) {
		return "", ErrUTF8
	}
	domain, err := lookup.ToASCII(addr[at+1:])
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrBadAddress, err)
	}
	if at+1+len(domain) > maxAddress {
		return "", fmt.Errorf("%w: longer than %d octets", ErrBadAddress, maxAddress)
	}
	return addr[:at+1] + domain, nil
}

// checkAddress admits Local-part "@" Domain of RFC 5321, section 4.1.2, and
// "postmaster" alone. It is lenient with characters that harm nobody, and
// strict with quotes: a server must not see the path end elsewhere than we do.
func checkAddress(s string) error {
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return fmt.Errorf("%w: control character", ErrBadAddress)
	}
	end := strings.IndexByte(s, '@')
	if strings.HasPrefix(s, `"`) {
		end = quotedEnd(s)
	} else if end < 0 && strings.EqualFold(s, "postmaster") {
		return nil
	} else if end > 0 && strings.ContainsAny(s[:end], `<>"\ `) {
		end = -1
	}
	if end <= 0 || end >= len(s)-1 || s[end] != '@' || strings.ContainsAny(s[end+1:], `<>"\ @`) {
		return fmt.Errorf("%w: not local-part@domain", ErrBadAddress)
	}
	return nil
}

// quotedEnd returns the index after the quoted string that s begins with, -1 if
// it does not end.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// appendXtext appends s as xtext (RFC 3461, section 4): whatever s holds, the
// result is printable ASCII without a space.
func appendXtext(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if b := s[i]; b <= ' ' || b > '~' || b == '+' || b == '=' {
			dst = append(dst, '+', hex[b>>4], hex[b&15])
		} else {
			dst = append(dst, b)
		}
	}
	return dst
}

// appendUTF8Xtext appends s as utf-8-addr-xtext (RFC 6533, section 3).
func appendUTF8Xtext(dst []byte, s string) []byte {
	for _, r := range s {
		if r <= ' ' || r > '~' || r == '+' || r == '=' || r == '\\' {
			dst = fmt.Appendf(dst, `\x{%X}`, r)
		} else {
			dst = append(dst, byte(r))
		}
	}
	return dst
}

// appendOriginal appends ORCPT, given as "type;address" (RFC 3461, section 4.2).
func appendOriginal(dst []byte, orcpt string) []byte {
	kind, addr, _ := strings.Cut(orcpt, ";")
	dst = append(dst, " ORCPT="...)
	dst = append(dst, kind...)
	dst = append(dst, ';')
	if strings.EqualFold(kind, "utf-8") {
		return appendUTF8Xtext(dst, addr)
	}
	return appendXtext(dst, addr)
}

// checkOriginal admits "" and an ORCPT that appendOriginal can write.
func checkOriginal(orcpt string) error {
	if orcpt == "" {
		return nil
	}
	kind, addr, ok := strings.Cut(orcpt, ";")
	odd := func(r rune) bool {
		return r >= utf8.RuneSelf || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-'
	}
	if !ok || kind == "" || addr == "" || len(orcpt) > maxAddress || strings.IndexFunc(kind, odd) >= 0 {
		return fmt.Errorf("%w: malformed ORCPT", ErrBadAddress)
	}
	return nil
}

// checkNotify admits NEVER alone, or any of the others (RFC 3461, section 4.1).
func checkNotify(notify []string) error {
	for _, n := range notify {
		switch strings.ToUpper(n) {
		case "SUCCESS", "FAILURE", "DELAY":
			continue
		case "NEVER":
			if len(notify) == 1 {
				continue
			}
		}
		return fmt.Errorf("%w: malformed NOTIFY", ErrBadAddress)
	}
	if len(notify) > 3 {
		return fmt.Errorf("%w: malformed NOTIFY", ErrBadAddress)
	}
	return nil
}
