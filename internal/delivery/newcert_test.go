package delivery_test

import (
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
)

// TestNewCertificate: a host that has a good certificate now is not held to the
// bad one with which an earlier session began.
func TestNewCertificate(t *testing.T) {
	t.Parallel()
	for name, now := range map[string]policy.Settings{
		"required": {RequireTLS: true}, "opportunistic": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p switching
			p.set(policy.Settings{RequireTLS: true, SkipVerification: true})
			w := newWorld(t, func(c *delivery.Config) { noReuse(c); c.Policies = &p }, withCert(mailtest.SelfSigned))
			if f := w.sendOne(); f != nil {
				t.Fatal(code(f))
			}
			w.handshakes(1)
			w.mx[0].Set(good()(w, hostName(0)))
			p.set(now)
			if f := w.sendOne(); f != nil || !w.last().Connection.Outcome.Verified() {
				t.Errorf("%s on %+v, want verified TLS", code(f), w.last().Connection)
			}
		})
	}
}
