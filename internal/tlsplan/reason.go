package tlsplan

// Reason names what went wrong, in one word of a closed vocabulary. It is the
// `reason` of the delivery-status document, the `reason` label of the
// counters, and the word an operator searches the log for.
type Reason string

// The vocabulary. New reasons are added here and to docs/delivery-log.md.
const (
	TLSNotOffered           Reason = "tls-not-offered"
	TLSRejected             Reason = "tls-rejected"
	TLSHandshake            Reason = "tls-handshake"
	CertificateExpired      Reason = "certificate-expired"
	CertificateNotYetValid  Reason = "certificate-not-yet-valid"
	CertificateNameMismatch Reason = "certificate-name-mismatch"
	CertificateUntrusted    Reason = "certificate-untrusted"
	CertificateInvalid      Reason = "certificate-invalid"
	DANEMismatch            Reason = "dane-mismatch"
	DANELookup              Reason = "dane-lookup"
	MTASTSMismatch          Reason = "mta-sts-mx-mismatch"
	MXUnauthenticated       Reason = "mx-unauthenticated"
	RequireTLSUnsupported   Reason = "requiretls-unsupported"
	Policy                  Reason = "policy"
	MXLookup                Reason = "mx-lookup"
	NullMX                  Reason = "null-mx"
	Connect                 Reason = "connect"
	Timeout                 Reason = "timeout"
	ConnectionLost          Reason = "connection-lost"
	MailRejected            Reason = "mail-rejected"
	RcptRejected            Reason = "rcpt-rejected"
	DataRejected            Reason = "data-rejected"
	MessageTooLarge         Reason = "message-too-large"
	Limits                  Reason = "limits"
	Internal                Reason = "internal"
)

// Reasons lists the vocabulary, in the order of the documentation.
func Reasons() []Reason {
	return []Reason{
		TLSNotOffered, TLSRejected, TLSHandshake, CertificateExpired, CertificateNotYetValid,
		CertificateNameMismatch, CertificateUntrusted, CertificateInvalid, DANEMismatch, DANELookup,
		MTASTSMismatch, MXUnauthenticated, RequireTLSUnsupported, Policy, MXLookup, NullMX, Connect,
		Timeout, ConnectionLost, MailRejected, RcptRejected, DataRejected, MessageTooLarge, Limits, Internal,
	}
}

// IsCertificate reports whether r blames the certificate that a host showed,
// as opposed to a handshake that did not come to an end.
func (r Reason) IsCertificate() bool {
	switch r {
	case CertificateExpired, CertificateNotYetValid, CertificateNameMismatch,
		CertificateUntrusted, CertificateInvalid, DANEMismatch:
		return true
	}
	return false
}

// IsTLS reports whether r is about TLS itself: it was not offered, refused,
// broken, or came with a bad certificate.
func (r Reason) IsTLS() bool {
	return r == TLSNotOffered || r == TLSRejected || r == TLSHandshake || r.IsCertificate()
}

// Problem is one thing that is not as it was wished, for programs (Reason) and
// for people (Text). Text may quote a remote side; whoever prints it escapes it.
type Problem struct {
	Reason Reason
	Text   string
}

// String is the form of `verification-error`: "reason: text".
func (p *Problem) String() string {
	if p == nil {
		return ""
	}
	if p.Text == "" {
		return string(p.Reason)
	}
	return string(p.Reason) + ": " + p.Text
}
