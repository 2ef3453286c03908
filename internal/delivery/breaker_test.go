package delivery_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
)

// clock is a time that passes when told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 5, 14, 55, 1, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fuse is a network that fails while err is set, and counts what is dialled.
type fuse struct {
	dials atomic.Int32
	err   atomic.Pointer[error]
	*clock
}

var errNetwork = errors.New("network is down")

// blown is a fuse that fails.
func blown() *fuse {
	f := &fuse{clock: newClock()}
	f.err.Store(&errNetwork)
	return f
}

// install puts the fuse before the network, with breakers that open after three
// failures for exactly half a minute and use no connection twice.
func (f *fuse) install(c *delivery.Config) {
	c.Breakers = health.BreakersConfig{Failures: 3, First: 30 * time.Second, Clock: f.Now, Rand: func() float64 { return 0.5 }}
	c.Pool.PerHost = 0
	dial := c.Dial
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		f.dials.Add(1)
		if err := f.err.Load(); err != nil {
			return nil, *err
		}
		return dial(ctx, network, address)
	}
}

// expect sends a message and checks its status and how often was dialled so far.
func (w *world) expect(f *fuse, status string, dials int32) {
	w.Helper()
	if got := code(w.sendOne()); got != status {
		w.Errorf("%s, want %s", got, status)
	}
	if n := f.dials.Load(); n != dials {
		w.Errorf("%d dials so far, want %d", n, dials)
	}
}

const noAnswer = "451 4.4.1 connect"

// TestBreaker: an address that failed three times is left alone for a while, then
// one message tries it for all, and its success ends the matter.
func TestBreaker(t *testing.T) {
	t.Parallel()
	f := blown()
	w := newWorld(t, f.install, good())
	for i := range int32(3) {
		w.expect(f, noAnswer, i+1)
		f.pass(time.Second)
	}
	w.expect(f, noAnswer, 3)
	a := w.last()
	const why = "not dialled again until 14:55:33: no answer since 14:55:01 (network is down)"
	if a.Description != "mx1.test does not answer and is left alone for a while: "+why {
		t.Errorf("description %q", a.Description)
	}
	if len(a.Hosts) != 1 || a.Hosts[0].Text != why || a.Hosts[0].IP.String() != w.mx[0].IP() {
		t.Errorf("hosts %+v", a.Hosts)
	}
	f.pass(28 * time.Second)
	w.expect(f, noAnswer, 3)

	f.pass(time.Second)
	w.expect(f, noAnswer, 4) // the probe
	w.expect(f, noAnswer, 4)
	f.pass(59 * time.Second) // the period has doubled
	w.expect(f, noAnswer, 4)
	f.pass(time.Second)
	f.err.Store(nil)
	w.expect(f, "delivered", 5)
	w.expect(f, "delivered", 6)

	f.err.Store(&errNetwork) // failures are counted from the start again
	for i := range int32(3) {
		w.expect(f, noAnswer, i+7)
	}
	w.expect(f, noAnswer, 9)
}

