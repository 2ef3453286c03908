package status

import (
	"crypto/tls"
	"fmt"
	"strings"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/tlsplan"
)

// connection fills in what belongs to the connection on which the result fell.
func (b *Builder) connection(c *delivery.Connection) {
	s := &b.document.DeliveryStatus
	o := &c.Outcome
	s.MXHost = clip(c.Host, maxWord)
	s.MXIP = address(c.IP)
	if 0 < c.Port && c.Port <= 65535 {
		s.MXPort = c.Port
	}
	if b.seconds = Seconds(c.Seconds); b.seconds.known() {
		s.SessionSeconds = &b.seconds
	}
	s.ConnectionReused = boolean(c.Reused)
	s.TLS = boolean(o.TLS)
	s.Verification = verification(*o)
	s.CertificateVerified = boolean(s.Verification != tlsplan.VerifiedNone)
	s.Certificate = b.shown(o.Certificate)
	if !o.TLS {
		return
	}
	s.TLSVersion = versionName(o)
	s.TLSCipher = CipherName(o.CipherSuite)
	s.TLSKeyExchange = KeyExchangeName(o.KeyExchange)
	if s.Verification == tlsplan.VerifiedNone {
		s.VerificationError = verificationError(o.Problem)
	}
}

// verification is the way in which the connection was verified. A word that
// is not in the vocabulary proves nothing.
func verification(o tlsplan.Outcome) tlsplan.Verification {
	if o.TLS {
		switch o.Verification {
		case tlsplan.VerifiedPKIX, tlsplan.VerifiedDANEEE, tlsplan.VerifiedDANETA:
			return o.Verification
		}
	}
	return tlsplan.VerifiedNone
}

func verificationError(p *tlsplan.Problem) string {
	if p == nil {
		return string(tlsplan.Internal) + ": no reason recorded"
	}
	known := tlsplan.Problem{Reason: known(p.Reason), Text: p.Text}
	return clip(known.String(), maxText)
}

func (b *Builder) shown(c *tlsplan.Certificate) *Certificate {
	if c == nil {
		return nil
	}
	b.certificate = Certificate{
		Subject:  clip(c.Subject, maxWord),
		Issuer:   clip(c.Issuer, maxWord),
		NotAfter: Moment(c.NotAfter.Unix()),
		SHA256:   c.SHA256,
	}
	return &b.certificate
}

// versionName is the name of a TLS version, its number in hexadecimal if it has
// none, and empty for no version.
func versionName(o *tlsplan.Outcome) string {
	if name := o.VersionName(); name != "" || o.Version == 0 {
		return name
	}
	return fmt.Sprintf("0x%04x", o.Version)
}

// cipherNames saves building the list of crypto/tls for every document. It is
// only read.
var cipherNames = func() map[uint16]string {
	m := make(map[uint16]string)
	for _, s := range tls.CipherSuites() {
		m[s.ID] = s.Name
	}
	for _, s := range tls.InsecureCipherSuites() {
		m[s.ID] = s.Name
	}
	return m
}()

// CipherName is the IANA name of a cipher suite, its number in hexadecimal if
// it has none.
func CipherName(id uint16) string {
	if id == 0 {
		return ""
	}
	if name, ok := cipherNames[id]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", id)
}

// KeyExchangeName is the name of a group, as the IANA registry of TLS
// supported groups knows it; crypto/tls has its own for the NIST curves.
func KeyExchangeName(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	}
	if name := id.String(); !strings.Contains(name, "(") {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(id))
}
