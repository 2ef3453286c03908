package delivery_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// switching is a policy that can change while the engine runs.
type switching struct {
	now atomic.Pointer[policy.Settings]
}

func (s *switching) Row(context.Context, string) (*policy.Block, error) { return nil, nil }

func (s *switching) Decide(q policy.Question) policy.Settings {
	return static(*s.now.Load()).Decide(q)
}

func (s *switching) set(to policy.Settings) { s.now.Store(&to) }

func TestReuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good())
	for i := range 3 {
		if f := w.sendOne(); f != nil {
			t.Fatal(f)
		}
		if a := w.last(); a.Connection.Reused != (i > 0) || !a.Connection.Outcome.Verified() {
			t.Errorf("message %d: connection %+v", i, a.Connection)
		}
	}
	if n := w.mx[0].Connections(); n != 1 {
		t.Errorf("%d connections for three messages", n)
	}
}

// TestReuseLimit: conn_reuse_limit means what it means in target.remote.
func TestReuseLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{0: 4, 1: 2, 10: 1} {
		w := newWorld(t, func(c *delivery.Config) { c.ReuseLimit = limit }, good())
		for range 4 {
			if f := w.sendOne(); f != nil {
				t.Fatal(f)
			}
		}
		if n := w.mx[0].Connections(); n != want {
			t.Errorf("limit %d: %d connections for four messages, want %d", limit, n, want)
		}
	}
}

// TestIdleConnectionsAfterAPolicyChange: connections opened for a weaker plan
// are still there when the plan becomes stricter, and are not used.
func TestIdleConnectionsAfterAPolicyChange(t *testing.T) {
	t.Parallel()
	var p switching
	p.set(policy.Settings{SkipVerification: true})
	w := newWorld(t, func(c *delivery.Config) { c.Policies = &p }, withCert(mailtest.SelfSigned))
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}
	p.set(policy.Settings{RequireTLS: true})
	if f := w.sendOne(); f == nil || f.Reason != tlsplan.CertificateUntrusted {
		t.Errorf("an unverified connection served a plan that demands verification: %s", code(f))
	}
	p.set(policy.Settings{RequireTLS: true, SkipVerification: true})
	if f := w.sendOne(); f != nil || !w.last().Connection.Reused {
		t.Errorf("the unverified connection is good for this plan: %s, %+v", code(f), w.last().Connection)
	}
	// In clear after a bad certificate: no good for somebody who takes any.
	p.set(policy.Settings{})
	if f := w.sendOne(); f != nil || w.last().Connection.Outcome.TLS {
		t.Errorf("%s, %+v", code(f), w.last().Connection)
	}
	p.set(policy.Settings{RequireTLS: true, SkipVerification: true})
	for range 3 {
		if f := w.sendOne(); f != nil || !w.last().Connection.Outcome.TLS {
			t.Errorf("%s, %+v", code(f), w.last().Connection)
		}
	}
}

// TestStale: an idle connection that the server closed meanwhile is replaced
// at once, and nobody hears of it.
func TestStale(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]hostFunc{
		"421 to MAIL": good(func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "421 4.4.2 idle too long" }),
		"EOF":         good(func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "eof" }),
		"reset":       good(func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "reset" }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, host)
			for i := range 3 {
				if f := w.sendOne(); f != nil {
					t.Fatalf("message %d: %v", i, f)
				}
				if a := w.last(); len(a.Hosts) != 0 || a.Connection.Reused {
					t.Errorf("message %d: the document tells of it: %+v on %+v", i, a.Hosts, a.Connection)
				}
			}
			if n := w.mx[0].Delivered(); n != 3 {
				t.Errorf("%d messages arrived", n)
			}
			if len(w.rec.troubles) != 0 {
				t.Errorf("troubles %+v", w.rec.troubles)
			}
		})
	}
	t.Run("closed while idle", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good(func(b *mailtest.Behaviour) { b.IdleClose, b.IdleReply = 100*time.Millisecond, "421 4.4.2 idle" }))
		for i := range 3 {
			if f := w.sendOne(); f != nil {
				t.Fatalf("message %d: %v", i, f)
			}
			w.eventually("the server closes", func() bool {
				s := w.mx[0].Sessions()
				return s[len(s)-1].Closed
			})
		}
	})
}

