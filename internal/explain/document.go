// Package explain is the answer to "what would become of this message", and to
// "what TLS does this domain have": a delivery.Explanation as a document for
// programs and as text for people.
//
// It decides nothing. New puts an Explanation into a Document, whose JSON is
// described in docs/explain.md; Write renders a Document as text. All that came
// from DNS, from a server or from a certificate is escaped in both, as neither may
// move the cursor of the terminal that it is shown on.
package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/tlsplan"
)

// Document is an explanation. Names are those of the delivery log where it has
// the same thing.
type Document struct {
	Target    string     `json:"target,omitempty"` // name of the block
	Sender    string     `json:"sender"`
	Recipient string     `json:"recipient"`
	Domain    string     `json:"recipient-domain"`
	Outcome   Outcome    `json:"outcome"`
	Probed    bool       `json:"probed"`
	Message   Message    `json:"message"`
	Settings  []Setting  `json:"settings,omitempty"`
	Published *Published `json:"published,omitempty"` // absent if nothing was looked up
	Plan      *Plan      `json:"plan,omitempty"`      // for the domain
	// StrictPlan is Plan with require_tls yes, absent where it is on.
	StrictPlan *Plan  `json:"plan-with-require-tls,omitempty"`
	Hosts      []Host `json:"hosts,omitempty"`

	failure *delivery.Failure
}

// Result is what would become of the message.
type Result string

// The results: three of delivery, and one for an explanation that did not look at
// the hosts.
const (
	Delivered Result = "delivered"
	Temporary Result = "temporary"
	Permanent Result = "permanent"
	Dialled   Result = "dialled" // nothing speaks against a host, and it was not probed
)

// Outcome is what would become of the message.
type Outcome struct {
	Result Result `json:"result"`
	// MXHost and MXIP are where it would be delivered, or the host that would be
	// dialled first.
	MXHost string `json:"mx-host,omitempty"`
	MXIP   string `json:"mx-ip,omitempty"`
	// Of the connection, if it is delivered.
	TLS          *bool                `json:"tls,omitempty"`
	Verified     *bool                `json:"certificate-verified,omitempty"`
	Verification tlsplan.Verification `json:"verification,omitempty"`
	Fallback     tlsplan.Reason       `json:"tls-fallback,omitempty"`
	*Failure
}

// Failure is why a recipient would not get the message, or a host or address would
// be given up.
type Failure struct {
	Code     int            `json:"code,omitempty"`
	Enhanced string         `json:"enhanced-code,omitempty"`
	Reason   tlsplan.Reason `json:"reason"`
	Text     string         `json:"message"`
	Cause    string         `json:"cause,omitempty"`
}

// Message is what the message itself asks for.
type Message struct {
	RequireTLS       string `json:"require-tls,omitempty"` // yes or no
	SkipVerification string `json:"skip-verification,omitempty"`
	// Refused are those of the two that message_override does not admit.
	Refused []string `json:"refused,omitempty"`
	// Admitted is true if they are read as those of a client that
	// check.tls_override admits.
	Admitted   bool `json:"admitted"`
	REQUIRETLS bool `json:"requiretls"`
	Lifts      bool `json:"tls-required-no"`
}

// Setting is one setting as it was resolved.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`          // message, destination, domain, table, default
	Place  string `json:"place,omitempty"` // file:line, or the row of the table
}

// Published is what DNS and the policy host say of the domain.
type Published struct {
	MTASTS      *MTASTS `json:"mta-sts,omitempty"` // absent if mx_auth does not have it
	DANE        bool    `json:"dane"`              // TLSA records count
	MXAuthentic bool    `json:"mx-authentic"`      // by DNSSEC
}

