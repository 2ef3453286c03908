package mtasts

import (
	"errors"
	"strconv"
	"strings"
)

// Kind says what went wrong. The first three are result types of TLS reports
// (RFC 8460, section 4.3.2.2).
type Kind string

const (
	FetchError    Kind = "sts-policy-fetch-error" // the policy could not be had from its host
	Invalid       Kind = "sts-policy-invalid"     // the TXT record or the policy is not one
	WebPKIInvalid Kind = "sts-webpki-invalid"     // the certificate of the policy host is not valid
	DNS           Kind = "dns"                    // the TXT record could not be looked up
	// Internal is no fault of the domain and not to be reported to it: the caller
	// gave up, the cache was closed or had too much to do.
	Internal Kind = "internal"
)

// Error is why a domain has no policy, or why its policy could not be refreshed.
type Error struct {
	Kind   Kind
	Domain string // A-labels
	Err    error
}

// Error renders the error in printable ASCII and bounded length.
func (e *Error) Error() string {
	return "MTA-STS policy of " + printable(e.Domain) + ": " + string(e.Kind) + ": " + printable(e.Err.Error())
}

// Unwrap returns the detail.
func (e *Error) Unwrap() error { return e.Err }

// Detail is Error without kind and domain, for reports: printable ASCII, bounded.
func (e *Error) Detail() string { return printable(e.Err.Error()) }

// maxText bounds text that strangers had a hand in.
const maxText = 300

// printable escapes what is not printable ASCII and cuts what is too long.
func printable(s string) string {
	more := ""
	if len(s) > maxText {
		s, more = s[:maxText], "..."
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			s = strconv.QuoteToASCII(s)
			return s[1:len(s)-1] + more
		}
	}
	return s + more
}

// kept is an error to remember: its text alone. An error of TLS holds whole
// certificates.
func (e *Error) kept() *Error {
	text := e.Err.Error()
	return &Error{Kind: e.Kind, Domain: e.Domain, Err: errors.New(strings.Clone(text[:min(len(text), maxText+1)]))}
}
