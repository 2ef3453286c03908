package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// CA is a throw-away certificate authority: a root, an intermediate below it,
// and a second root that nobody trusts, from which UnknownCA certificates come.
// It never changes after NewCA and may be used from several goroutines.
type CA struct {
	root         authority
	intermediate authority
	stranger     authority
}

// authority is a certificate that signs, with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes an authority with fresh ECDSA P-256 keys, valid from a day ago
// for ten years.
func NewCA() (*CA, error) {
	root, err := newAuthority("Mailtest Root", nil)
	if err != nil {
		return nil, err
	}
	intermediate, err := newAuthority("Mailtest Intermediate", &root)
	if err != nil {
		return nil, err
	}
	stranger, err := newAuthority("Mailtest Stranger", nil)
	if err != nil {
		return nil, err
	}
	return &CA{root: root, intermediate: intermediate, stranger: stranger}, nil
}

// Pool returns a pool that holds the root alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.root.cert)
	return pool
}

// Root returns the root certificate.
func (ca *CA) Root() *x509.Certificate { return ca.root.cert }

// Intermediate returns the certificate that signs WithIntermediate and
// MissingIntermediate ones.
func (ca *CA) Intermediate() *x509.Certificate { return ca.intermediate.cert }

// PEM returns the root certificate in PEM form.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.root.cert.Raw})
}

// WriteFile writes the root certificate to path in PEM form.
func (ca *CA) WriteFile(path string) error {
	return os.WriteFile(path, ca.PEM(), 0o644)
}

// newAuthority makes a signing certificate, self-signed where parent is nil.
func newAuthority(name string, parent *authority) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("mailtest: key for %s: %w", name, err)
	}
	serial, err := newSerial()
	if err != nil {
		return authority{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	signer := authority{cert: template, key: key}
	if parent != nil {
		signer = *parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return authority{}, fmt.Errorf("mailtest: certificate for %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("mailtest: certificate for %s: %w", name, err)
	}
	return authority{cert: cert, key: key}, nil
}

// newSerial draws a random serial number of 120 bits (RFC 5280, 4.1.2.2 allows
// twenty octets).
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("mailtest: serial number: %w", err)
	}
	return serial, nil
}
