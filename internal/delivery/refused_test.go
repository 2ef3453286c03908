package delivery_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
)

// TestRefusalBesideBusySessions: a packet filter that counts our connections
// refuses one too many. The host gets fewer, and is not taken for dead, although
// one failure would be enough for that.
func TestRefusalBesideBusySessions(t *testing.T) {
	t.Parallel()
	var c counter
	c.expect(3) // two messages wait until there is a third one
	k := newKeeper()
	var full atomic.Bool
	w, raw := rawWorld(t, func(cfg *delivery.Config) {
		places(health.PlacesConfig{PerHost: 3, MaxWait: 50 * time.Millisecond})(cfg)
		cfg.Breakers.Failures = 1
		k.watch(cfg)
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if full.Load() {
				return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			}
			return dial(ctx, network, address)
		}
	}, c.host)
	first := make(chan map[string]int, 1)
	go func() { first <- w.sendMany(2) }()
	w.eventually("two messages are under way", func() bool { return c.highest() == 2 })
	full.Store(true)
	if got := code(w.sendOne()); got != noAnswer {
		t.Errorf("the third: %s", got)
	}
	if got := code(w.sendOne()); got != "451 4.4.5 limits" {
		t.Errorf("the fourth: %s", got)
	}
	c.enter() // stands for a third message
	if got := <-first; got["delivered"] != 2 {
		t.Errorf("those under way: %v", got)
	}
	k.mu.Lock()
	if k.place[health.HostReduced] != 1 || k.breaker[health.BreakerOpened] != 0 {
		t.Errorf("events %v, %v", k.place, k.breaker)
	}
	k.mu.Unlock()
	// One of the two connections is kept for the next message.
	if got := code(w.sendOne()); got != "delivered" {
		t.Errorf("the next one: %s", got)
	}
	if total, _ := raw.count(); total != 2 {
		t.Errorf("%d connections", total)
	}
	w.settled()
}
