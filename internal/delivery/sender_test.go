package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/policy"
)

// lines is a log that keeps its records.
type lines struct {
	mu      sync.Mutex
	records []slog.Record
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l *lines) WithGroup(string) slog.Handler          { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

// TestManyForgedStamps: they count as absent, whatever they are, for one line in
// the log.
func TestManyForgedStamps(t *testing.T) {
	t.Parallel()
	weak := policy.Override{RequireTLS: policy.No, SkipVerification: policy.Yes}
	for name, stamp := range map[string]func(i int) string{
		"empty":             func(int) string { return "" },
		"of another key":    func(int) string { return policy.Key{2}.Stamp("7f3a9c1e", weak) },
		"of other messages": func(i int) string { return policy.Key{1}.Stamp(fmt.Sprintf("%08x", i), weak) },
		"lines in a line":   func(i int) string { return fmt.Sprintf("v=1; require-tls=no;\x1b[31m id=%d\x00", i) },
		"long":              func(int) string { return strings.Repeat("require-tls=no; ", 50) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log lines
			w := newWorld(t, func(c *delivery.Config) {
				c.Log = slog.New(&log)
				c.Policies = static(policy.Settings{RequireTLS: true})
			}, good())
			m := message("b@example.net")
			for i := range 5000 {
				m.Header.Add(policy.StampField, stamp(i))
			}
			if f := failure(t, w.send(context.Background(), m)["b@example.net"]); f != nil {
				t.Fatal(code(f))
			}
			if s := w.last().Settings; !s.RequireTLS || s.SkipVerification || s.RequireTLSSource == policy.FromMessage {
				t.Errorf("settings %+v", s)
			}
			if len(log.records) != 1 || log.records[0].Level != slog.LevelWarn {
				t.Fatalf("%d lines in the log, want one warning", len(log.records))
			}
			log.records[0].Attrs(func(a slog.Attr) bool {
				text := a.Value.String()
				if len(text) > 500 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%s is %q", a.Key, text)
				}
				return true
			})
			if strings.Contains(string(w.mx[0].Messages()[0].Data), policy.StampField) {
				t.Error("a stamp left the house")
			}
		})
	}
}

// TestQuotedLocalParts: local parts come without the quotes that they need in a
// command.
func TestQuotedLocalParts(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`a b`:             `"a b"`,
		`x"y`:             `"x\"y"`,
		`back\slash`:      `"back\\slash"`,
		`a@b`:             `"a@b"`,
		`a<b>c`:           `"a<b>c"`,
		`"quoted before"`: `"quoted before"`,
		`plain.one+tag`:   `plain.one+tag`,
		`o'neill`:         `o'neill`,
	} {
		t.Run(given, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, inClear())
			m := message(given + "@example.net")
			m.From, m.FromDomain = given+"@example.com", "example.com"
			if f := failure(t, w.send(context.Background(), m)[given+"@example.net"]); f != nil {
				t.Fatal(code(f))
			}
			got := w.mx[0].Messages()[0]
			if got.From != want+"@example.com" || got.Recipients[0] != want+"@example.net" {
				t.Errorf("MAIL FROM:<%s> RCPT TO:<%s>, want %s", got.From, got.Recipients[0], want)
			}
			if a := w.last(); a.Recipient != given+"@example.net" || a.Sender != given+"@example.com" {
				t.Errorf("the document has %s and %s", a.Sender, a.Recipient)
			}
		})
	}
	t.Run("no command of its own", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, inClear())
		m := message("b>\r\nRCPT TO:<c@example.net", "a@example.net")
		statuses := w.send(context.Background(), m)
		if got := code(failure(t, statuses["b>\r\nRCPT TO:<c@example.net"])); got != "553 5.1.3 rcpt-rejected" {
			t.Error(got)
		}
		if n := commands(w.mx[0].Sessions()[0], "RCPT"); n != 1 {
			t.Errorf("%d RCPT commands, want one", n)
		}
	})
}

// real is a policy that counts how often the table is asked.
type real struct {
	policy.Policy
	mu   sync.Mutex
	row  *policy.Block
	err  error
	rows []string
	seen map[*policy.Block]int
}

