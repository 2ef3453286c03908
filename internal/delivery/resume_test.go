package delivery_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// noReuse makes every message open a connection of its own.
func noReuse(c *delivery.Config) { c.Pool.PerHost = 0 }

// versions are those in which sessions are resumed in different ways.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func upTo(version uint16) func(*mailtest.Behaviour) {
	return func(b *mailtest.Behaviour) { b.MaxTLS = version }
}

// handshakes waits until the host has ended n handshakes and returns how many
// were resumptions.
func (w *world) handshakes(n int) (resumed int) {
	w.Helper()
	w.eventually(fmt.Sprintf("%d handshakes", n), func() bool {
		sessions := w.mx[0].Sessions()
		resumed = 0
		for _, s := range sessions {
			if s.Resumed {
				resumed++
			}
		}
		return len(sessions) == n && sessions[n-1].Closed
	})
	return resumed
}

// TestResumption: a further connection to a host resumes the TLS session of the
// one before, and the document tells of it what was found out at first.
func TestResumption(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *delivery.Config) {
				noReuse(c)
				c.Policies = static(policy.Settings{RequireTLS: true})
			}, good(upTo(version)))
			var first *tlsplan.Certificate
			for i := range 3 {
				if f := w.sendOne(); f != nil {
					t.Fatal(code(f))
				}
				if n := w.handshakes(i + 1); n != i {
					t.Errorf("message %d: %d sessions resumed", i, n)
				}
				o := w.last().Connection.Outcome
				if !o.TLS || !o.Verified() || o.Verification != tlsplan.VerifiedPKIX || o.Problem != nil || o.Certificate == nil {
					t.Fatalf("message %d: outcome %+v", i, o)
				}
				if first == nil {
					first = o.Certificate
				} else if *o.Certificate != *first {
					t.Errorf("message %d: certificate %+v, want %+v", i, o.Certificate, first)
				}
			}
		})
	}
}

// TestResumptionProvesNothing: a session that was made with a certificate which
// did not matter then, resumed or not, is no proof when it does matter.
func TestResumptionProvesNothing(t *testing.T) {
	t.Parallel()
	lenient := policy.Settings{RequireTLS: true, SkipVerification: true}
	for _, version := range versions {
		for kind, want := range map[mailtest.Kind]string{
			mailtest.SelfSigned: "451 4.7.5 certificate-untrusted",
			mailtest.Expired:    "451 4.7.5 certificate-expired",
			mailtest.WrongName:  "451 4.7.5 certificate-name-mismatch",
		} {
			t.Run(tls.VersionName(version)+" "+string(kind), func(t *testing.T) {
				t.Parallel()
				var p switching
				p.set(lenient)
				w := newWorld(t, func(c *delivery.Config) { noReuse(c); c.Policies = &p }, withCert(kind, upTo(version)))
				if f := w.sendOne(); f != nil {
					t.Fatal(code(f))
				}
				// The session is at hand once the connection has come to its end.
				w.handshakes(1)
				p.set(policy.Settings{RequireTLS: true})
				if got := code(w.sendOne()); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				a := w.last()
				if o := a.Connection.Outcome; o.Verified() || o.Certificate == nil {
					t.Errorf("outcome %+v, want the certificate and no proof", o)
				}
				// Nobody else gets more, or less, than the first time.
				p.set(policy.Settings{})
				if f := w.sendOne(); f != nil || w.last().Connection.Outcome.TLS {
					t.Errorf("opportunistic: %s on %+v, want clear text", code(f), w.last().Connection)
				}
				p.set(lenient)
				if f := w.sendOne(); f != nil || w.last().Connection.Outcome.Verified() || !w.last().Connection.Outcome.TLS {
					t.Errorf("lenient: %s on %+v, want unverified TLS", code(f), w.last().Connection)
				}
			})
		}
	}
}
