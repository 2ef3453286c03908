package tlsrpt

import (
	"encoding/json"
	"net/netip"
	"strings"

	mox "github.com/mjl-/mox/tlsrpt"
)

// Session is one attempt to secure a connection to an MX host, told once its
// end is known. Where a policy asks for a good certificate, a message that went in
// clear after a bad one was a failed session, as one that was kept back for it.
type Session struct {
	// Domain is the recipient's domain, in A-labels.
	Domain string
	// Verdicts has one entry for each policy that was in force. Without a policy
	// there is one of type no-policy-found. A session without any is not counted.
	Verdicts []Verdict

	MXHost  string     // A-labels; empty if it did not come to a host
	MXIP    netip.Addr // invalid if there was no connection
	LocalIP netip.Addr // ours, invalid if there was no connection
	Helo    string     // how the host called itself; empty if unknown
}

// Verdict is how a session ended under one policy.
type Verdict struct {
	Policy Policy
	// Failure is the result type (RFC 8460, section 4.3), empty for success.
	Failure mox.ResultType
	// Reason is the failure-reason-code, which says more for a program or a
	// person at the other end. May be empty.
	Reason string
}

// Policy is what a domain publishes about TLS.
type Policy struct {
	Type mox.PolicyType
	// Domain is where it is published: the recipient's domain, and for a DANE
	// policy the TLSA base domain (RFC 8460, section 1.1). A-labels.
	Domain string
	// Strings are the lines of an MTA-STS policy, or the TLSA records.
	Strings []string
	// MX are the mx patterns of an MTA-STS policy.
	MX []string
}

// Bounds on what is taken over from others. A report stays far below the 10 MB
// that a receiver may be expected to take, whatever strangers publish: at most
// maxDetails failures and maxPolicies policies of this size.
const (
	maxText        = 255     // octets of a name or reason code; no domain name is longer
	maxPolicyLine  = 1 << 10 // octets
	maxPolicyLines = 100
	maxPolicySize  = 8 << 10 // octets of all lines and patterns
)

// key is what is counted: how often a domain, a policy and a failure met. The
// parts are JSON, because that is comparable and what goes into the file.
type key struct {
	day     string
	domain  string
	policy  string
	failure string // empty for success
}

// keys is the session as things to count on a day. It is empty for a domain
// that is none.
func (s Session) keys(day string) []key {
	domain := strings.ToLower(s.Domain)
	if !isDomain(domain) {
		return nil
	}
	keys := make([]key, 0, len(s.Verdicts))
	for _, v := range s.Verdicts {
		k := key{day: day, domain: domain, policy: encode(v.Policy.document())}
		if v.Failure != "" {
			k.failure = encode(mox.FailureDetailsJSON{
				ResultType:          mox.ResultType(clean(string(v.Failure), maxText)),
				SendingMTAIP:        ipText(s.LocalIP),
				ReceivingMXHostname: clean(s.MXHost, maxText),
				ReceivingMXHelo:     clean(s.Helo, maxText),
				ReceivingIP:         ipText(s.MXIP),
				FailureReasonCode:   clean(v.Reason, maxText),
			})
		}
		keys = append(keys, k)
	}
	return keys
}

// document is the policy as reports write it.
func (p Policy) document() mox.ResultPolicyJSON {
	d := mox.ResultPolicyJSON{
		Type:   mox.PolicyType(clean(string(p.Type), maxText)),
		Domain: clean(strings.ToLower(p.Domain), maxText),
	}
	left := maxPolicySize
	d.String = cleanLines(p.Strings, &left)
	d.MXHost = cleanLines(p.MX, &left)
	return d
}

// cleanLines keeps as many lines as the bounds allow. It never returns nil:
// receivers expect lists.
func cleanLines(lines []string, left *int) []string {
	kept := []string{}
	for _, line := range lines {
		line = clean(line, maxPolicyLine)
		if len(kept) == maxPolicyLines || len(line) > *left {
			break
		}
		*left -= len(line)
		kept = append(kept, line)
	}
	return kept
}

// clean makes printable ASCII of at most limit octets of what a stranger said.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// isDomain reports whether s is a domain name in A-labels and lower case: it
// goes into file names and header fields.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

func ipText(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}

// encode never fails for the types it is used with.
func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("tlsrpt: " + err.Error())
	}
	return string(text)
}
