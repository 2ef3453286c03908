package tlsplan_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsplan"
)

func TestExamine(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	const host = "mx.example.net"
	for kind, want := range map[mailtest.Kind]tlsplan.Reason{
		mailtest.Good:                "",
		mailtest.Wildcard:            "",
		mailtest.WithIntermediate:    "",
		mailtest.SelfSigned:          tlsplan.CertificateUntrusted,
		mailtest.UnknownCA:           tlsplan.CertificateUntrusted,
		mailtest.MissingIntermediate: tlsplan.CertificateUntrusted,
		mailtest.Expired:             tlsplan.CertificateExpired,
		mailtest.NotYetValid:         tlsplan.CertificateNotYetValid,
		mailtest.WrongName:           tlsplan.CertificateNameMismatch,
		mailtest.IPOnly:              tlsplan.CertificateNameMismatch,
		mailtest.CNOnly:              tlsplan.CertificateNameMismatch,
		mailtest.WrongUsage:          tlsplan.CertificateInvalid,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			cert, err := ca.Issue(kind, host)
			if err != nil {
				t.Fatal(err)
			}
			cs := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, CurveID: tls.X25519}
			for _, der := range cert.Certificate {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				cs.PeerCertificates = append(cs.PeerCertificates, c)
			}
			o := tlsplan.Examiner{Host: host, Roots: ca.Pool()}.Examine(cs)
			var got tlsplan.Reason
			if o.Problem != nil {
				got = o.Problem.Reason
			}
			if got != want || o.Verified() != (want == "") || !o.TLS {
				t.Errorf("outcome %+v, problem %v, want reason %q", o, o.Problem, want)
			}
			if o.Certificate == nil || o.Certificate.SHA256 != sha256.Sum256(cert.Certificate[0]) {
				t.Errorf("certificate %+v", o.Certificate)
			}
			if o.Version != cs.Version || o.CipherSuite != cs.CipherSuite || o.KeyExchange != cs.CurveID {
				t.Errorf("parameters %+v", o)
			}
		})
	}
}

// TestExamineLater: the same certificate turns bad with time.
func TestExamineLater(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(mailtest.Good, "mx.example.net")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	for _, tt := range []struct {
		now  time.Time
		want tlsplan.Reason
	}{
		{leaf.NotAfter.Add(time.Second), tlsplan.CertificateExpired},
		{leaf.NotBefore.Add(-time.Second), tlsplan.CertificateNotYetValid},
	} {
		o := tlsplan.Examiner{Host: "mx.example.net", Roots: ca.Pool(), Now: tt.now}.Examine(cs)
		if o.Verified() || o.Problem.Reason != tt.want {
			t.Errorf("at %v: %v, want %v", tt.now, o.Problem, tt.want)
		}
	}
}

func TestExamineNothingShown(t *testing.T) {
	t.Parallel()
	o := tlsplan.Examiner{Host: "mx.example.net"}.Examine(tls.ConnectionState{})
	if o.Verified() || o.Problem.Reason != tlsplan.CertificateInvalid || o.Certificate != nil {
		t.Errorf("outcome %+v", o)
	}
}