// MTASTS is the domain's policy.
type MTASTS struct {
	Mode    string   `json:"mode"` // enforce, testing, or none
	ID      string   `json:"id,omitempty"`
	MX      []string `json:"mx,omitempty"`
	Expires string   `json:"expires,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Plan is what is demanded of a connection.
type Plan struct {
	Demanded tlsplan.Demand  `json:"demanded"`
	Floors   []tlsplan.Floor `json:"floors,omitempty"`
	// BadCertificate is what becomes of a host with one: refused, kept, or clear.
	BadCertificate string `json:"bad-certificate"`
	OnFailure      string `json:"on-failure"`
}

// Host is an MX host and what would become of the message there.
type Host struct {
	Name       string    `json:"mx-host"`
	Preference uint16    `json:"preference"`
	Implicit   bool      `json:"implicit,omitempty"` // the domain itself, for lack of MX records
	Ours       bool      `json:"ours,omitempty"`     // this host, or not preferred over it: passed over
	Beyond     bool      `json:"beyond,omitempty"`   // an attempt, or the time for the answer, ends before
	IPs        []string  `json:"mx-ips,omitempty"`
	Authentic  bool      `json:"addresses-authentic"` // by DNSSEC
	MXProof    string    `json:"mx-proof"`            // dnssec, mtasts or none
	Listed     *bool     `json:"mta-sts-listed,omitempty"`
	TLSA       []string  `json:"tlsa,omitempty"`
	TLSABase   string    `json:"tlsa-base,omitempty"`
	TLSAUsable bool      `json:"tlsa-usable,omitempty"`
	Expected   *Expected `json:"expected,omitempty"`
	Plan       *Plan     `json:"plan,omitempty"`
	StrictPlan *Plan     `json:"plan-with-require-tls,omitempty"`
	// Failure is why delivery goes on to the next host.
	Failure   *Failure  `json:"failure,omitempty"`
	Strict    *Failure  `json:"failure-with-require-tls,omitempty"` // before it is dialled
	Addresses []Address `json:"addresses,omitempty"`
}

// Expected is what the host proved before and does not count for less since.
type Expected struct {
	Level        string `json:"level"` // tls or verified
	Verification string `json:"verification,omitempty"`
	LastSeen     string `json:"last-seen"`
	Action       string `json:"downgrade-action"`
}

// Address is what a probe of one address showed.
type Address struct {
	IP string `json:"mx-ip"`
	// Verdict is verified or unverified TLS, or none; absent if that was not
	// found out. It is about what the host has, also where that is then refused.
	Verdict        string               `json:"verdict,omitempty"`
	TLSVersion     string               `json:"tls-version,omitempty"`
	TLSCipher      string               `json:"tls-cipher,omitempty"`
	TLSKeyExchange string               `json:"tls-key-exchange,omitempty"`
	Verification   tlsplan.Verification `json:"verification,omitempty"`
	PKIX           *bool                `json:"pkix,omitempty"` // chain and name check out
	DANE           string               `json:"dane,omitempty"` // matched or mismatch, where there are usable records
	Certificate    *Certificate         `json:"certificate,omitempty"`
	REQUIRETLS     *bool                `json:"requiretls,omitempty"` // offered under TLS
	Problem        *Problem             `json:"problem,omitempty"`    // why TLS is not there or not verified
	// Use is how a message would cross: tls or clear; absent if it would not.
	Use     string   `json:"use,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	// Strict is why it would not with require_tls yes.
	Strict  *Problem `json:"problem-with-require-tls,omitempty"`
	Seconds float64  `json:"session-seconds,omitempty"`
	// Unwanted is true if the address would not be dialled (allow_private).
	Unwanted bool `json:"unwanted,omitempty"`
}

// Certificate is what the host showed.
type Certificate struct {
	Subject   string `json:"subject"`
	Issuer    string `json:"issuer"`
	NotBefore string `json:"not-before"`
	NotAfter  string `json:"not-after"`
	SHA256    string `json:"sha256"`
}

// Problem is one thing that is not as it was wished.
type Problem struct {
	Reason tlsplan.Reason `json:"reason"`
	Text   string         `json:"message,omitempty"`
}

// Verdicts of an Address.
const (
	Verified   = "verified"
	Unverified = "unverified"
	NoTLS      = "none"
)

// Exit codes of the commands that print a Document.
const (
	ExitDeliver = 0
	ExitRefused = 1 // TLS is not what it must be, or the domain takes no mail
	ExitUnknown = 3 // nobody can say now: DNS, a policy, or the hosts do not answer
)

// ExitCode is the result as commands end with it.
func (d *Document) ExitCode() int {
	f := d.failure
	switch {
	case f == nil:
		return ExitDeliver
	case !f.Temporary(), f.Reason.IsTLS():
		return ExitRefused
	}
	switch f.Reason {
	case tlsplan.MTASTSMismatch, tlsplan.MXUnauthenticated, tlsplan.RequireTLSUnsupported:
		return ExitRefused
	}
	return ExitUnknown
}

// WriteJSON writes the document as one JSON object. Beside control characters,
// which encoding/json escapes, all that is not printable is.
func (d *Document) WriteJSON(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return err
	}
	var out bytes.Buffer
	for _, r := range b.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			out.WriteRune(unicode.ReplacementChar)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	_, err := out.WriteTo(w)
	return err
}
