package tests

import (
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestFaultsOfCertificates: a certificate with whatever fault stops a sender who
// requires verified TLS, and costs one who does not nothing but the lock: the
// message leaves in clear, or unverified where that is preferred.
func TestFaultsOfCertificates(t *testing.T) {
	t.Parallel()
	reasons := map[mailtest.Kind]string{
		mailtest.SelfSigned:          "certificate-untrusted",
		mailtest.Expired:             "certificate-expired",
		mailtest.NotYetValid:         "certificate-not-yet-valid",
		mailtest.WrongName:           "certificate-name-mismatch",
		mailtest.UnknownCA:           "certificate-untrusted",
		mailtest.MissingIntermediate: "certificate-untrusted",
		mailtest.WrongUsage:          "certificate-invalid",
		mailtest.IPOnly:              "certificate-name-mismatch",
		mailtest.CNOnly:              "certificate-name-mismatch",
	}
	for _, preference := range []string{"plaintext", "unverified"} {
		t.Run(preference, func(t *testing.T) {
			t.Parallel()
			var faults []fault
			for _, kind := range mailtest.Kinds {
				hosts := []faultHost{{cert: kind}}
				if kind.IsGood() {
					faults = append(faults,
						fault{name: string(kind), hosts: hosts, want: "delivered 250", verified: true},
						fault{name: string(kind), hosts: hosts, strict: true, want: "delivered 250", verified: true})
					continue
				}
				faults = append(faults,
					fault{name: string(kind), hosts: hosts, want: "delivered 250", tls: preference == "unverified", fallback: reasons[kind]},
					fault{name: string(kind), hosts: hosts, strict: true, want: "failed temporary 451 " + reasons[kind]})
			}
			s := startFaults(t, blocks{target: patient, policy: "opportunistic_fallback " + preference}, faults...)
			s.run()
			for i, f := range s.faults {
				connections, most := s.mx[s.first[i]].Connections(), 1
				if preference == "plaintext" && f.fallback != "" {
					most = 2
				}
				if connections != most {
					t.Errorf("%s, TLS required %v: %d connections, want %d", f.name, f.strict, connections, most)
				}
				// It is there whenever it was seen, also when it was refused.
				d := s.documentOf("b@" + s.domain(i))
				if d.get("delivery-status.certificate.sha256") == nil {
					t.Errorf("%s, TLS required %v: no certificate in %v", f.name, f.strict, d)
				}
			}
		})
	}
}

// TestDefaultCertificate: a host that has a certificate for the MX name, and
// another one for clients that do not say whom they want, is asked by name.
func TestDefaultCertificate(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b := certificate(t, ca, mailtest.Good, host(0))
	b.NoSNICertificate = certificate(t, ca, mailtest.Good, "default.invalid").Certificate
	s := newServerCA(t, ca, b)
	s.config(blocks{policy: "require_tls yes"})
	s.start()
	s.mustSubmit(mail{})
	if d := s.lastDocument(1); d.status() != "delivered 250" || d.get("delivery-status.certificate-verified") != true {
		t.Errorf("document %v", d)
	}
	if sni := s.mx[0].Sessions()[0].SNI; sni != host(0) {
		t.Errorf("asked for %q", sni)
	}
}
