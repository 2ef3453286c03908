package tlspolicy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// withTable returns a module that has the table, a block for one domain, and
// its log.
func withTable(t *testing.T, fake interface {
	Lookup(context.Context, string) (string, bool, error)
}) (*Module, *logBook) {
	t.Helper()
	m := mustLoad(t, "tls_policy p {\ndomain configured.example *.configured.example {\non_failure reject\n}\n}")
	book := &logBook{}
	m.table, m.log.Out = table.New(fake), book
	return m, book
}

func TestRows(t *testing.T) {
	t.Parallel()
	table := &fakeTable{rows: map[string]string{
		"example.com":                "require_tls=yes",
		"bücher.example":             "require_tls=yes",
		"xn--gre-6ka8l.example":      "skip_verification=yes",
		"configured.example":         "require_tls=yes",
		"mail.configured.example":    "require_tls=yes",
		"":                           "require_tls=yes",
		"both.xn--bcher-kva.example": "skip_verification=yes",
		"both.bücher.example":        "require_tls=yes",
	}}
	tests := []struct {
		sender, asked  string
		require, skip  bool
		source         policy.Source
		requireTLSFrom string
	}{
		{sender: "example.com", asked: "example.com", require: true, source: policy.FromTable, requireTLSFrom: `row "example.com"`},
		{sender: "EXAMPLE.COM.", asked: "example.com", require: true, source: policy.FromTable, requireTLSFrom: `row "example.com"`},
		{sender: "sub.example.com", asked: "sub.example.com", source: policy.FromDefault},
		{sender: "XN--bcher-kva.example", asked: "bücher.example", require: true, source: policy.FromTable, requireTLSFrom: `row "b\u00fccher.example"`},
		{sender: "Grüße.example", asked: "grüße.example xn--gre-6ka8l.example", skip: true, source: policy.FromDefault},
		{sender: "both.bücher.example", asked: "both.bücher.example", require: true, source: policy.FromTable, requireTLSFrom: `row "both.b\u00fccher.example"`},
		{sender: "", asked: "", source: policy.FromDefault},
		{sender: "configured.example", asked: "", source: policy.FromDefault},
		{sender: "mail.configured.example", asked: "", source: policy.FromDefault},
	}
	for _, test := range tests {
		t.Run(test.sender, func(t *testing.T) {
			t.Parallel()
			table := &fakeTable{rows: table.rows}
			m, book := withTable(t, table)
			s, err := m.resolve(context.Background(), test.sender, "to.example", policy.Override{})
			if err != nil {
				t.Fatal(err)
			}
			place := test.requireTLSFrom
			if !test.require {
				place = "maddy.conf:1"
			}
			if s.RequireTLS != test.require || s.SkipVerification != test.skip || s.RequireTLSSource != test.source ||
				test.require && s.RequireTLSPlace != place {
				t.Errorf("got %+v", s)
			}
			if got := table.questions(); got != test.asked {
				t.Errorf("asked %q, want %q", got, test.asked)
			}
			if got := book.text(); got != "" {
				t.Errorf("logged %s", got)
			}
		})
	}
}

