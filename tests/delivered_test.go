package tests

import (
	"testing"

	"tlscontrol/internal/mailtest"
)

// TestDelivered: a message goes from the submission endpoint through the queue
// to an MX host over verified TLS, and the log says so.
func TestDelivered(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, host(0)))
	s.config(blocks{policy: "require_tls yes"})
	s.start()
	s.mustSubmit(mail{})
	d := s.lastDocument(1)
	if d.status() != "delivered 250" || d.get("delivery-status.tls") != true || d.get("delivery-status.certificate-verified") != true {
		t.Errorf("document %v", d)
	}
	if m := s.mx[0].Messages(); len(m) != 1 || !m[0].TLS {
		t.Errorf("messages %+v", m)
	}
	s.neverInClear()
}
