package delivery_test

import (
	"sync"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
)

// TestStoppedInTheHandshake: the end of the engine is no fault of the host, and
// bounces nothing, also if it reaches the connection before the delivery.
func TestStoppedInTheHandshake(t *testing.T) {
	t.Parallel()
	const messages = 200
	w := newWorld(t, func(c *delivery.Config) {
		c.Policies = static(policy.Settings{RequireTLS: true, OnFailure: policy.Reject})
		c.Places = health.PlacesConfig{PerHost: messages}
	}, good(func(b *mailtest.Behaviour) { b.Handshake = "stall" }))
	var all sync.WaitGroup
	for range messages {
		all.Go(func() {
			if got := code(w.sendOne()); got != "451 4.3.2 internal" {
				t.Error(got)
			}
		})
	}
	w.eventually("all are in the handshake", func() bool { return w.mx[0].Connections() == messages })
	w.BeginClose()
	all.Wait()
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	for _, s := range w.rec.secured {
		t.Errorf("told of %+v", s)
		break
	}
}
