package mailtest_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

const host = "mx1.example.net"

// verify judges a certificate as a client does that sees what is sent.
func verify(ca *mailtest.CA, cert tls.Certificate, at time.Time) error {
	intermediates := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	_, err := cert.Leaf.Verify(x509.VerifyOptions{
		Roots: ca.Pool(), Intermediates: intermediates, DNSName: host, CurrentTime: at,
	})
	return err
}

func TestEveryKindHasItsFault(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	invalid := func(reason x509.InvalidReason) func(error) bool {
		return func(err error) bool {
			var e x509.CertificateInvalidError
			return errors.As(err, &e) && e.Reason == reason
		}
	}
	unknown := func(err error) bool { var e x509.UnknownAuthorityError; return errors.As(err, &e) }
	misnamed := func(err error) bool { var e x509.HostnameError; return errors.As(err, &e) }
	good := func(err error) bool { return err == nil }
	want := map[mailtest.Kind]func(error) bool{
		mailtest.Good:                good,
		mailtest.WithIntermediate:    good,
		mailtest.Wildcard:            good,
		mailtest.SelfSigned:          unknown,
		mailtest.UnknownCA:           unknown,
		mailtest.MissingIntermediate: unknown,
		mailtest.Expired:             invalid(x509.Expired),
		mailtest.NotYetValid:         invalid(x509.Expired),
		mailtest.WrongUsage:          invalid(x509.IncompatibleUsage),
		mailtest.WrongName:           misnamed,
		mailtest.IPOnly:              misnamed,
		mailtest.CNOnly:              misnamed,
	}
	if len(want) != len(mailtest.Kinds) {
		t.Errorf("Kinds has %d kinds, this test knows %d", len(mailtest.Kinds), len(want))
	}
	for _, kind := range mailtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			cert, err := ca.Issue(kind, host)
			if err != nil {
				t.Fatal(err)
			}
			verdict := verify(ca, cert, time.Now())
			if !want[kind](verdict) {
				t.Errorf("verification says %v", verdict)
			}
			if kind.IsGood() != (verdict == nil) {
				t.Errorf("IsGood is %v, verification says %v", kind.IsGood(), verdict)
			}
		})
	}
}

// The faults stand alone: with the one thing mended, each certificate is good.
func TestFaultsStandAlone(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	issue := func(kind mailtest.Kind) tls.Certificate {
		cert, err := ca.Issue(kind, host)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	if err := verify(ca, issue(mailtest.Expired), time.Now().Add(-2*time.Hour)); err != nil {
		t.Errorf("the expired one was never valid: %v", err)
	}
	if err := verify(ca, issue(mailtest.NotYetValid), time.Now().Add(48*time.Hour)); err != nil {
		t.Errorf("the early one is never valid: %v", err)
	}
	lacking := issue(mailtest.MissingIntermediate)
	lacking.Certificate = append(lacking.Certificate, ca.Intermediate().Raw)
	if err := verify(ca, lacking, time.Now()); err != nil {
		t.Errorf("with its intermediate: %v", err)
	}
	if err := issue(mailtest.SelfSigned).Leaf.VerifyHostname(host); err != nil {
		t.Errorf("self-signed: %v", err)
	}
	for _, kind := range []mailtest.Kind{mailtest.IPOnly, mailtest.CNOnly, mailtest.WrongName} {
		leaf := issue(kind).Leaf
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool()}); err != nil {
			t.Errorf("%s: the chain alone: %v", kind, err)
		}
	}
	if leaf := issue(mailtest.CNOnly).Leaf; leaf.Subject.CommonName != host || len(leaf.DNSNames) != 0 {
		t.Errorf("cn-only: CN %q, SAN %q", leaf.Subject.CommonName, leaf.DNSNames)
	}
	if leaf := issue(mailtest.IPOnly).Leaf; len(leaf.IPAddresses) != 1 || len(leaf.DNSNames) != 0 {
		t.Errorf("ip-only: IP %v, SAN %q", leaf.IPAddresses, leaf.DNSNames)
	}
}

func TestIssueNames(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, "MX.Bücher.example.", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mx.xn--bcher-kva.example", "192.0.2.1"} {
		if err := cert.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []struct {
		kind  mailtest.Kind
		names []string
	}{{mailtest.Good, nil}, {"no-such-kind", []string{host}}, {mailtest.Wildcard, []string{"localhost"}}} {
		if _, err := ca.Issue(bad.kind, bad.names...); err == nil {
			t.Errorf("Issue(%q, %q) is accepted", bad.kind, bad.names)
		}
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := ca.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, ca.PEM()) {
		t.Error("the file differs from PEM")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) || !pool.Equal(ca.Pool()) {
		t.Error("the file does not hold the root of Pool")
	}
}
