package tlsrpt

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"
	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/route"
)

// hang ends a test that would hang; nothing asserts how long things take.
const hang = 60 * time.Second

// noon is in the day that the tests are about, midnight ends it.
var (
	noon     = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	midnight = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	// allDue is when every report of the day has become due, tomorrow's none.
	allDue = midnight.Add(firstReport + spread + time.Second)
)

const theDay = "2026-11-26"

var us = Sender{Organization: "Example Örg", Contact: "postmaster@example.org", From: "reports@relay.example.org"}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// office is a Mailer that keeps what it gets.
type office struct {
	mu    sync.Mutex
	fail  error // for every message, if set
	mails []sentMail
	tries int
}

type sentMail struct {
	from, to string
	header   textproto.Header
	body     []byte
}

func (o *office) Mail(_ context.Context, from, to string, header textproto.Header, body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	if o.fail != nil {
		return o.fail
	}
	o.mails = append(o.mails, sentMail{from, to, header, body})
	return nil
}

func (o *office) setFail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

// to lists who got mail, in order of arrival.
func (o *office) to() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var to []string
	for _, m := range o.mails {
		to = append(to, m.to)
	}
	return to
}

// bytes is a message as it arrives.
func (m sentMail) bytes(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := textproto.WriteHeader(&b, m.header); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), m.body...)
}

// lines is a log to look into.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), s)
}

func logTo(l *lines) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

var discard = slog.New(slog.DiscardHandler)

// world is a reporter and what it talks to.
type world struct {
	*testing.T
	clock  *clock
	dns    *mailtest.DNS
	office *office
	log    *lines
	cfg    Config
	r      *Reporter
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, clock: &clock{now: noon}, office: &office{}, log: &lines{}}
	var err error
	if w.dns, err = mailtest.NewDNS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.dns.Close() })
	w.dns.SetTTL(0) // so that a changed record is seen at once
	resolver := route.NewResolver([]string{w.dns.Addr()})
	t.Cleanup(resolver.Close)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{
		Dir: t.TempDir() + "/tlsrpt", Sender: us, Mail: true, HTTPS: true, Resolver: resolver, Now: w.clock.Now,
		Log: logTo(w.log),
		Key: &Key{Domain: "relay.example.org", Selector: "sel", Signer: private},
	}
	w.open()
	return w
}

// open starts the reporter, again if it is running.
func (w *world) open() {
	w.Helper()
	if w.r != nil {
		w.close()
	}
	w.r = mustOpen(w.T, w.cfg)
	w.r.mailer = w.office
	w.Cleanup(func() { w.r.Close() })
}

func mustOpen(t *testing.T, cfg Config) *Reporter {
	t.Helper()
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) close() {
	w.Helper()
	if err := w.r.Close(); err != nil {
		w.Fatal(err)
	}
}

// step does what is due at a time.
func (w *world) step(now time.Time) {
	w.Helper()
	w.clock.set(now)
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	w.r.flush()
	w.r.step(ctx, nil)
	if ctx.Err() != nil {
		w.Fatal("a step that hangs")
	}
}

// read is what the command line would print of the day.
func (w *world) read() []Document {
	w.Helper()
	w.r.flush()
	docs, err := documents(w.cfg, noon)
	if err != nil {
		w.Fatal(err)
	}
	return docs
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(w.cfg.Dir+"/"+name, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// documents are those of a day, as the command line reads them.
func documents(cfg Config, day time.Time) ([]Document, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	return Source{Dir: cfg.Dir, Database: cfg.Database, Sender: cfg.Sender}.Read(ctx, day)
}

// counted sums up a day: domain, sessions secured, sessions failed.
func counted(docs []Document) map[string][2]int64 {
	all := make(map[string][2]int64)
	for _, d := range docs {
		ok, failed := d.Sessions()
		all[d.Domain] = [2]int64{ok, failed}
	}
	return all
}

// session is one without a policy; failure is empty for a good one.
func session(domain string, failure mox.ResultType) Session {
	return Session{
		Domain: domain, MXHost: "mx1." + domain, Helo: "mx1",
		MXIP: netip.MustParseAddr("203.0.113.5"), LocalIP: netip.MustParseAddr("198.51.100.7"),
		Verdicts: []Verdict{{Policy: Policy{Type: mox.NoPolicyFound, Domain: domain}, Failure: failure}},
	}
}

var errLater = errors.New("not now")

// mailerFunc is a Mailer that only does one thing.
type mailerFunc func() error

func (f mailerFunc) Mail(context.Context, string, string, textproto.Header, []byte) error { return f() }
