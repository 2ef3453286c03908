package route

import (
	"strconv"
	"strings"
)

// Kind says what the failure of a lookup means for mail.
type Kind int

const (
	// NotFound: the domain or host certainly does not exist, has no addresses, or
	// has a name that DNS cannot hold.
	NotFound Kind = iota + 1
	// NullMX: the domain declares that it takes no mail (RFC 7505).
	NullMX
	// Temporary: it could not be found out now.
	Temporary
	// NoUsable: the domain has MX records, but none with a usable host name. The
	// owner may mend it, so mail is kept: 451 4.4.4.
	NoUsable
)

// String returns the kind as a word for logs.
func (k Kind) String() string {
	switch k {
	case NotFound:
		return "not found"
	case NullMX:
		return "null MX"
	case Temporary:
		return "temporary"
	case NoUsable:
		return "no usable MX"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Error is the failure of a lookup. Every error of a Resolver is one.
type Error struct {
	Kind   Kind
	Name   string // what was looked up
	Type   string // "MX", "A/AAAA", "TLSA", "CNAME" or "TXT"
	Rcode  string // response code as "SERVFAIL", "" if there was no response
	Server string // the resolver that spoke last, "" if none was asked
	Err    error  // detail, nil if Kind and Rcode say it all
}

// Bounds on the parts of an error's text. A name has 253 octets at most, but
// what was asked for may be anything.
const (
	maxNameText   = 300
	maxDetailText = 300
)

// Error renders the error in printable ASCII and bounded length.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Type + " lookup of " + printable(e.Name, maxNameText) + ": ")
	switch e.Kind {
	case NotFound:
		b.WriteString("does not exist")
	case NullMX:
		b.WriteString("the domain accepts no mail (null MX)")
	case NoUsable:
		b.WriteString("no MX record has a usable host name")
	default:
		b.WriteString("failed")
	}
	if e.Rcode != "" {
		b.WriteString(", " + printable(e.Rcode, maxNameText))
	}
	if e.Server != "" {
		b.WriteString(" from " + printable(e.Server, maxNameText))
	}
	if e.Err != nil {
		b.WriteString(": " + printable(e.Err.Error(), maxDetailText))
	}
	return b.String()
}

// Unwrap returns the detail.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether a later attempt may fare better.
func (e *Error) Temporary() bool { return e.Kind == Temporary || e.Kind == NoUsable }

// printable escapes what is not printable ASCII and cuts at limit.
func printable(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	quoted := strconv.QuoteToASCII(s)
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if cut {
		quoted += "..."
	}
	return quoted
}
