package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Kind names what is right or wrong with a certificate. Every faulty kind has
// that one fault and no other.
type Kind string

const (
	Good                Kind = "good"                 // signed by the root, names match
	SelfSigned          Kind = "self-signed"          // signed by its own key
	Expired             Kind = "expired"              // ended an hour ago
	NotYetValid         Kind = "not-yet-valid"        // begins tomorrow
	WrongName           Kind = "wrong-name"           // for wrong-name.invalid only
	UnknownCA           Kind = "unknown-ca"           // signed by a root outside the pool
	MissingIntermediate Kind = "missing-intermediate" // signed by the intermediate, which is not sent
	WrongUsage          Kind = "wrong-usage"          // extended key usage clientAuth only
	IPOnly              Kind = "ip-only"              // IP address SAN only, 127.0.0.1 if names has none
	CNOnly              Kind = "cn-only"              // no SAN; the first name is the common name
	WithIntermediate    Kind = "with-intermediate"    // good, signed by the intermediate, which is sent
	Wildcard            Kind = "wildcard"             // good, for *.parent of each name
)

// Kinds lists every Kind, the good ones too.
var Kinds = []Kind{
	Good, SelfSigned, Expired, NotYetValid, WrongName, UnknownCA, MissingIntermediate,
	WrongUsage, IPOnly, CNOnly, WithIntermediate, Wildcard,
}

// IsGood reports whether a certificate of this kind verifies for its names.
func (k Kind) IsGood() bool { return k == Good || k == WithIntermediate || k == Wildcard }

// Issue makes a server certificate of the given kind for names, which may be
// host names (U-labels are converted) or IP addresses; at least one is needed.
// Leaf is set in the result.
func (ca *CA) Issue(kind Kind, names ...string) (tls.Certificate, error) {
	template, err := newTemplate(names)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := spoil(template, kind); err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("mailtest: leaf key: %w", err)
	}
	signer := ca.root
	switch kind {
	case SelfSigned:
		signer = authority{cert: template, key: key}
	case UnknownCA:
		signer = ca.stranger
	case MissingIntermediate, WithIntermediate:
		signer = ca.intermediate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("mailtest: %s certificate: %w", kind, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("mailtest: %s certificate: %w", kind, err)
	}
	chain := [][]byte{der}
	if kind == WithIntermediate {
		chain = append(chain, ca.intermediate.cert.Raw)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// newTemplate describes a faultless leaf for names.
func newTemplate(names []string) (*x509.Certificate, error) {
	if len(names) == 0 {
		return nil, errors.New("mailtest: a certificate needs a name")
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-12 * time.Hour),
		NotAfter:              now.AddDate(0, 3, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		ascii, err := idna.ToASCII(strings.ToLower(strings.TrimSuffix(name, ".")))
		if err != nil || ascii == "" {
			return nil, fmt.Errorf("mailtest: certificate name %q is no host name", name)
		}
		template.DNSNames = append(template.DNSNames, ascii)
	}
	template.Subject = pkix.Name{CommonName: slices.Concat(template.DNSNames, names)[0]}
	return template, nil
}

// spoil puts the fault of kind into a faultless template. Faults of the
// signature are the business of Issue.
func spoil(template *x509.Certificate, kind Kind) error {
	now := time.Now()
	switch kind {
	case Good, SelfSigned, UnknownCA, MissingIntermediate, WithIntermediate:
	case Expired:
		template.NotAfter = now.Add(-time.Hour)
	case NotYetValid:
		template.NotBefore = now.Add(24 * time.Hour)
	case WrongName:
		template.DNSNames, template.IPAddresses = []string{"wrong-name.invalid"}, nil
		template.Subject.CommonName = "wrong-name.invalid"
	case WrongUsage:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case IPOnly:
		template.DNSNames = nil
		if template.IPAddresses == nil {
			template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		}
	case CNOnly:
		template.DNSNames, template.IPAddresses = nil, nil
	case Wildcard:
		for i, name := range template.DNSNames {
			_, parent, ok := strings.Cut(name, ".")
			if !ok {
				return fmt.Errorf("mailtest: no wildcard covers the single label %q", name)
			}
			template.DNSNames[i] = "*." + parent
		}
	default:
		return fmt.Errorf("mailtest: unknown kind of certificate %q", kind)
	}
	return nil
}
