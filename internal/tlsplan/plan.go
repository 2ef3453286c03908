// Package tlsplan decides what a connection must prove, and whether it did.
//
// Both halves are pure. The first turns what the sender wants (policy.Settings)
// and what must hold besides (Floors) into a Plan for the connections of one
// recipient domain:
//
//	plan := tlsplan.Decide(settings, floors)
//
// The second looks at one connection in two steps, evidence before opinion.
// Examiner.Examine computes, inside the TLS handshake, everything that can be
// said about the certificate: an Outcome, the same whoever asks. Plan.Judge
// then says what to do with it: keep the connection, give it up and talk to
// the host in clear, or turn to the next host. The same Judge decides whether
// an idle connection may serve another message, so a connection that was good
// enough for one plan can never slip under a stricter one.
//
// The table that Judge implements (columns are the sender's settings):
//
//	host                     opp., verify      opp., skip   req., verify   req., skip
//	offers no STARTTLS       plaintext         plaintext    refuse         refuse
//	refuses STARTTLS         plaintext         plaintext    refuse         refuse
//	breaks the handshake     plaintext         plaintext    refuse         refuse
//	shows a bad certificate  plaintext, or     TLS          refuse         TLS
//	                         TLS (unverified)
//	shows a good one         TLS               TLS          TLS            TLS
package tlsplan

import (
	"slices"

	"tlscontrol/internal/policy"
)

// Demand is what a connection must be before a message crosses it.
type Demand string

// Demands, each stricter than the one before.
const (
	Opportunistic  Demand = "opportunistic" // TLS where possible
	DemandTLS      Demand = "tls"           // TLS, any certificate
	DemandVerified Demand = "verified"      // TLS with a verified certificate
	DemandDANE     Demand = "dane"          // TLS with a certificate verified by TLSA records
)

// Floor names something other than the settings that tightened a plan.
type Floor string

// Floors, as they appear in the document.
const (
	FloorDANE        Floor = "dane"
	FloorMTASTS      Floor = "mta-sts"
	FloorREQUIRETLS  Floor = "requiretls"
	FloorLocalPolicy Floor = "local_policy"
)

// Level is the min_tls_level of a local_policy block.
type Level string

// Levels, in maddy's words.
const (
	LevelNone          Level = "none"
	LevelEncrypted     Level = "encrypted"
	LevelAuthenticated Level = "authenticated"
)

// Floors is what must hold whatever the settings say. They only ever tighten.
type Floors struct {
	// MinTLS is the operator's own floor for every message of the target.
	MinTLS Level
	// REQUIRETLS is true when the sender used the extension of RFC 8689.
	REQUIRETLS bool
	// RelaxedREQUIRETLS accepts a host that does not offer REQUIRETLS, as long
	// as everything else the RFC demands holds (maddy's relaxed_requiretls).
	RelaxedREQUIRETLS bool
}

// Plan is what is demanded of every connection for one recipient domain.
type Plan struct {
	Demand Demand
	// KeepUnverified is true where an opportunistic plan prefers TLS with a
	// bad certificate to plaintext: skip_verification, or
	// `opportunistic_fallback unverified`.
	KeepUnverified bool
	// Skip is true when the sender asked that certificates do not matter, so
	// an unverified connection is no fallback but all that was wanted.
	Skip bool
	// NeedREQUIRETLS is true when the host must offer REQUIRETLS under TLS.
	NeedREQUIRETLS bool
	// NeedAuthenticMX is true when the MX record must be proven by DNSSEC or
	// MTA-STS before it is dialled (RFC 8689, section 4.2.1).
	NeedAuthenticMX bool

	OnFailure policy.OnFailure
	Floors    []Floor
}

// Decide settles the plan for one recipient domain.
func Decide(s policy.Settings, f Floors) Plan {
	p := Plan{
		Demand:    Opportunistic,
		Skip:      s.SkipVerification,
		OnFailure: s.OnFailure,
	}
	if s.RequireTLS {
		p.Demand = DemandVerified
		if s.SkipVerification {
			p.Demand = DemandTLS
		}
	}
	switch f.MinTLS {
	case LevelEncrypted:
		p.raise(DemandTLS, FloorLocalPolicy)
	case LevelAuthenticated:
		p.raise(DemandVerified, FloorLocalPolicy)
	}
	if f.REQUIRETLS {
		p.raise(DemandVerified, FloorREQUIRETLS)
		p.NeedREQUIRETLS = !f.RelaxedREQUIRETLS
		p.NeedAuthenticMX = true
	}
	if p.Demand == DemandVerified || p.Demand == DemandDANE {
		p.Skip = false
	}
	p.KeepUnverified = p.Demand == DemandTLS ||
		p.Demand == Opportunistic && (p.Skip || s.Fallback == policy.Unverified)
	return p
}

// raise notes that floor f applies, and lifts the demand to d if it is lower.
func (p *Plan) raise(d Demand, f Floor) {
	p.Floors = append(p.Floors, f)
	if d.strictness() > p.Demand.strictness() {
		p.Demand = d
	}
}

func (d Demand) strictness() int {
	switch d {
	case DemandTLS:
		return 1
	case DemandVerified:
		return 2
	case DemandDANE:
		return 3
	}
	return 0
}

// Requires reports whether the plan forbids plaintext.
func (p Plan) Requires() bool { return p.Demand != Opportunistic }

// HasFloor reports whether f tightened the plan.
func (p Plan) HasFloor(f Floor) bool { return slices.Contains(p.Floors, f) }
