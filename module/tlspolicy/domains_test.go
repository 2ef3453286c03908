package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// mutableTable is a table that can be written. What happened is in log.
type mutableTable struct {
	lock sync.Mutex
	rows map[string]string
	err  error
	hang chan struct{} // if not nil, questions wait for it and heed no context
	log  []string
	// other is called after each write, as somebody else who writes too.
	other func(rows map[string]string)
}

func newRows(rows map[string]string) *mutableTable {
	m := &mutableTable{rows: make(map[string]string)}
	maps.Copy(m.rows, rows)
	return m
}

func (m *mutableTable) fails(err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.err = err
}

func (m *mutableTable) hangs(until chan struct{}) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.hang = until
}

func (m *mutableTable) set(key, value string) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.rows[key] = value
}

func (m *mutableTable) Lookup(_ context.Context, key string) (string, bool, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	if hang := m.hang; hang != nil {
		m.lock.Unlock()
		<-hang
		m.lock.Lock()
	}
	m.log = append(m.log, "ask "+key)
	if m.err != nil {
		return "", false, m.err
	}
	v, ok := m.rows[key]
	return v, ok, nil
}

func (m *mutableTable) Keys() ([]string, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Collect(maps.Keys(m.rows)), m.err
}

func (m *mutableTable) SetKey(key, value string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.log = append(m.log, "set "+key)
	if m.err == nil {
		m.rows[key] = value
	}
	if m.other != nil {
		m.other(m.rows)
	}
	return m.err
}

func (m *mutableTable) RemoveKey(key string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.log = append(m.log, "remove "+key)
	if m.err == nil {
		delete(m.rows, key)
	}
	return m.err
}

// writes returns what was written, in order.
func (m *mutableTable) writes() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(m.log), func(s string) bool { return strings.HasPrefix(s, "ask ") }), ", ")
}

const (
	bücher  = "bücher.example"
	aBücher = "xn--bcher-kva.example"
)

func TestSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		rows    map[string]string
		domain  string
		changes Changes
		want    map[string]string
		writes  string
	}{
		{"a new row", nil, "Example.COM.", Changes{"require_tls": "TRUE"},
			map[string]string{"example.com": "require_tls=yes"}, "set example.com"},
		{"others stay", map[string]string{"example.com": "on_failure=reject require_tls=1", "example.org": "x"}, "example.com",
			Changes{"skip_verification": "no", "require_tls": "no"},
			map[string]string{"example.com": "require_tls=no skip_verification=no on_failure=reject", "example.org": "x"}, "set example.com"},
		{"one is taken out", map[string]string{"example.com": "require_tls=yes message_override=none"}, "example.com",
			Changes{"require_tls": "", "skip_verification": ""},
			map[string]string{"example.com": "message_override=none"}, "set example.com"},
		{"the last is taken out", map[string]string{"example.com": "require_tls=yes"}, "example.com",
			Changes{"require_tls": ""}, map[string]string{}, "remove example.com"},
		{"a row in A-labels becomes one in U-labels", map[string]string{aBücher: "require_tls=yes"}, "BÜCHER.example",
			Changes{"on_failure": "reject"},
			map[string]string{bücher: "require_tls=yes on_failure=reject"}, "set " + bücher + ", remove " + aBücher},
		{"a row that is hidden goes", map[string]string{bücher: "require_tls=yes", aBücher: "require_tls=no"}, aBücher,
			Changes{"on_failure": "reject"},
			map[string]string{bücher: "require_tls=yes on_failure=reject"}, "set " + bücher + ", remove " + aBücher},
		{"a broken row, if nothing is kept", map[string]string{"example.com": "require_tls=perhaps"}, "example.com",
			Changes{"require_tls": "yes", "skip_verification": "", "on_failure": "", "opportunistic_fallback": "unverified", "message_override": ""},
			map[string]string{"example.com": "require_tls=yes opportunistic_fallback=unverified"}, "set example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rows := newRows(tt.rows)
			m, _ := withTable(t, rows)
			d, err := m.Domains().Set(context.Background(), tt.domain, tt.changes)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, rows.rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if got := rows.writes(); got != tt.writes {
				t.Errorf("wrote %s, want %s", got, tt.writes)
			}
			// What is returned is what is found then, and what deliveries find.
			again, err := m.Domains().Get(context.Background(), tt.domain)
			d.Before = nil
			if diff := cmp.Diff(d, again); err != nil || diff != "" {
				t.Errorf("%v, returned and got:\n%s", err, diff)
			}
			s, err := m.resolve(context.Background(), policy.Normalize(tt.domain), "to.example", policy.Override{})
			if diff := cmp.Diff(d.Settings, s); err != nil || diff != "" {
				t.Errorf("%v, returned and delivered with:\n%s", err, diff)
			}
		})
	}
}

