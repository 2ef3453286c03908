package route

import (
	"context"
	"strings"

	"github.com/miekg/dns"
)

// maxTexts and maxTextBytes bound what is taken of the TXT records of one name:
// policies and report addresses are one short record each.
const (
	maxTexts     = 64
	maxTextBytes = 16 << 10
)

// TXT finds the TXT records of a name, underscores allowed, aliases followed.
// The strings of one record are joined without anything between them, as
// RFC 8461, section 3.1 and RFC 8460, section 3 want; the octets are those of the
// record and may be anything. A name that has no such records, or does not
// exist, yields none and no error. An error is an *Error: Temporary if it could
// not be found out, NotFound if DNS cannot hold the name.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	ascii, err := toASCII(name)
	if err != nil {
		return nil, &Error{Kind: NotFound, Name: name, Type: "TXT", Err: err}
	}
	found, err := r.lookup(ctx, question{ascii, dns.TypeTXT})
	if err != nil {
		return nil, err
	}
	return append([]string(nil), found.texts...), nil
}

// textsOf joins the strings of each record. What goes beyond the bounds is left
// out, whole records only.
func textsOf(records []dns.RR) []string {
	var texts []string
	left := maxTextBytes
	for _, rr := range records {
		txt, ok := rr.(*dns.TXT)
		if !ok || len(texts) == maxTexts {
			continue
		}
		text := unescape(strings.Join(txt.Txt, ""))
		if len(text) > left {
			continue
		}
		texts, left = append(texts, text), left-len(text)
	}
	return texts
}

// unescape turns the presentation form of a string (RFC 1035, section 5.1), in
// which the library hands it over, into its octets. The result is a copy.
func unescape(s string) string {
	octets := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			if i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]) {
				c = (s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0'
				i += 3
			} else {
				i++
				c = s[i]
			}
		}
		octets = append(octets, c)
	}
	return string(octets)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
