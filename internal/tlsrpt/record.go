package tlsrpt

import (
	"net/url"
	"slices"
	"strings"

	mox "github.com/mjl-/mox/tlsrpt"
	"golang.org/x/net/idna"
)

// Bounds on one record.
const (
	maxEndpoints = 5
	maxURI       = 1 << 10 // octets; a database takes no more than 2704 into an index
)

// Endpoint is where a domain wants its reports.
type Endpoint struct {
	// URI is what the record says, without needless differences.
	URI string
	// Address is that of a mailto URI, else empty. ASCII only.
	Address string
}

// Endpoints reads the TXT records of _smtp._tls.<domain>. Only those that begin
// as TLSRPT records do count, and several of them mean the same as none (RFC
// 8460, section 3). What is neither a good mailto nor a good https URI is left
// out.
func Endpoints(texts []string) []Endpoint {
	var records []string
	for _, text := range texts {
		if strings.HasPrefix(text, "v=TLSRPTv1;") {
			records = append(records, text)
		}
	}
	if len(records) != 1 {
		return nil
	}
	record, _, err := mox.ParseRecord(records[0])
	if err != nil {
		return nil
	}
	var all []Endpoint
	for _, ruas := range record.RUAs {
		for _, rua := range ruas {
			e, ok := endpoint(rua)
			if ok && len(all) < maxEndpoints && !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	return all
}

func endpoint(rua mox.RUA) (Endpoint, bool) {
	if len(rua) > maxURI {
		return Endpoint{}, false
	}
	u, err := rua.URI()
	if err != nil {
		return Endpoint{}, false
	}
	switch u.Scheme {
	case "mailto":
		text, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return Endpoint{}, false
		}
		address, ok := Address(text)
		return Endpoint{URI: "mailto:" + address, Address: address}, ok
	case "https":
		// Credentials in a public record are a mistake, or a trap.
		if u.Hostname() == "" || u.User != nil {
			return Endpoint{}, false
		}
		u.Host, u.Fragment, u.RawFragment = strings.ToLower(u.Host), "", ""
		text := u.String()
		// A URI is ASCII (RFC 3986, section 2), and it is what an endpoint is known by in
		// files and in a database, which would not give back anything else.
		return Endpoint{URI: text}, len(text) <= maxURI && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	return Endpoint{}, false
}

// Address accepts an address that every server can be told without quoting and
// without SMTPUTF8, and returns it with its domain in A-labels.
func Address(s string) (string, bool) {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at > 64 {
		return "", false
	}
	local := s[:at]
	domain, err := idna.Lookup.ToASCII(s[at+1:])
	if err != nil || !isDomain(domain) {
		return "", false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return !isAtext(r) }) {
			return "", false
		}
	}
	return local + "@" + domain, true
}

// isAtext is RFC 5322, section 3.2.3.
func isAtext(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r < 0x7f && strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}
