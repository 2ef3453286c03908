package delivery_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
	"tlscontrol/internal/mailtest"
)

// hasty makes deliveries wait next to nothing for a probe.
func hasty(c *delivery.Config) { c.ProbePatience = 10 * time.Millisecond }

// probeBegins sends a message that does not wait for the probe that it begins,
// which is the fourth dial.
func (w *world) probeBegins(f *fuse) {
	w.Helper()
	if got := code(w.sendOne()); got != noAnswer {
		w.Errorf("%s, want %s", got, noAnswer)
	}
	w.eventually("the probe is under way", func() bool { return f.dials.Load() == 4 })
}

// TestProbeWithoutADelivery: a delivery waits only so long for the dial that finds
// out whether an address is back; the others fail at once meanwhile. The probe goes
// on, and what it finds counts.
func TestProbeWithoutADelivery(t *testing.T) {
	t.Parallel()
	f, k := blown(), newKeeper()
	var hold atomic.Bool
	begun, end := make(chan struct{}, 10), make(chan struct{})
	w := newWorld(t, func(c *delivery.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if hold.Load() {
				begun <- struct{}{}
				select {
				case <-end:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return dial(ctx, network, address)
		}
		f.install(c)
		hasty(c)
		k.watch(c)
	}, good())
	for i := range int32(3) {
		w.expect(f, noAnswer, i+1)
	}
	f.pass(30 * time.Second)
	f.err.Store(nil)
	hold.Store(true)
	w.probeBegins(f)
	w.await("the probe is under way", begun)
	for range 3 {
		w.expect(f, noAnswer, 4)
		if d := w.last().Description; !strings.Contains(d, "not dialled while another attempt is under way: no answer since") {
			t.Errorf("description %q", d)
		}
	}
	hold.Store(false)
	close(end)
	w.eventually("the host is believed", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.breaker[health.BreakerClosed] == 1
	})
	w.expect(f, "delivered", 5)
	w.eventually("the probe says goodbye", func() bool {
		first := w.mx[0].Sessions()[0]
		return len(first.Commands) > 0 && first.Commands[len(first.Commands)-1] == "C: QUIT"
	})
}

// TestProbeOfASilentHost: that takes connections and says nothing holds nobody
// for as long as a greeting may take, and is left alone for longer.
func TestProbeOfASilentHost(t *testing.T) {
	t.Parallel()
	f, k := &fuse{clock: newClock()}, newKeeper()
	w := newWorld(t, func(c *delivery.Config) {
		f.install(c)
		hasty(c)
		c.Wire.Timeouts.Greeting = 200 * time.Millisecond
		k.watch(c)
	}, good(func(b *mailtest.Behaviour) { b.Greeting = "stall" }))
	for i := range int32(3) {
		w.expect(f, "451 4.4.2 timeout", i+1)
	}
	f.pass(30 * time.Second)
	w.probeBegins(f)
	until := func() bool {
		w.expect(f, noAnswer, 4)
		return strings.Contains(w.last().Description, "again until 14:56:31")
	}
	w.eventually("the probe has failed as well", until)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open != 1 || k.breaker[health.BreakerOpened] != 1 || k.breaker[health.BreakerProbed] != 1 {
		t.Errorf("%d open, events %v", k.open, k.breaker)
	}
}

// TestProbeFindsAHostThatRefuses: who says something is alive, whatever it says.
func TestProbeFindsAHostThatRefuses(t *testing.T) {
	t.Parallel()
	f := blown()
	w := newWorld(t, f.install, good(func(b *mailtest.Behaviour) { b.Greeting = "554 5.3.2 no" }))
	for i := range int32(3) {
		w.expect(f, noAnswer, i+1)
	}
	f.pass(30 * time.Second)
	f.err.Store(nil)
	w.expect(f, "554 5.3.2 connect", 4)
	w.expect(f, "554 5.3.2 connect", 5)
}

// TestCloseEndsProbes that no delivery waits for, at once.
func TestCloseEndsProbes(t *testing.T) {
	t.Parallel()
	f := blown()
	var hold atomic.Bool
	ended := make(chan struct{})
	w := newWorld(t, func(c *delivery.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if hold.Load() {
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			}
			return dial(ctx, network, address)
		}
		f.install(c)
		hasty(c)
	}, good())
	for i := range int32(3) {
		w.expect(f, noAnswer, i+1)
	}
	f.pass(30 * time.Second)
	f.err.Store(nil)
	hold.Store(true)
	w.probeBegins(f)
	w.Close()
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for the probe")
	}
}
