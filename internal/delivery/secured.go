package delivery

import (
	"net/netip"

	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/tlsplan"
)

// Secured is how TLS to one host came out, seen from the policies that the
// recipient publishes: what a report to the recipient is made of (RFC 8460).
// Observers are told of each fresh connection on which it was settled whether
// there is TLS, and of each host or domain that a policy kept from being dialled
// or whose policy could not be found out. A connection in use again is none. It
// is shared by all observers, who must not change it.
type Secured struct {
	Domain  string     // of the recipients, normalised (U-labels)
	MXHost  string     // A-labels
	MXIP    netip.Addr // invalid if nothing was dialled
	LocalIP netip.Addr // likewise
	Helo    string     // how the server calls itself, any text; empty if it said nothing or nothing was dialled

	// STS is the MTA-STS policy of Domain, nil if it has none that counts.
	STS *mtasts.Policy
	// STSErr is why there is none, or why it could not be refreshed.
	STSErr error
	// TLSA are the TLSA records of the host in presentation form, as
	// "3 1 1 ab12...", at the name TLSABase.
	TLSA     []string
	TLSABase string
	// TLSAUnusable is true if none of TLSA can be used, so that any certificate
	// does (RFC 7672, section 2.2).
	TLSAUnusable bool

	// Report is true if the message is itself a TLS report, which no report should
	// be about (RFC 8460, section 3).
	Report bool

	// Outcome is what the connection turned out to be, or would have been in
	// clear; the zero Outcome if nothing was dialled.
	Outcome tlsplan.Outcome
	// Problem is what the policy in force finds wanting, whether or not the
	// message went through in spite of it: TLSA records that can be used, else a
	// policy by MTA-STS (in mode testing too), else that there should be TLS, with
	// whatever certificate. Nil if all is well, though our own policy may have refused
	// the host.
	Problem *tlsplan.Problem
	// Err is the cause of a Problem that is a failed lookup.
	Err error
}