func (p *real) Row(_ context.Context, sendingDomain string) (*policy.Block, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = append(p.rows, sendingDomain)
	return p.row, p.err
}

func (p *real) Decide(q policy.Question) policy.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = make(map[*policy.Block]int)
	}
	p.seen[q.Row]++
	return p.Resolve(q)
}

// TestSpellings: a domain has one policy however it is spelled, and is reached
// under one name.
func TestSpellings(t *testing.T) {
	t.Parallel()
	for _, spelling := range []string{
		"example.net", "EXAMPLE.NET", "example.net.", "ｅxample.net", "ＥＸＡＭＰＬＥ．ＮＥＴ", "exam\u00adple.net", "example。net",
		"sub.wild.test", "ｓｕｂ.wild.test", "sub。wild.test.",
		"bücher.test", "BÜCHER.test", "bu\u0308cher.test", "xn--bcher-kva.test", "XN--BCHER-KVA.TEST", "ｂücher.test",
	} {
		t.Run(spelling, func(t *testing.T) {
			t.Parallel()
			var p real
			for _, pattern := range []string{"example.net", "*.wild.test", "bücher.test"} {
				if err := p.AddDestination(pattern, policy.Block{RequireTLS: policy.Yes}); err != nil {
					t.Fatal(err)
				}
			}
			w := newWorld(t, func(c *delivery.Config) { c.Policies = &p }, inClear())
			for _, d := range []string{"sub.wild.test", "xn--bcher-kva.test"} {
				w.dns.MX(d, 10, hostName(0))
			}
			to := "b@" + spelling
			m := message(to, "c@other.test")
			m.Options.UTF8 = true
			w.dns.MX("other.test", 10, hostName(0))
			statuses := w.send(context.Background(), m)
			if got := code(failure(t, statuses[to])); got != "451 4.7.4 tls-not-offered" {
				t.Errorf("%s, want TLS to be required", got)
			}
			if got := code(failure(t, statuses["c@other.test"])); got != "delivered" {
				t.Errorf("the other recipient: %s", got)
			}
			for _, msg := range w.mx[0].Messages() {
				if len(msg.Recipients) != 1 || msg.Recipients[0] != "c@other.test" {
					t.Errorf("in clear to %q", msg.Recipients)
				}
			}
		})
	}
}

// TestRowOnce: what the table says of the sending domain is asked once for a
// message, whatever the number of its destinations, and counts for all of them.
func TestRowOnce(t *testing.T) {
	t.Parallel()
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("b@d%d.test", i), fmt.Sprintf("c@d%d.test", i))
	}
	t.Run("a row", func(t *testing.T) {
		t.Parallel()
		p := &real{row: &policy.Block{RequireTLS: policy.Yes}}
		w := newWorld(t, func(c *delivery.Config) { c.Policies = p }, good())
		for i := range 20 {
			w.dns.MX(fmt.Sprintf("d%d.test", i), 10, hostName(0))
		}
		for rcpt, err := range w.send(context.Background(), message(to...)) {
			if err != nil {
				t.Errorf("%s: %v", rcpt, err)
			}
		}
		if len(p.rows) != 1 || p.rows[0] != "example.com" || p.seen[p.row] != 20 {
			t.Errorf("asked for %q, the row counted %d times, want once for all 20", p.rows, p.seen[p.row])
		}
		for _, a := range w.rec.attempts {
			if !a.Settings.RequireTLS || a.Settings.RequireTLSSource != policy.FromTable {
				t.Errorf("settings of %s: %+v", a.Recipient, a.Settings)
			}
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		p := &real{err: errors.New("table is gone")}
		w := newWorld(t, func(c *delivery.Config) { c.Policies = p }, good())
		if got := tally(t, w.send(context.Background(), message(to...))); got["451 4.3.5 policy"] != len(to) {
			t.Errorf("statuses %v", got)
		}
		if len(p.rows) != 1 || len(p.seen) != 0 || w.mx[0].Connections() != 0 {
			t.Errorf("asked for %q, decided %v, %d connections", p.rows, p.seen, w.mx[0].Connections())
		}
	})
}
