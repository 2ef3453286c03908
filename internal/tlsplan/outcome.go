package tlsplan

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"time"
)

// Verification says by what a certificate was found good.
type Verification string

// The ways to verify. VerifiedNone covers plaintext too.
const (
	VerifiedNone   Verification = "none"
	VerifiedPKIX   Verification = "pkix"
	VerifiedDANEEE Verification = "dane-ee"
	VerifiedDANETA Verification = "dane-ta"
)

// Certificate is what a document tells about the certificate a host showed.
type Certificate struct {
	Subject   string
	Issuer    string
	NotBefore time.Time
	NotAfter  time.Time
	SHA256    [sha256.Size]byte // of the DER encoding
}

// Summarize takes from a certificate what a document tells of it.
func Summarize(c *x509.Certificate) *Certificate {
	return &Certificate{
		Subject:   c.Subject.String(),
		Issuer:    c.Issuer.String(),
		NotBefore: c.NotBefore.UTC(),
		NotAfter:  c.NotAfter.UTC(),
		SHA256:    sha256.Sum256(c.Raw),
	}
}

// Outcome is what the connection to one MX host turned out to be. It is
// settled once, when the connection is made, and never changes while the
// connection lives; a Plan judges it at that moment and again each time the
// connection is about to be reused.
type Outcome struct {
	// TLS is true when everything after EHLO travels encrypted.
	TLS         bool
	Version     uint16      // crypto/tls constants
	CipherSuite uint16      // crypto/tls constants
	KeyExchange tls.CurveID // zero if unknown
	HandshakeIn time.Duration

	// Verification is computed whether or not anybody asked for it, so that
	// the log says the truth.
	Verification Verification

	// PKIX is true where chain and name checked out by themselves, whatever
	// TLSA records say.
	PKIX bool
	// Proof is the TLSA record that the certificate was found good by, nil if
	// none was, or none was looked at.
	Proof *Proof

	// Problem is nil exactly when the certificate was verified. On an
	// unverified TLS connection it says why; on a plaintext one it says why
	// there is no TLS.
	Problem *Problem

	// Certificate is what the host showed, also when it was refused and the
	// message then went in clear.
	Certificate *Certificate

	// OffersREQUIRETLS is true if the EHLO reply under TLS lists REQUIRETLS.
	OffersREQUIRETLS bool
}

// VersionName is the name of the TLS version, "TLSv1.3", as documents and counters
// write it; empty if there is none, or one without a name.
func (o Outcome) VersionName() string {
	switch o.Version {
	case tls.VersionTLS10:
		return "TLSv1.0"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

// byPKIX reports whether chain and name checked out.
func (o Outcome) byPKIX() bool { return o.TLS && (o.PKIX || o.Verification == VerifiedPKIX) }

// Verified reports whether chain and name, or a TLSA record, checked out.
func (o Outcome) Verified() bool {
	return o.TLS && o.Verification != VerifiedNone && o.Verification != ""
}

// Protection is how what crosses a connection is kept from those on the way.
type Protection string

// The protections, weakest first. "" is for what was not sent at all.
const (
	ProtectionClear      Protection = "clear"
	ProtectionUnverified Protection = "unverified" // encrypted, to whoever answered
	ProtectionVerified   Protection = "verified"   // encrypted, to the host that was meant
)

// Protection is what the connection gives.
func (o Outcome) Protection() Protection {
	switch {
	case !o.TLS:
		return ProtectionClear
	case !o.Verified():
		return ProtectionUnverified
	}
	return ProtectionVerified
}

// Weaker returns the weaker one of two protections, "" being none to compare with.
func Weaker(a, b Protection) Protection {
	for _, p := range [...]Protection{ProtectionClear, ProtectionUnverified, ProtectionVerified} {
		if a == p || b == p {
			return p
		}
	}
	return ""
}

// GaveTLS reports whether there is TLS, or would be if we had not minded the
// certificate.
func (o Outcome) GaveTLS() bool { return o.TLS || o.Problem != nil && o.Problem.Reason.IsCertificate() }

// Plaintext is the outcome of a connection that stays in clear because of why.
// seen is the certificate that was shown before, if any.
func Plaintext(why *Problem, seen *Certificate) Outcome {
	return Outcome{Verification: VerifiedNone, Problem: why, Certificate: seen}
}
