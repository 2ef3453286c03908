package events

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/pgtest"
	"tlscontrol/internal/tlsplan"
)

// hang is how long a test waits for what must happen.
const hang = time.Minute

// on runs a test with each database that is there. dsn makes an empty one.
func on(t *testing.T, run func(t *testing.T, cfg Config)) {
	t.Helper()
	t.Run(SQLite, func(t *testing.T) {
		t.Parallel()
		// Small parts, so that tests have several.
		run(t, Config{Driver: SQLite, DSN: filepath.Join(t.TempDir(), "events.db"), partSize: 5})
	})
	t.Run(Postgres, func(t *testing.T) {
		t.Parallel()
		run(t, Config{Driver: Postgres, DSN: pgtest.Shared(t).Database(t)})
	})
}

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// counter is a Counter that one can wait for.
type counter struct {
	mu                    sync.Mutex
	stored, lost, backlog int64
	changed               chan struct{}
}

func newCounter() *counter { return &counter{changed: make(chan struct{})} }

func (c *counter) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) Stored(n int)         { c.change(func() { c.stored += int64(n) }) }
func (c *counter) Lost(n int)           { c.change(func() { c.lost += int64(n) }) }
func (c *counter) Backlog(octets int64) { c.change(func() { c.backlog = octets }) }

// await waits until the condition holds.
func (c *counter) await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	timer := time.NewTimer(hang)
	defer timer.Stop()
	for {
		c.mu.Lock()
		ok, changed := holds(), c.changed
		state := fmt.Sprintf("%d stored, %d lost, %d octets wait", c.stored, c.lost, c.backlog)
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("%s did not come: %s", what, state)
		}
	}
}

func (c *counter) awaitStored(t testing.TB, n int64) {
	t.Helper()
	c.await(t, fmt.Sprintf("%d events", n), func() bool { return c.stored >= n })
}

func (c *counter) numbers() (stored, lost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored, c.lost
}

// world is a store and what it tells.
type world struct {
	*Store
	count *counter
	cfg   Config
	log   *lines
}

// lines are what was reported.
type lines struct {
	sync.Mutex
	all []string
}

func (l *lines) add(s string) {
	l.Lock()
	defer l.Unlock()
	l.all = append(l.all, s)
}

func (l *lines) has(part string) bool {
	l.Lock()
	defer l.Unlock()
	return strings.Contains(strings.Join(l.all, "\n"), part)
}

// start opens a store; what is missing in cfg is made up.
func start(t testing.TB, cfg Config) *world {
	t.Helper()
	if cfg.Journal.Dir == "" {
		cfg.Journal.Dir = filepath.Join(t.TempDir(), "journal")
	}
	if cfg.Journal.MaxBytes == 0 {
		cfg.Journal.MaxBytes = 1 << 30
	}
	if cfg.drain == 0 {
		cfg.drain = hang
	}
	if cfg.Headers == nil {
		cfg.Headers = []string{"message-id", "subject"}
	}
	w := &world{count: newCounter(), log: &lines{}}
	cfg.Counter = w.count
	cfg.Report = func(msg string) { w.count.change(func() { w.log.add(msg) }) }
	w.cfg = cfg
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = s
	t.Cleanup(func() { s.Close() })
	return w
}

// again closes the store and opens another one over the same files.
func (w *world) again(t testing.TB) *world {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return start(t, w.cfg)
}

// fact is what a test says about an event; the zero fact is a plain delivery.
type fact struct {
	n                      int // seconds after the epoch of the test, and part of the id
	event, severity        string
	sender, recipient      string
	messageID, queueID     string
	reason, mxHost, sent   string
	tls, verified, nothing bool // nothing: no connection
	size                   int64
	subject                string
	tags                   []string
	list                   string
}

var epoch = time.Unix(1766430000, 0)

// document makes the document of a fact.
func (f fact) document() string {
	d := map[string]any{
		"event": or(f.event, "delivered"), "id": fmt.Sprintf("%032x", f.n),
		"timestamp": json.Number(fmt.Sprintf("%d.000000", epoch.Unix()+int64(f.n))),
		"recipient": or(f.recipient, "b@example.net"), "queue-id": or(f.queueID, fmt.Sprintf("q%d", f.n)),
		"envelope": map[string]any{"sender": or(f.sender, "a@example.com")},
		"message": map[string]any{"size": f.size, "headers": map[string]any{
			"message-id": or(f.messageID, fmt.Sprintf("m%d@example.com", f.n)), "subject": f.subject,
		}},
		"mailing-list": map[string]any{"address": f.list},
	}
	if f.severity != "" {
		d["severity"], d["reason"] = f.severity, f.reason
	}
	if f.tags != nil {
		d["tags"] = f.tags
	}
	if !f.nothing {
		status := map[string]any{"tls": f.tls, "certificate-verified": f.verified, "mx-host": or(f.mxHost, "mx.example.net")}
		if f.sent != "" {
			status["content-sent"] = f.sent
		}
		d["delivery-status"] = status
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func event(t testing.TB, document string) Event {
	t.Helper()
	e, err := Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// put adds facts and waits until they are stored.
func (w *world) put(t testing.TB, facts ...fact) {
	t.Helper()
	before, _ := w.count.numbers()
	for _, f := range facts {
		w.Add(event(t, f.document()))
	}
	w.count.awaitStored(t, before+int64(len(facts)))
}

// ask returns the numbers of the facts that a question finds, and the page.
func (w *world) ask(t testing.TB, q Query) (string, Page) {
	t.Helper()
	p, err := w.Query(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return numbers(t, p.Items), p
}

func numbers(t testing.TB, items []json.RawMessage) string {
	t.Helper()
	var all []string
	for _, item := range items {
		var d struct{ ID string }
		if err := json.Unmarshal(item, &d); err != nil {
			t.Fatalf("%v: %s", err, item)
		}
		var n int
		if _, err := fmt.Sscanf(d.ID, "%x", &n); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(n))
	}
	return strings.Join(all, " ")
}

// attempt is a delivery as target.remote_tls tells of it.
func attempt(id byte) *delivery.Attempt {
	var h textproto.Header
	h.Add("Message-ID", "<x@example.com>")
	h.Add("Subject", "Hello")
	return &delivery.Attempt{
		ID: [16]byte{15: id}, QueueID: "7f3a9c1e", Sender: "A@Bücher.example", Recipient: "B@Example.net", Domain: "example.net",
		Header: h, Size: 42, Concluded: epoch.Add(time.Duration(id) * time.Second), Result: delivery.Delivered, Code: 250,
		Connection: &delivery.Connection{Host: "mx1.example.net", Outcome: tlsplan.Outcome{TLS: true, Verification: tlsplan.VerifiedPKIX}},
	}
}

func journalConfig(dir string) journal.Config { return journal.Config{Dir: dir, MaxBytes: 1 << 30} }