// TestProbe: while one message tries the address the others do not; if it is
// cancelled another one may.
func TestProbe(t *testing.T) {
	t.Parallel()
	f := blown()
	var (
		probing atomic.Bool
		begun   = make(chan struct{})
		end     = make(chan struct{})
	)
	w := newWorld(t, func(c *delivery.Config) {
		dial := c.Dial
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if probing.Load() {
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
	}, good())
	for i := range int32(3) {
		w.expect(f, noAnswer, i+1)
	}
	f.pass(30 * time.Second)
	f.err.Store(nil)
	probing.Store(true)
	w.cancelled(2, func() { w.await("the probe is under way", begun) })

	first := make(chan *delivery.Failure, 1)
	go func() { first <- w.sendOne() }()
	w.await("the next probe is under way", begun)
	for range 3 {
		w.expect(f, noAnswer, 6)
		if d := w.last().Description; !strings.Contains(d, "not dialled while another attempt is under way: no answer since") {
			t.Errorf("description %q", d)
		}
	}
	probing.Store(false)
	close(end)
	if got := code(<-first); got != "delivered" {
		t.Errorf("the probe: %s", got)
	}
	w.expect(f, "delivered", 7)
}

// TestWhatBreaks: only an address that does not answer is left alone, not one
// that has something to say, and not for what we did ourselves.
func TestWhatBreaks(t *testing.T) {
	t.Parallel()
	const attempts = 5
	quick := func(c *delivery.Config) { c.Wire.Timeouts.Greeting = 100 * time.Millisecond }
	for _, tt := range []struct {
		name   string
		host   hostFunc
		change func(*delivery.Config)
		status string
		dials  int32 // of five attempts
	}{
		{"connecting takes too long", good(), func(c *delivery.Config) {
			c.ConnectTimeout = 20 * time.Millisecond
			c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, "451 4.4.1 timeout", 3},
		{"no greeting", good(func(b *mailtest.Behaviour) { b.Greeting = "stall" }), quick, "451 4.4.2 timeout", 3},
		{"no reply to EHLO", good(reply("ehlo", "stall")), func(c *delivery.Config) {
			c.Wire.Timeouts.Command = 100 * time.Millisecond
		}, "451 4.4.2 timeout", 3},
		{"421 greeting", good(func(b *mailtest.Behaviour) { b.Greeting = "421 4.3.2 busy" }), nil, "421 4.3.2 connect", attempts},
		{"554 greeting", good(func(b *mailtest.Behaviour) { b.Greeting = "554 5.3.2 no" }), nil, "554 5.3.2 connect", attempts},
		{"EOF for a greeting", good(func(b *mailtest.Behaviour) { b.Greeting = "eof" }), nil, "451 4.4.2 connection-lost", attempts},
		{"EHLO refused", good(reply("ehlo", "421 4.3.2 busy")), nil, "421 4.3.2 connect", attempts},
		{"MAIL refused", good(reply("mail", "451 4.3.2 busy")), nil, "451 4.3.2 mail-rejected", attempts},
		{"no TLS", inClear(), settings(policy.Settings{RequireTLS: true}), "451 4.7.4 tls-not-offered", attempts},
		{"bad certificate", withCert(mailtest.Expired), settings(policy.Settings{RequireTLS: true}), "451 4.7.5 certificate-expired", attempts},
		{"broken handshake", good(func(b *mailtest.Behaviour) { b.Handshake = "garbage" }), settings(policy.Settings{RequireTLS: true}), "451 4.7.5 tls-handshake", attempts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &fuse{clock: newClock()}
			w := newWorld(t, func(c *delivery.Config) {
				if tt.change != nil {
					tt.change(c)
				}
				f.install(c)
			}, tt.host)
			for i := range int32(attempts) {
				status := tt.status
				if i >= tt.dials {
					status = noAnswer
				}
				w.expect(f, status, min(i+1, tt.dials))
			}
		})
	}
	t.Run("cancelled while dialling", func(t *testing.T) {
		t.Parallel()
		f := &fuse{clock: newClock()}
		var hanging atomic.Bool
		hanging.Store(true)
		begun := make(chan struct{})
		w := newWorld(t, func(c *delivery.Config) {
			dial := c.Dial
			c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if hanging.Load() {
					begun <- struct{}{}
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return dial(ctx, network, address)
			}
			f.install(c)
		}, good())
		w.cancelled(attempts, func() { w.await("the host is dialled", begun) })
		hanging.Store(false)
		w.expect(f, "delivered", attempts+1)
	})
	t.Run("cancelled before the greeting", func(t *testing.T) {
		t.Parallel()
		f := &fuse{clock: newClock()}
		w := newWorld(t, f.install, good(func(b *mailtest.Behaviour) { b.Greeting = "stall" }))
		seen := 0
		w.cancelled(attempts, func() {
			seen++
			w.eventually("the host is reached", func() bool { return w.mx[0].Connections() == seen })
		})
		w.mx[0].Set(mailtest.Behaviour{})
		w.expect(f, "delivered", attempts+1)
	})
	t.Run("DNS", func(t *testing.T) {
		t.Parallel()
		f := &fuse{clock: newClock()}
		w := newWorld(t, f.install, good())
		w.dns.MX("other.test", 10, hostName(0))
		w.dns.FailType("example.net", dns.TypeMX, dns.RcodeServerFailure)
		for range attempts {
			w.expect(f, "451 4.4.3 mx-lookup", 0)
		}
		if err := w.send(context.Background(), message("b@other.test"))["b@other.test"]; err != nil {
			t.Error(err)
		}
	})
}

// await waits for a word on c.
func (w *world) await(what string, c <-chan struct{}) {
	w.Helper()
	select {
	case <-c:
	case <-time.After(hang):
		w.Fatalf("never came true: %s", what)
	}
}

// cancelled sends n messages one after the other, each of which is cancelled
// when reached returns.
func (w *world) cancelled(n int, reached func()) {
	w.Helper()
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		status := make(chan error, 1)
		go func() { status <- w.send(ctx, message("b@example.net"))["b@example.net"] }()
		reached()
		cancel()
		if got := code(failure(w.T, <-status)); got != "451 4.3.2 internal" {
			w.Errorf("cancelled: %s", got)
		}
	}
}
