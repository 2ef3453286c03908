package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsplan"
)

// course is a network whose addresses can be made to hang or to fail.
type course struct {
	mu      sync.Mutex
	hanging map[string]bool // until the dial is given up
	late    map[string]bool // the same, but connected all the same
	failing map[string]bool
	dialled []string
	running int
	held    dialled
}

var errRefused = errors.New("connection refused")

func (c *course) install(cfg *delivery.Config) {
	cfg.Breakers = health.BreakersConfig{Failures: 1}
	cfg.Pool.PerHost = 0
	c.held.watch(cfg)
	dial := cfg.Dial
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		ip, _, _ := net.SplitHostPort(address)
		c.mu.Lock()
		c.dialled = append(c.dialled, ip)
		c.running++
		hanging, late, failing := c.hanging[ip], c.late[ip], c.failing[ip]
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.running--
		}()
		if failing {
			return nil, errRefused
		}
		if hanging || late {
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // nothing ends at once
		}
		if late {
			ctx = context.WithoutCancel(ctx)
		}
		return dial(ctx, network, address)
	}
}

// seen returns the addresses dialled so far, in order, and how many are being
// dialled.
func (c *course) seen() (dialled []string, running int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.dialled), c.running
}

// twoAddresses is a world of one host, mx1.test, with two addresses that are two
// scripted hosts.
func twoAddresses(t *testing.T, c *course) (w *world, first, second string) {
	t.Helper()
	named := func(w *world, _ string) mailtest.Behaviour { return good()(w, hostName(0)) }
	w = newWorld(t, c.install, named, named)
	first, second = w.mx[0].IP(), w.mx[1].IP()
	w.dns.Remove(hostName(0))
	w.dns.A(hostName(0), first, second)
	w.dns.Remove("example.net")
	w.dns.MX("example.net", 10, hostName(0))
	return w, first, second
}

func set(ips ...string) map[string]bool {
	m := make(map[string]bool)
	for _, ip := range ips {
		m[ip] = true
	}
	return m
}

// TestRace: an address that does not answer holds nothing up, and losing a race
// is no failure.
func TestRace(t *testing.T) {
	t.Parallel()
	t.Run("the first one hangs", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.hanging = set(first)
		for i := range 3 {
			if f := w.sendOne(); f != nil {
				t.Fatal(code(f))
			}
			if a := w.last(); a.Connection.IP.String() != second || len(a.Hosts) != 0 {
				t.Errorf("delivered to %s, hosts %+v, want %s and nobody to blame", a.Connection.IP, a.Hosts, second)
			}
			// One failure would make the breaker keep us away.
			if dialled, _ := c.seen(); len(dialled) != 2*(i+1) || dialled[2*i] != first || dialled[2*i+1] != second {
				t.Errorf("message %d: dialled %v", i, dialled)
			}
		}
		if len(w.rec.troubles) != 0 {
			t.Errorf("troubles %+v", w.rec.troubles)
		}
		w.Engine.Close()
		if _, running := c.seen(); running != 0 {
			t.Errorf("%d dials outlived Close", running)
		}
		w.settled()
	})
	t.Run("the first one connects too late", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.late = set(first)
		if f := w.sendOne(); f != nil {
			t.Fatal(code(f))
		}
		if a := w.last(); a.Connection.IP.String() != second {
			t.Errorf("delivered to %s, want %s", a.Connection.IP, second)
		}
		w.eventually("the loser has connected", func() bool { return w.mx[0].Connections() == 1 })
		w.settled()
		if s := w.mx[0].Sessions()[0]; len(s.Commands) != 0 {
			t.Errorf("the loser was spoken to: %q", s.Commands)
		}
	})
	t.Run("the first one hangs, the second is no good", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.late = set(first)
		w.mx[1].Set(mailtest.Behaviour{Greeting: "554 5.3.2 no"})
		// The first one is dialled again, without a rival.
		w.cancelled(1, func() {
			w.eventually("the first one is dialled again", func() bool { d, _ := c.seen(); return len(d) == 3 && d[2] == first })
		})
		if a := w.last(); len(a.Hosts) != 2 || a.Hosts[0].IP.String() != second || a.Hosts[0].Reason != tlsplan.Connect {
			t.Errorf("hosts %+v, want the word of the second one first", a.Hosts)
		}
		w.settled()
	})
	t.Run("the first one is refused", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.failing = set(first)
		if f := w.sendOne(); f != nil {
			t.Fatal(code(f))
		}
		a := w.last()
		if len(a.Hosts) != 1 || a.Hosts[0].IP.String() != first || a.Hosts[0].Reason != tlsplan.Connect || a.Connection.IP.String() != second {
			t.Errorf("delivered to %s, hosts %+v", a.Connection.IP, a.Hosts)
		}
		// Now the breaker is open, which is as good as refused.
		if f := w.sendOne(); f != nil {
			t.Fatal(code(f))
		}
		if dialled, _ := c.seen(); !slices.Equal(dialled, []string{first, second, second}) {
			t.Errorf("dialled %v", dialled)
		}
	})
	t.Run("both are refused", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.failing = set(first, second)
		if got := code(w.sendOne()); got != noAnswer {
			t.Error(got)
		}
		a := w.last()
		if len(a.Hosts) != 2 || a.Hosts[0].IP.String() != first || a.Hosts[1].IP.String() != second || a.Connection != nil {
			t.Errorf("hosts %+v on %+v, want both addresses", a.Hosts, a.Connection)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		var c course
		w, first, second := twoAddresses(t, &c)
		c.hanging = set(first, second)
		w.cancelled(1, func() {
			w.eventually("both are dialled", func() bool { d, _ := c.seen(); return len(d) == 2 })
		})
		if _, running := c.seen(); running != 0 {
			t.Errorf("%d dials outlived the delivery", running)
		}
		c.mu.Lock()
		c.hanging = nil
		c.mu.Unlock()
		if f := w.sendOne(); f != nil {
			t.Errorf("the next message: %s", code(f))
		}
	})
}

// TestNoWaitAfterAFailure: the head start of an address ends when it fails. With
// a wait after each of them the time would be over before the last is dialled.
func TestNoWaitAfterAFailure(t *testing.T) {
	t.Parallel()
	var c course
	w := newWorld(t, c.install)
	w.dns.MX("example.net", 10, "many.test")
	var ips []string
	for i := range 16 {
		ips = append(ips, fmt.Sprintf("192.0.2.%d", i+1))
	}
	c.failing = set(ips...)
	w.dns.A("many.test", ips...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if got := code(failure(t, w.send(ctx, message("b@example.net"))["b@example.net"])); got != noAnswer {
		t.Error(got)
	}
	if dialled, _ := c.seen(); !slices.Equal(dialled, ips) {
		t.Errorf("dialled %v", dialled)
	}
	var blamed []string
	for _, h := range w.last().Hosts {
		blamed = append(blamed, h.IP.String())
	}
	if !slices.Equal(blamed, ips) {
		t.Errorf("blamed %v, want all in order", blamed)
	}
}