func TestSetRefused(t *testing.T) {
	t.Parallel()
	yes := Changes{"require_tls": "yes"}
	broken := map[string]string{"example.com": "require_tls=perhaps"}
	for _, tt := range []struct {
		name    string
		rows    map[string]string
		domain  string
		changes Changes
		as      any
		want    string
	}{
		{"a block", nil, "CONFIGURED.example", yes, new(*ReadOnlyError),
			`domain "configured.example" is set in the configuration, at maddy.conf:2, and can only be changed there`},
		{"a pattern's block", nil, "a.b.configured.example", yes, new(*ReadOnlyError),
			`domain "a.b.configured.example" is set in the configuration, at maddy.conf:2, and can only be changed there`},
		{"a pattern", nil, "*.example.com", yes, new(*InvalidError), `bad domain "*.example.com": character '*' not allowed`},
		{"no domain", nil, "", yes, new(*InvalidError), `bad domain "": no domain name`},
		{"no changes", nil, "example.com", nil, new(*InvalidError), `nothing to change`},
		{"a bad name", nil, "example.com", Changes{"tls": ""}, new(*InvalidError), `unexpected "tls", expected one of ` + settingList},
		{"a bad value", nil, "example.com", Changes{"skip_verification": "yes", "require_tls": "yes no"}, new(*InvalidError),
			`require_tls: unexpected "yes no", expected yes or no`},
		{"a broken row", broken, "example.com", yes, new(*TableError),
			`domains table, row "example.com": require_tls: unexpected "perhaps", expected yes or no`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rows := newRows(tt.rows)
			m, _ := withTable(t, rows)
			_, err := m.Domains().Set(context.Background(), tt.domain, tt.changes)
			if !errors.As(err, tt.as) || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if got := rows.writes(); got != "" {
				t.Errorf("wrote %s", got)
			}
		})
	}
}

