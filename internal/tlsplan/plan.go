// Package tlsplan decides what a connection must prove, and whether it did.
//
// Both halves are pure. The first turns what the sender wants (policy.Settings)
// and what must hold besides (Floors) into a Plan for the connections of one
// recipient domain:
//
//	plan := tlsplan.Decide(settings, floors)
//
// What a host publishes about its own certificate makes it the plan for that
// host:
//
//	plan = plan.ForHost(tlsplan.NewDANE(base, records, names...))
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
//
// Floors move a message to a column further right, and past it: with TLSA records
// that can be used, good is what they prove, and nothing else. An Outcome keeps
// by what it was proved. Another plan takes that for a proof only if it has the
// same record.
package tlsplan

import (
	"crypto/x509"
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

// MXLevel is by what an MX record is proven, and the min_mx_level of a
// local_policy block.
type MXLevel string

// MXLevels, each stricter than the one before, in maddy's words.
const (
	MXUnproven MXLevel = "none"
	MXByMTASTS MXLevel = "mtasts" // the host is in an MTA-STS policy that is enforced
	MXByDNSSEC MXLevel = "dnssec" // the MX records were authenticated
)

func (l MXLevel) strictness() int {
	switch l {
	case MXByMTASTS:
		return 1
	case MXByDNSSEC:
		return 2
	}
	return 0
}

// Floors is what must hold whatever the settings say. They only ever tighten.
type Floors struct {
	// MinTLS is the operator's own floor for every message of the target.
	MinTLS Level
	// MinMX is the operator's demand on MX records.
	MinMX MXLevel
	// MTASTS is true when the recipient domain has an MTA-STS policy in mode
	// enforce (RFC 8461), and nothing lifts it.
	MTASTS bool
	// REQUIRETLS is true when the sender used the extension of RFC 8689.
	REQUIRETLS bool
	// RelaxedREQUIRETLS accepts a host that does not offer REQUIRETLS, as long
	// as everything else the RFC demands holds (maddy's relaxed_requiretls).
	RelaxedREQUIRETLS bool
}

// Plan is what is demanded of every connection for one recipient domain, or,
// after ForHost, to one of its hosts.
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
	// MinMX is by what the MX record must be proven at least.
	MinMX MXLevel
	// DANE is what the host publishes about its certificate, nil if nothing.
	DANE *DANE

	OnFailure policy.OnFailure
	Floors    []Floor
}

// Decide settles the plan for one recipient domain.
func Decide(s policy.Settings, f Floors) Plan {
	p := Plan{
		Demand:    Opportunistic,
		Skip:      s.SkipVerification,
		OnFailure: s.OnFailure,
		MinMX:     f.MinMX,
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
	if f.MinMX.strictness() > 0 && !p.HasFloor(FloorLocalPolicy) {
		p.raise(Opportunistic, FloorLocalPolicy)
	}
	if f.MTASTS {
		p.raise(DemandVerified, FloorMTASTS)
	}
	if f.REQUIRETLS {
		p.raise(DemandVerified, FloorREQUIRETLS)
		p.NeedREQUIRETLS = !f.RelaxedREQUIRETLS
		p.NeedAuthenticMX = true
	}
	p.KeepUnverified = p.Skip || s.Fallback == policy.Unverified
	p.settle()
	return p
}

// ForHost is the plan for one host that publishes d, nil for nothing. Records
// that can be used take the place of everything else that a certificate could be
// held against; records of which none can be used make TLS mandatory and leave
// the rest as it was (RFC 7672, section 2.2).
func (p Plan) ForHost(d *DANE) Plan {
	if d == nil {
		return p
	}
	p.DANE = d
	p.Floors = slices.Clone(p.Floors)
	if d.Usable() {
		p.raise(DemandDANE, FloorDANE)
	} else {
		p.raise(DemandTLS, FloorDANE)
	}
	p.settle()
	return p
}

// Lifted is the plan for a host that publishes d where the message lifts that: a
// certificate that d proves is good, and any other is none the worse for it. A
// host that publishes records has TLS; nobody is served by giving that up over a
// certificate.
func (p Plan) Lifted(d *DANE) Plan {
	if d == nil {
		return p
	}
	p.DANE = d
	p.KeepUnverified = p.KeepUnverified || p.Demand == Opportunistic
	return p
}

// Examiner says what is to be found out about the certificate of host.
func (p Plan) Examiner(host string, roots *x509.CertPool) Examiner {
	return Examiner{Host: host, Roots: roots, DANE: p.DANE, DANEAlone: p.Demand == DemandDANE}
}

// ServerName is the name that host is asked for in the handshake: TLSA records
// that can be used are about the host under their base domain (RFC 7672,
// section 8.1).
func (p Plan) ServerName(host string) string {
	if p.DANE.Usable() {
		return p.DANE.Base()
	}
	return host
}

// settle makes the rest of the plan follow its demand.
func (p *Plan) settle() {
	switch p.Demand {
	case DemandVerified, DemandDANE:
		p.Skip, p.KeepUnverified = false, false
	case DemandTLS:
		p.KeepUnverified = true
	}
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
