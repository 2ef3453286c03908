package delivery_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
)

// nasty is an error that cannot even be printed.
type nasty struct{}

func (nasty) Error() string { panic("an error that panics") }

// told is a caller that remembers what it was told, until it panics.
type told struct {
	mu       sync.Mutex
	statuses map[string][]error
	calls    int
	panics   func(call int, rcpt string, err error) bool
}

func (c *told) report(rcpt string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.panics(c.calls, rcpt, err) {
		panic("the caller cannot cope")
	}
	if c.statuses == nil {
		c.statuses = make(map[string][]error)
	}
	c.statuses[rcpt] = append(c.statuses[rcpt], err)
}

// dialled holds every connection that was made, so that no finalizer closes what
// was forgotten.
type dialled struct {
	mu    sync.Mutex
	conns []net.Conn
}

// watch is a change of the configuration.
func (d *dialled) watch(c *delivery.Config) {
	dial := c.Dial
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conns = append(d.conns, nc)
		return nc, err
	}
}

// latest returns the newest connection.
func (d *dialled) latest() net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conns[len(d.conns)-1]
}

// settled closes the engine and checks that nothing is left behind.
func (w *world) settled() {
	w.Helper()
	w.Engine.Close()
	for i, m := range w.mx {
		w.eventually("every connection to "+hostName(i)+" is closed", func() bool {
			for _, s := range m.Sessions() {
				if !s.Closed {
					return false
				}
			}
			return true
		})
	}
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	if w.rec.busy != 0 || w.rec.idle != 0 {
		w.Errorf("%d busy, %d idle after Close", w.rec.busy, w.rec.idle)
	}
}

// TestPanickingCaller: a caller that panics over one status gets the others; one
// that panics over a failure gets it once more in plainer words, one that panics
// over a delivery hears of it once more, and never of a failure instead.
func TestPanickingCaller(t *testing.T) {
	t.Parallel()
	const a, b, c, d, e = "a@example.net", "b@example.net", "c@example.net", "d@other.test", "e@gone.test"
	for _, tt := range []struct {
		name   string
		panics func(call int, rcpt string, err error) bool
		want   map[string]string
		calls  int
	}{
		{"never", func(int, string, error) bool { return false }, map[string]string{
			a: "delivered", b: "550 5.1.1 rcpt-rejected", c: "delivered", d: "delivered", e: "550 5.1.2 mx-lookup",
		}, 5},
		{"always", func(int, string, error) bool { return true }, nil, 10},
		{"over deliveries", func(_ int, _ string, err error) bool { return err == nil }, map[string]string{
			b: "550 5.1.1 rcpt-rejected", e: "550 5.1.2 mx-lookup",
		}, 8},
		{"over a refusal", func(_ int, rcpt string, err error) bool {
			var f *delivery.Failure
			return errors.As(err, &f) && f.Reply != nil
		}, map[string]string{
			a: "delivered", b: "451 4.3.0 internal", c: "delivered", d: "delivered", e: "550 5.1.2 mx-lookup",
		}, 6},
		{"for one recipient", func(_ int, rcpt string, _ error) bool { return rcpt == a }, map[string]string{
			b: "550 5.1.1 rcpt-rejected", c: "delivered", d: "delivered", e: "550 5.1.2 mx-lookup",
		}, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, good(func(bh *mailtest.Behaviour) {
				bh.RejectRcpt = map[string]string{b: "550 5.1.1 no such user"}
			}))
			w.dns.MX("other.test", 10, hostName(0))
			caller := told{panics: tt.panics}
			w.Deliver(context.Background(), message(a, b, c, d, e), caller.report)
			if caller.calls != tt.calls || len(caller.statuses) != len(tt.want) {
				t.Errorf("%d calls, want %d; statuses %v", caller.calls, tt.calls, caller.statuses)
			}
			for rcpt, want := range tt.want {
				if got := caller.statuses[rcpt]; len(got) != 1 || code(failure(t, got[0])) != want {
					t.Errorf("%s: %v, want %s", rcpt, got, want)
				}
			}
			if n := len(w.rec.attempts); n != 5 {
				t.Errorf("%d attempts recorded, want all five", n)
			}
			w.settled()
		})
	}
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good())
		caller := told{panics: func(call int, _ string, _ error) bool { return call == 1 }}
		w.Deliver(context.Background(), message(numbered(120)...), caller.report)
		if len(caller.statuses) != 120 || caller.calls != 121 {
			t.Errorf("%d statuses in %d calls, want one for everybody", len(caller.statuses), caller.calls)
		}
		if f := w.sendOne(); f != nil {
			t.Errorf("the next message: %s", code(f))
		}
		w.settled()
	})
}