func TestUnset(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rows := newRows(map[string]string{
		bücher: "require_tls=yes", aBücher: "nonsense", "broken.example": "", "Upper.example": "require_tls=yes", "*.example.org": "require_tls=yes",
	})
	m, _ := withTable(t, rows)
	for _, domain := range []string{"BÜCHER.example", "broken.example", "Upper.example", "*.example.org"} {
		if err := m.Domains().Unset(ctx, domain); err != nil {
			t.Errorf("%s: %v", domain, err)
		}
	}
	if len(rows.rows) != 0 {
		t.Errorf("left: %v", rows.rows)
	}
	// The one that counts goes last, so that the other one never counts.
	if got := rows.writes(); !strings.HasPrefix(got, "remove "+aBücher+", remove "+bücher+",") {
		t.Errorf("wrote %s", got)
	}
	for domain, want := range map[string]any{
		bücher: new(*NotFoundError), "*.example.org": new(*InvalidError), "x.configured.example": new(*ReadOnlyError),
	} {
		if err := m.Domains().Unset(ctx, domain); !errors.As(err, want) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	m, _ := withTable(t, newRows(map[string]string{
		"a.example": "require_tls=yes", aBücher: "skip_verification=yes", "Upper.example": "require_tls=yes",
		"*.x.example": "require_tls=yes", "broken.example": "require_tls=\x1b", "configured.example": "require_tls=no",
	}))
	list, err := m.Domains().List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		line := fmt.Sprintf("%s %v %v %q", d.Name, d.Settings.RequireTLS, d.Settings.OnFailure, d.Block)
		if d.Row != nil {
			line += fmt.Sprintf(" %q=%q", d.Row.Key, d.Row.Text)
		}
		if d.Err != nil {
			line += " " + d.Err.Error()
		}
		got = append(got, line)
	}
	want := []string{
		`*.configured.example false reject "maddy.conf:2"`,
		`*.x.example false  "" "*.x.example"="require_tls=yes" domains table, row "*.x.example": never found: its key is no domain name`,
		`Upper.example false  "" "Upper.example"="require_tls=yes" domains table, row "Upper.example": never found: its key would have to be "upper.example"`,
		`a.example true defer "" "a.example"="require_tls=yes"`,
		`broken.example false  "" "broken.example"="require_tls=\x1b" domains table, row "broken.example": require_tls: unexpected "\x1b", expected yes or no`,
		`bücher.example false defer "" "xn--bcher-kva.example"="skip_verification=yes"`,
		`configured.example false reject "maddy.conf:2"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A table that can only be asked still shows what the configuration says.
func TestDomainsOfOtherTables(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	yes := Changes{"require_tls": "yes"}
	m, _ := withTable(t, &fakeTable{rows: map[string]string{"a.example": "require_tls=yes"}})
	list, err := m.Domains().List(ctx)
	if !errors.Is(err, ErrReadOnlyTable) || len(list) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if d, err := m.Domains().Get(ctx, "A.example"); err != nil || !d.Settings.RequireTLS || !d.Known() {
		t.Errorf("got %+v, %v", d, err)
	}
	_, set := m.Domains().Set(ctx, "a.example", yes)
	if unset := m.Domains().Unset(ctx, "a.example"); !errors.Is(set, ErrReadOnlyTable) || !errors.Is(unset, ErrReadOnlyTable) {
		t.Errorf("set: %v, unset: %v", set, unset)
	}

	without := mustLoad(t, "tls_policy p {\nrequire_tls yes\n}").Domains()
	if list, err := without.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if d, err := without.Get(ctx, "a.example"); err != nil || !d.Settings.RequireTLS || d.Known() {
		t.Errorf("got %+v, %v", d, err)
	}
	if _, err := without.Set(ctx, "a.example", yes); !errors.Is(err, ErrNoTable) {
		t.Errorf("set: %v", err)
	}

	rows := newRows(map[string]string{"a.example": "require_tls=yes"})
	m, _ = withTable(t, rows)
	rows.fails(errors.New("down"))
	var te *TableError
	if d, err := m.Domains().Get(ctx, "a.example"); !errors.As(err, &te) || te.Broken || d.Settings != (policy.Settings{}) {
		t.Errorf("get: %+v, %v", d, err)
	}
	if _, err := m.Domains().List(ctx); err == nil {
		t.Error("list: no error")
	}
	if _, err := m.Domains().Set(ctx, "a.example", yes); !errors.As(err, &te) {
		t.Errorf("set: %v", err)
	}
}

// Everybody changes another setting of one domain at once, through two blocks
// of one maddy: none is lost.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	rows := newRows(nil)
	a, _ := withTable(t, rows)
	b, _ := withTable(t, rows)
	b.stateDir = a.stateDir
	all := Changes{"require_tls": "yes", "skip_verification": "no", "on_failure": "reject", "opportunistic_fallback": "unverified", "message_override": "none"}
	for range 20 {
		var wait sync.WaitGroup
		for name, value := range all {
			for _, m := range []*Module{a, b} {
				wait.Go(func() {
					if _, err := m.Domains().Set(ctx, "example.com", Changes{name: value}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wait.Wait()
		if got := strings.Fields(rows.rows["example.com"]); len(got) != len(all) {
			t.Fatalf("row %q", got)
		}
		if err := b.Domains().Unset(ctx, "example.com"); err != nil {
			t.Fatal(err)
		}
	}
}

// Who is overtaken by another machine is told.
func TestConflict(t *testing.T) {
	t.Parallel()
	rows := newRows(nil)
	rows.other = func(rows map[string]string) { rows["example.com"] = "require_tls=no" }
	m, _ := withTable(t, rows)
	_, err := m.Domains().Set(context.Background(), "example.com", Changes{"require_tls": "yes"})
	if c := (*ConflictError)(nil); !errors.As(err, &c) || c.Domain != "example.com" {
		t.Errorf("got %v", err)
	}
}

// A change that cannot begin ends with its context.
func TestChangeWaits(t *testing.T) {
	t.Parallel()
	m, _ := withTable(t, newRows(nil))
	unlock, err := lockDirectory(context.Background(), m.stateDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Domains().Set(ctx, "example.com", Changes{"require_tls": "yes"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Whatever is under whatever key, a list of it is whole, each entry has settings
// or an error, and a change leaves a row that is read.
func FuzzDomains(f *testing.F) {
	f.Add("example.com", "require_tls=yes", "no")
	f.Add("Example.com", "require_tls", "yes")
	f.Add(aBücher, "on_failure=reject", "")
	f.Add("*.example.com", "\x00", "1")
	f.Fuzz(func(t *testing.T, key, text, value string) {
		ctx := context.Background()
		rows := newRows(map[string]string{key: text})
		m := newModule("p")
		m.table, m.stateDir = table.New(rows), ""
		list, err := m.Domains().List(ctx)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		if d := list[0]; (d.Err == nil) == (d.Settings == policy.Settings{}) || d.Row == nil {
			t.Errorf("%+v", d)
		}
		d, err := m.Domains().Set(ctx, key, Changes{"require_tls": value})
		if err != nil {
			if rows.rows[key] != text || len(rows.rows) != 1 {
				t.Errorf("%v, but the rows are %q", err, rows.rows)
			}
			return
		}
		if d.Row != nil {
			if _, err := policy.ParseRow(d.Row.Text); err != nil || rows.rows[d.Name] != d.Row.Text {
				t.Errorf("%v, %+v, rows %q", err, d, rows.rows)
			}
		}
	})
}
