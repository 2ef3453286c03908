package mtasts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/route"
)

// hang is when a test gives up waiting for what should happen at once.
const hang = 20 * time.Second

// world is what a cache lives in: DNS, a policy host and time.
type world struct {
	t        *testing.T
	ca       *mailtest.CA
	dns      *mailtest.DNS
	host     *mailtest.STS
	resolver *route.Resolver
	log      logText

	mu    sync.Mutex
	ahead time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.ca, err = mailtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	if w.dns, err = mailtest.NewDNS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.dns.Close() })
	// Records change under our hands; what their TTL does is the resolver's business.
	w.dns.SetTTL(0)
	if w.host, err = mailtest.NewSTS(w.ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.host.Close() })
	w.resolver = route.NewResolver([]string{w.dns.Addr()})
	t.Cleanup(w.resolver.Close)
	return w
}

// now is the time in this world.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

// config is of a cache that reaches the policy host.
func (w *world) config() Config {
	return Config{
		Resolver: w.resolver, Roots: w.ca.Pool(), Port: w.host.Port(), AllowPrivate: true, drain: hang,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: w.now,
	}
}

// cache starts a cache, with changes to config.
func (w *world) cache(changes ...func(*Config)) *Cache {
	w.t.Helper()
	cfg := w.config()
	for _, change := range changes {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func in(dir string) func(*Config) { return func(cfg *Config) { cfg.Dir = dir } }

// announce publishes a TXT record, in place of others.
func (w *world) announce(domain, id string) {
	w.dns.Remove("_mta-sts." + domain)
	w.dns.TXT("_mta-sts."+domain, "v=STSv1; id="+id+";")
}

// publish makes a domain one with a policy.
func (w *world) publish(domain, id string, page mailtest.STSPage) {
	w.announce(domain, id)
	w.dns.Remove("mta-sts." + domain)
	w.dns.A("mta-sts."+domain, w.host.IP())
	w.host.Serve(domain, page)
}

// body is the text of a policy.
func body(mode Mode, age time.Duration, mxs ...string) string {
	text := fmt.Sprintf("version: STSv1\r\nmode: %s\r\n", mode)
	for _, mx := range mxs {
		text += "mx: " + mx + "\r\n"
	}
	return text + fmt.Sprintf("max_age: %d\r\n", int(age/time.Second))
}

const week = 7 * 24 * time.Hour

// page is a policy that is as it should be.
func page(mxs ...string) mailtest.STSPage {
	return mailtest.STSPage{Body: body(Enforce, week, mxs...)}
}

// wantPolicy looks a domain up and wants a policy for exactly these hosts.
func wantPolicy(t *testing.T, c *Cache, domain string, mxs ...string) Result {
	t.Helper()
	r := lookup(t, c, domain)
	if r.Policy == nil {
		t.Fatalf("%s: no policy: %v", domain, r.Err)
	}
	if !slices.Equal(r.Policy.MX, mxs) {
		t.Fatalf("%s: policy for %q, want %q (%v)", domain, r.Policy.MX, mxs, r.Err)
	}
	return r
}

// wantNone looks a domain up and wants no policy, for a reason of some kind; ""
// is none.
func wantNone(t *testing.T, c *Cache, domain string, kind Kind) Result {
	t.Helper()
	r := lookup(t, c, domain)
	if r.Policy != nil {
		t.Fatalf("%s: policy %+v", domain, r.Policy)
	}
	wantKind(t, r, kind)
	return r
}

func wantKind(t *testing.T, r Result, kind Kind) {
	t.Helper()
	var e *Error
	switch {
	case r.Err == nil && kind == "":
	case !errors.As(r.Err, &e) || e.Kind != kind:
		t.Fatalf("error %v, want kind %q", r.Err, kind)
	}
}

func lookup(t *testing.T, c *Cache, domain string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	return c.Lookup(ctx, domain)
}

// wantFetches wants that so many requests came to the policy host so far.
func (w *world) wantFetches(n int) {
	w.t.Helper()
	if got := len(w.host.Requests()); got != n {
		w.t.Fatalf("%d fetches so far, want %d", got, n)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not happen: %s", what)
		}
	}
}

// logText keeps what is logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count is how many lines hold a text.
func (l *logText) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
