package tlspolicy

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
)

// parse reads a configuration text, called maddy.conf, as maddy does.
func parse(t *testing.T, text string) []config.Node {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// load makes a module of a text that holds one tls_policy block.
func load(t *testing.T, text string) (*Module, error) {
	t.Helper()
	nodes := parse(t, text)
	if len(nodes) != 1 || nodes[0].Name != "tls_policy" {
		t.Fatalf("want one tls_policy block, got %v", nodes)
	}
	mod, err := New("tls_policy", nodes[0].Args[0], nodes[0].Args[1:], nil)
	if err != nil {
		t.Fatal(err)
	}
	globals := map[string]interface{}{"state_dir": t.TempDir()}
	return mod.(*Module), mod.Init(config.NewMap(globals, nodes[0]))
}

// mustLoad is load for a text without mistakes.
func mustLoad(t *testing.T, text string) *Module {
	t.Helper()
	m, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fakeTable is a table of single values, with errors and panics on demand. It
// is registered as table.file: the examples of the manual page use that one.
type fakeTable struct {
	rows   map[string]string
	errs   map[string]error
	panics map[string]any
	hang   chan struct{} // if not nil, Lookup waits for it and heeds no context

	lock  sync.Mutex
	asked []string
}

func (f *fakeTable) Lookup(_ context.Context, key string) (string, bool, error) {
	f.lock.Lock()
	f.asked = append(f.asked, key)
	f.lock.Unlock()
	if f.hang != nil {
		<-f.hang
	}
	if p := f.panics[key]; p != nil {
		panic(p)
	}
	value, found := f.rows[key]
	return value, found, f.errs[key]
}

func (f *fakeTable) questions() string {
	f.lock.Lock()
	defer f.lock.Unlock()
	return strings.Join(f.asked, " ")
}

func (f *fakeTable) Init(cfg *config.Map) error {
	_, err := cfg.Process() // knows no directives, as a table without a block
	return err
}
func (f *fakeTable) Name() string         { return "table.file" }
func (f *fakeTable) InstanceName() string { return "" }

// sqlTable takes any block; the tests of the whole process have the real one.
type sqlTable struct{ fakeTable }

func (*sqlTable) Init(*config.Map) error { return nil }

// multiTable has several values for a key.
type multiTable struct {
	fakeTable
	values map[string][]string
	err    error
}

func (m *multiTable) Lookup(_ context.Context, key string) (string, bool, error) {
	if v := m.values[key]; len(v) > 0 {
		return v[0], true, nil
	}
	return "", false, nil
}

func (m *multiTable) LookupMulti(_ context.Context, key string) ([]string, error) {
	return m.values[key], m.err
}

func init() {
	module.Register("table.file", func(_, _ string, _, args []string) (module.Module, error) {
		return &fakeTable{rows: map[string]string{"example.com": strings.Join(args, " ")}}, nil
	})
	module.Register("table.sql_table", func(_, _ string, _, _ []string) (module.Module, error) {
		return &sqlTable{}, nil
	})
}

// logBook keeps what is logged.
type logBook struct {
	lock  sync.Mutex
	lines []string
}

func (l *logBook) Write(_ time.Time, _ bool, line string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.lines = append(l.lines, line)
}
func (l *logBook) Close() error { return nil }

func (l *logBook) text() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return strings.Join(l.lines, "\n")
}

var _ log.Output = (*logBook)(nil)

// resolve does what a target does with a message to one destination.
func (m *Module) resolve(ctx context.Context, sendingDomain, destination string, o policy.Override) (policy.Settings, error) {
	row, err := m.Row(ctx, sendingDomain)
	if err != nil {
		return policy.Settings{}, err
	}
	return m.Decide(policy.Question{SendingDomain: sendingDomain, Destination: destination, Override: o, Row: row}), nil
}