// nastyRoutes fails with an error that panics.
type nastyRoutes struct {
	delivery.Routes
	addresses bool
}

func (r nastyRoutes) Route(ctx context.Context, domain string) (route.Route, error) {
	if r.addresses {
		return r.Routes.Route(ctx, domain)
	}
	return route.Route{}, nasty{}
}

func (nastyRoutes) Addresses(context.Context, string, bool) (route.Addresses, error) {
	return route.Addresses{}, nasty{}
}

// nastyLimits fails with an error that panics.
type nastyLimits struct {
	counting
	dest bool
}

func (l *nastyLimits) TakeMsg(context.Context, net.IP, string) error {
	if l.dest {
		return l.take("msg", &l.msg)
	}
	return nasty{}
}

func (*nastyLimits) TakeDest(context.Context, string) error { return nasty{} }

// nastyPolicies fails with an error that panics.
type nastyPolicies struct{ static }

func (nastyPolicies) Row(context.Context, string) (*policy.Block, error) { return nil, nasty{} }

// unstable is a body whose length can be asked so often and no more.
type unstable struct {
	body
	left atomic.Int32
}

func (u *unstable) Len() int {
	if u.left.Add(-1) < 0 {
		panic("no length")
	}
	return u.body.Len()
}

// unopened is a body that panics in place of opening.
type unopened struct{ body }

func (unopened) Open() (io.ReadCloser, error) { panic("no body") }

// TestPanicsBehindEveryDoor: whatever panics, and wherever, every recipient has
// a temporary status, the next message gets through and nothing is left open.
func TestPanicsBehindEveryDoor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*delivery.Config)
		spoil  func(*delivery.Message)
		want   string
	}{
		{name: "Error of Route", change: func(c *delivery.Config) { c.Routes = nastyRoutes{Routes: c.Routes} }, want: "451 4.4.3 mx-lookup"},
		{name: "Error of Addresses", change: func(c *delivery.Config) { c.Routes = nastyRoutes{c.Routes, true} }, want: "451 4.4.3 mx-lookup"},
		{name: "Error of TakeMsg", change: func(c *delivery.Config) { c.Limits = &nastyLimits{} }, want: "451 4.4.5 limits"},
		{name: "Error of TakeDest", change: func(c *delivery.Config) { c.Limits = &nastyLimits{dest: true} }, want: "451 4.4.5 limits"},
		{name: "Error of Row", change: func(c *delivery.Config) { c.Policies = nastyPolicies{} }, want: "451 4.3.5 policy"},
		{name: "Error of Dial", change: func(c *delivery.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, nasty{} }
		}, want: "451 4.3.0 internal"},
		{name: "Error of a body", spoil: func(m *delivery.Message) { m.Body = body{text: "Hello!\r\n", err: nasty{}} }, want: "451 4.3.0 internal"},
		{name: "opening a body", spoil: func(m *delivery.Message) { m.Body = unopened{} }, want: "451 4.3.0 internal"},
		{name: "length of a body", spoil: func(m *delivery.Message) { m.Body = &unstable{} }, want: "451 4.3.0 internal"},
		{name: "length of a body, later", spoil: func(m *delivery.Message) {
			u := &unstable{}
			u.left.Store(1)
			m.Body = u
		}, want: "451 4.3.0 internal"},
		{name: "certificate", change: func(c *delivery.Config) {
			c.TLS.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { panic("no certificate") }
		}, want: "451 4.3.0 internal"},
		{name: "client certificate", change: func(c *delivery.Config) {
			c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { panic("none") }
		}, want: "451 4.3.0 internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var held dialled
			w := newWorld(t, func(c *delivery.Config) {
				held.watch(c)
				if tt.change != nil {
					tt.change(c)
				}
			}, good(func(b *mailtest.Behaviour) { b.ClientAuth = tls.RequestClientCert }))
			w.dns.MX("other.test", 10, hostName(0))
			m := message("a@example.net", "b@example.net", "c@other.test")
			if tt.spoil != nil {
				tt.spoil(m)
			}
			for rcpt, err := range w.send(context.Background(), m) {
				if got := code(failure(t, err)); got != tt.want {
					t.Errorf("%s: %s, want %s", rcpt, got, tt.want)
				}
			}
			if n := len(w.rec.attempts); n != 3 {
				t.Errorf("%d attempts recorded, want one for each recipient", n)
			}
			if n := w.mx[0].Delivered(); n != 0 {
				t.Errorf("%d messages arrived", n)
			}
			if tt.spoil != nil {
				if f := w.sendOne(); f != nil {
					t.Errorf("the next message: %s", code(f))
				}
			}
			w.settled()
		})
	}
}
