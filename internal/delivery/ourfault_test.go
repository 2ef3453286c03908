package delivery_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
)

// An address of ours that is not there is not held against the host: as soon as it is
// there, mail flows.
func TestAddressOfOurs(t *testing.T) {
	t.Parallel()
	var there atomic.Bool
	w := newWorld(t, func(c *delivery.Config) {
		c.Breakers = health.BreakersConfig{Failures: 1}
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			if !there.Load() {
				d.LocalAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} // of the documentation
			}
			return d.DialContext(ctx, network, address)
		}
	}, inClear())
	for range 3 {
		if got := code(w.sendOne()); got != "451 4.4.1 connect" {
			t.Fatal(got)
		}
	}
	there.Store(true)
	if f := w.sendOne(); f != nil {
		t.Error(f)
	}
}