// Whatever is wrong with the table or the row, the answer is an error that
// names the row, and a log line; never settings.
func TestRowFailures(t *testing.T) {
	t.Parallel()
	down := errors.New("database is \x1b[31mdown\r\n" + strings.Repeat("!", 1000))
	single := func(value string) *fakeTable {
		return &fakeTable{rows: map[string]string{"example.com": value}}
	}
	tests := []struct {
		name  string
		table interface {
			Lookup(context.Context, string) (string, bool, error)
		}
		want string
	}{
		{"unreadable", single("require_tls=perhaps"), `domains table, row "example.com": require_tls: unexpected "perhaps", expected yes or no`},
		{"empty", single(""), `domains table, row "example.com": empty row, expected key=value words`},
		{"half readable", single("require_tls=yes tls=1.3"), `domains table, row "example.com": unexpected "tls", expected one of ` + settingList},
		{"failing", &fakeTable{errs: map[string]error{"example.com": down}},
			`domains table, row "example.com": database is \x1b[31mdown\r\n` + strings.Repeat("!", 512-23) + "..."},
		{"panicking", &fakeTable{panics: map[string]any{"example.com": "index \x00 out of range"}},
			`domains table, row "example.com": panic: index \x00 out of range`},
		{"panicking with an error", &fakeTable{panics: map[string]any{"example.com": down}},
			`domains table, row "example.com": panic: database is \x1b[31mdown\r\n` + strings.Repeat("!", 512-30) + "..."},
		{"several values", &multiTable{values: map[string][]string{"example.com": {"require_tls=yes", "skip_verification=yes"}}},
			`domains table, row "example.com": 2 values, expected one: separate the words with spaces, without commas, and name the key once`},
		{"failing at the second look", &multiTable{values: map[string][]string{"example.com": {"require_tls=yes"}}, err: errors.New("gone")},
			`domains table, row "example.com": gone`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, book := withTable(t, test.table)
			s, err := m.resolve(context.Background(), "Example.com", "to.example", policy.Override{RequireTLS: policy.Yes})
			var te *TableError
			if !errors.As(err, &te) || te.Key != "example.com" || !te.Temporary() {
				t.Fatalf("got %v", err)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if s != (policy.Settings{}) {
				t.Errorf("settings beside the error: %+v", s)
			}
			line, begins := book.text(), "tls_policy/p: domains table fails, deferring\t"
			if te.Broken {
				begins = "tls_policy/p: row of the domains table unusable, deferring\t"
			}
			if !strings.HasPrefix(line, begins) ||
				!strings.Contains(line, "example.com") || strings.ContainsAny(line, "\n\r\x1b\x00") {
				t.Errorf("logged %q", line)
			}
		})
	}
}

func TestTableErrorUnwraps(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	m, _ := withTable(t, &fakeTable{errs: map[string]error{"example.com": down}})
	if _, err := m.Row(context.Background(), "example.com"); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
}

func TestSingleValueOfManyValuedTable(t *testing.T) {
	t.Parallel()
	m, _ := withTable(t, &multiTable{values: map[string][]string{"example.com": {"require_tls=yes"}}})
	row, err := m.Row(context.Background(), "example.com")
	if err != nil || row == nil || row.RequireTLS != policy.Yes {
		t.Errorf("got %v, %v", row, err)
	}
	if row, err := m.Row(context.Background(), "example.org"); err != nil || row != nil {
		t.Errorf("a domain without a row: %v, %v", row, err)
	}
}

// A table that hangs and heeds no context holds nobody longer than the context
// lasts.
func TestHangingTable(t *testing.T) {
	t.Parallel()
	table := &fakeTable{hang: make(chan struct{})}
	defer close(table.hang)
	m, _ := withTable(t, table)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := m.resolve(ctx, "example.com", "to.example", policy.Override{})
	var te *TableError
	if !errors.As(err, &te) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A file that is gone is no empty table: maddy would say that nobody has a row.
func TestFileGone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "domains")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := mustLoad(t, "tls_policy p {\ndomains file "+path+"\n}")
	if _, err := m.Row(context.Background(), "example.com"); err == nil || strings.Contains(err.Error(), "no such file") {
		t.Errorf("with the file: %v", err) // the path is the row of this test's table
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err := m.Row(context.Background(), "example.com")
	var te *TableError
	if !errors.As(err, &te) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without it: %v", err)
	}
}

func TestWithoutTable(t *testing.T) {
	t.Parallel()
	if s, err := BuiltIn().resolve(context.Background(), "example.com", "to.example", policy.Override{RequireTLS: policy.Yes}); err != nil ||
		!s.RequireTLS || s.RequireTLSSource != policy.FromMessage {
		t.Errorf("got %+v, %v", s, err)
	}
}