// TestAfterTheFinalDot: a connection that ends when the message may have been
// taken is a temporary failure, and nothing is sent twice by ourselves.
func TestAfterTheFinalDot(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"eof", "reset"} {
		w := newWorld(t, nil, good(reply("body", how)), good())
		f := w.sendOne()
		if f == nil || f.Code != 451 || f.Reason != tlsplan.ConnectionLost {
			t.Errorf("%s: %s", how, code(f))
		}
		if n := w.mx[1].Connections(); n != 0 {
			t.Errorf("%s: sent to another host", how)
		}
	}
	w := newWorld(t, nil, good(reply("body", "ok-reset")))
	if f := w.sendOne(); f != nil {
		t.Errorf("250 then reset: %s", code(f))
	}
	if f := w.sendOne(); f != nil {
		t.Errorf("the next one: %s", code(f))
	}
}

// TestRefusedMessageLeavesACleanConnection: after a refusal the connection is
// reset before anybody else gets it.
func TestRefusedMessageLeavesACleanConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *delivery.Config) { c.Wire.NoChunking = true }, good(func(b *mailtest.Behaviour) {
		b.RejectRcpt = map[string]string{"bad@example.net": "550 5.1.1 no such user"}
	}))
	for range 3 {
		f := failure(t, w.send(context.Background(), message("bad@example.net"))["bad@example.net"])
		if code(f) != "550 5.1.1 rcpt-rejected" {
			t.Fatal(code(f))
		}
		w.eventually("the connection is back", func() bool { w.rec.mu.Lock(); defer w.rec.mu.Unlock(); return w.rec.idle == 1 })
		if f := w.sendOne(); f != nil {
			t.Fatal(f)
		}
	}
	if n := w.mx[0].Connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestRefusedChunkEndsTheConnection: a host that refuses a chunk may have taken
// it for commands; its further replies belong to nobody.
func TestRefusedChunkEndsTheConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good(func(b *mailtest.Behaviour) {
		b.RejectRcpt = map[string]string{"bad@example.net": "550 5.1.1 no such user"}
	}))
	f := failure(t, w.send(context.Background(), message("bad@example.net"))["bad@example.net"])
	if code(f) != "550 5.1.1 rcpt-rejected" {
		t.Fatal(code(f))
	}
	w.eventually("the connection is closed", func() bool { return w.mx[0].Sessions()[0].Closed })
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}
	if n := w.mx[0].Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestManyAtOnce: hundreds of messages with changing plans over few hosts; what
// requires TLS never crosses in clear, gauges return to zero.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, withCert(mailtest.SelfSigned), inClear())
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			m := message("b@example.net")
			want := false // delivered?
			switch i % 4 {
			case 0: // opportunistic: in clear to the first host
				want = true
			case 1:
				headerWith(m, "X-Require-TLS", "yes")
			case 2:
				headerWith(m, policy.StampField, policy.Key{1}.Stamp("7f3a9c1e", policy.Override{SkipVerification: policy.Yes, RequireTLS: policy.Yes}))
				want = true
			case 3:
				headerWith(m, policy.StampField, policy.Key{1}.Stamp("7f3a9c1e", policy.Override{SkipVerification: policy.Yes}))
				want = true
			}
			err := w.send(context.Background(), m)["b@example.net"]
			if (err == nil) != want {
				t.Errorf("kind %d: %v", i%4, err)
			}
		}()
	}
	wg.Wait()
	w.rec.mu.Lock()
	for _, a := range w.rec.attempts {
		if a.Result == delivery.Delivered && a.Settings.RequireTLS && !a.Connection.Outcome.TLS {
			t.Errorf("required TLS, got %+v", a.Connection)
		}
		if a.Result == delivery.Delivered && a.Settings.SkipVerification && !a.Connection.Outcome.TLS {
			t.Errorf("skip_verification in clear: %+v", a.Connection)
		}
	}
	w.rec.mu.Unlock()
	w.Engine.Close()
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	if w.rec.busy != 0 || w.rec.idle != 0 {
		t.Errorf("%d busy, %d idle after Close", w.rec.busy, w.rec.idle)
	}
}
