package tests

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// maddy runs a command beside the server and returns what it prints.
func (s *server) maddy(args ...string) string {
	s.Helper()
	out, err := exec.Command(binary, append([]string{"--config", s.path("maddy.conf")}, args...)...).CombinedOutput()
	if err != nil {
		s.Fatalf("maddy %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// startDowngraded runs a server to which mx1.test proves a good certificate, ends
// it, and starts it again in a world where the host offers no STARTTLS.
func startDowngraded(t *testing.T, directives string) *server {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, "mx1.test"))
	s.config(blocks{endpoints: anyoneDirect("smtp", ""), target: directives})
	s.start()
	if got := reply(s.direct(mail{})); got != "accepted" {
		t.Fatal(got)
	}
	if d := s.lastDocument(1); d.get("delivery-status.certificate-verified") != true || d.get("delivery-status.tls-downgrade") != nil {
		t.Fatalf("document %v", d)
	}
	s.stop()
	s.mx[0].Set(mailtest.Behaviour{})
	s.start()
	return s
}

// TestDowngradeIsLogged: by default a host that proved TLS and drops it gets its
// mail, and the document and a counter tell of it.
func TestDowngradeIsLogged(t *testing.T) {
	t.Parallel()
	s := startDowngraded(t, "")
	if got := reply(s.direct(mail{})); got != "accepted" {
		t.Fatal(got)
	}
	d := s.lastDocument(2)
	for path, want := range map[string]any{
		"event": "delivered", "delivery-status.tls": false, "delivery-status.tls-fallback": "tls-not-offered",
		"delivery-status.tls-downgrade.mx-host": "mx1.test", "delivery-status.tls-downgrade.expected": "verified",
		"delivery-status.tls-downgrade.verification": "pkix", "delivery-status.tls-downgrade.action": "log",
		"tls-policy.demanded": "opportunistic",
	} {
		if got := d.get(path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	s.becomes(`maddy_remote_tls_downgrades_total{action="log",expected="verified",module="outbound"}`, 1)
	s.logs("an MX host gives less TLS than it did before")
}

// TestDowngradeIsDeferred: with downgrade_action defer its mail waits, and an
// operator lets the host go while the server runs.
func TestDowngradeIsDeferred(t *testing.T) {
	t.Parallel()
	s := startDowngraded(t, "downgrade_action defer")
	if got := reply(s.direct(mail{})); got != "451 4.7.4" {
		t.Fatal(got)
	}
	d := s.lastDocument(2)
	if d.status() != "failed temporary 451 tls-not-offered" || d.get("delivery-status.tls-downgrade.action") != "defer" {
		t.Errorf("document %v", d)
	}
	s.becomes(`maddy_remote_tls_downgrades_total{action="defer",expected="verified",module="outbound"}`, 1)
	s.neverInClear()

	if out := s.maddy("tls", "memory"); !strings.Contains(out, "mx1.test  verified  pkix ") {
		t.Errorf("tls memory prints\n%s", out)
	}
	if out := s.maddy("tls", "forget", "mx1.test"); out != "mx1.test: forgotten by outbound\n" {
		t.Errorf("tls forget prints\n%s", out)
	}
	s.eventually("its mail flows", func() bool { return reply(s.direct(mail{})) == "accepted" })
	if out := s.maddy("tls", "memory"); out != "Nothing is remembered.\n" {
		t.Errorf("afterwards tls memory prints\n%s", out)
	}
}

// TestDamagedMemoryAndKill: a damaged line and a violent death at once after the start
// cost no host that can be read, and a command sees it all the time.
func TestDamagedMemoryAndKill(t *testing.T) {
	t.Parallel()
	s := startDowngraded(t, "downgrade_action defer")
	s.stop()
	path := s.path("state/tls_memory/outbound.hosts")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append(text, "garbage\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	if out := s.maddy("tls", "memory"); !strings.Contains(out, "mx1.test  verified  pkix ") {
		t.Errorf("tls memory prints\n%s", out)
	}
	s.kill()
	s.start()
	if got := reply(s.direct(mail{})); got != "451 4.7.4" {
		t.Error(got)
	}
	s.neverInClear()
	// The commands take what cannot be read as it is; the server does not.
	s.stop()
	err = os.Remove(path)
	if err == nil {
		err = os.Mkdir(path, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := s.maddy("tls", "explain", "--from", "a@example.com", "--to", "b@example.net"); !strings.Contains(out, "cannot read what hosts proved before") {
		t.Errorf("tls explain prints\n%s", out)
	}
	s.launch()
	select {
	case <-s.exited:
	case <-time.After(hang):
		s.kill()
		t.Fatal("maddy started")
	}
	if log := s.stderr.String(); s.exitErr == nil || !strings.Contains(log, "downgrade_action: unexpected defer, because what hosts proved before cannot be read") {
		t.Errorf("%v\n%s", s.exitErr, log)
	}
}

// TestDowngradeMemoryOff: nothing is remembered, nor written.
func TestDowngradeMemoryOff(t *testing.T) {
	t.Parallel()
	s := startDowngraded(t, "downgrade_memory off")
	if got := reply(s.direct(mail{})); got != "accepted" {
		t.Fatal(got)
	}
	if d := s.lastDocument(2); d.get("delivery-status.tls-downgrade") != nil {
		t.Errorf("document %v", d)
	}
	if out := s.maddy("tls", "memory"); out != "Nothing is remembered.\n" {
		t.Errorf("tls memory prints\n%s", out)
	}
}
