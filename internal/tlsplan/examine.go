package tlsplan

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// Examiner gathers the evidence of one handshake: it computes what can be
// said about the certificate and has no opinion of what is good enough.
type Examiner struct {
	Host  string         // name the certificate must be for: the MX host, A-labels
	Roots *x509.CertPool // trust anchors; nil means the system's
	Now   time.Time      // zero means the current time, which is that of DANE in any case

	// DANE is what the host publishes about its certificate, nil if that does not
	// matter.
	DANE *DANE
	// DANEAlone is true where PKIX does not make good what DANE finds bad
	// (RFC 7672, section 2.2; RFC 8461, section 2).
	DANEAlone bool
}

// Examine turns the state of a finished handshake into an Outcome. It is meant
// to be called from tls.Config.VerifyConnection, which Go calls for resumed
// sessions too.
func (x Examiner) Examine(cs tls.ConnectionState) Outcome {
	o := Outcome{
		TLS:         true,
		Version:     cs.Version,
		CipherSuite: cs.CipherSuite,
		KeyExchange: cs.CurveID,
	}
	if len(cs.PeerCertificates) > 0 {
		o.Certificate = Summarize(cs.PeerCertificates[0])
	}
	o.Problem = x.pkix(cs.PeerCertificates)
	o.PKIX = o.Problem == nil
	if x.DANE.Usable() {
		var mismatch *Problem
		if o.Proof, mismatch = x.DANE.examine(cs); o.Proof != nil {
			o.Verification, o.Problem = o.Proof.Verification(), nil
			return o
		}
		if x.DANEAlone || !o.PKIX {
			o.Problem = mismatch
		}
	}
	if o.Verification = VerifiedPKIX; o.Problem != nil {
		o.Verification = VerifiedNone
	}
	return o
}

// pkix verifies chain first and name second (RFC 5280, RFC 9525): a certificate
// with several faults is blamed for the one that makes the name meaningless.
func (x Examiner) pkix(chain []*x509.Certificate) *Problem {
	if len(chain) == 0 {
		return &Problem{Reason: CertificateInvalid, Text: "the server showed no certificate"}
	}
	now := x.Now
	if now.IsZero() {
		now = time.Now()
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         x.Roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err == nil {
		err = chain[0].VerifyHostname(x.Host)
	}
	if err == nil {
		return nil
	}
	return &Problem{Reason: classify(err, now), Text: err.Error()}
}

// classify maps the errors of crypto/x509 to the vocabulary.
func classify(err error, now time.Time) Reason {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		roots   x509.SystemRootsError
	)
	switch {
	case errors.As(err, &name):
		return CertificateNameMismatch
	case errors.As(err, &unknown), errors.As(err, &roots):
		return CertificateUntrusted
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		// crypto/x509 has one code for both ends of the validity period.
		if invalid.Cert != nil && now.Before(invalid.Cert.NotBefore) {
			return CertificateNotYetValid
		}
		return CertificateExpired
	}
	return CertificateInvalid
}
