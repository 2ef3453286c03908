// Package eventstore is the `event_store` configuration block: a database of
// delivery-status documents and other events, for the HTTP API and its pages.
//
// The package is a thin shell around internal/events. It reads the block
// (config.go), lets other blocks refer to it or hold it inline (Directive), and
// starts the store with maddy. Observer gives a target what it reports to, Store
// is for whoever adds and asks.
package eventstore

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/events"
	"tlscontrol/internal/metrics"
)

const modName = "event_store"

func init() {
	module.Register(modName, New)
}

// Module is one event_store block.
type Module struct {
	instName   string
	inlineArgs []string
	log        log.Logger

	journal string        // the directory that is ours
	store   *events.Store // nil before Init, and in administration commands
}

var _ module.Module = (*Module)(nil)

// New makes a block that is not initialised; it is the constructor that
// maddy's module registry wants.
func New(_, instName string, _, inlineArgs []string) (module.Module, error) {
	m := newModule(instName)
	m.inlineArgs = inlineArgs
	return m, nil
}

func newModule(instName string) *Module {
	m := &Module{instName: instName, log: log.Logger{Name: modName}}
	if instName != "" { // there may be several, and each has its own database
		m.log.Name += "/" + instName
	}
	return m
}

// Init reads the block and starts the store. Every error carries file and line.
// A database that is away is none.
func (m *Module) Init(cfg *config.Map) error {
	if len(m.inlineArgs) > 0 {
		return config.NodeErr(cfg.Block, "%s: unexpected %q, expected a block", modName, m.inlineArgs[0])
	}
	s, err := parse(cfg.Block, m.instName, config.StateDirectory)
	if err != nil {
		return err
	}
	// maddy's administration commands read the configuration too. They deliver
	// nothing, and must not create files as whoever runs them.
	if module.NoRun {
		return nil
	}
	if other, ok := journals.take(s.journal, cfg.Block); !ok {
		return config.NodeErr(cfg.Block, "journal: %s is that of the block at %s:%d, expected one for each", s.journal, other.File, other.Line)
	}
	m.journal = s.journal
	// If it cannot be made, the store says so, and says it again.
	_ = os.MkdirAll(filepath.Join(config.StateDirectory, folder), 0o700)
	c := s.config()
	c.Counter = metrics.Default().Events(m.label())
	c.Report = func(msg string) { m.log.Println(msg) }
	if m.store, err = events.Open(c); err != nil {
		journals.release(m.journal)
		return config.NodeErr(cfg.Block, "%s: %v", modName, err)
	}
	return nil
}

// label is the block's name in metrics.
func (m *Module) label() string {
	if m.instName == "" {
		return "inline"
	}
	return m.instName
}

// Store is the store. It is there after Init, and nil in administration commands.
func (m *Module) Store() *events.Store { return m.store }

// Observer is what stores the documents of a target, nil if nothing is delivered
// in this process. It may be shared by several targets.
func (m *Module) Observer() delivery.Observer {
	if m.store == nil {
		return nil
	}
	return m.store
}

// Name is the name of the module, "event_store".
func (m *Module) Name() string { return modName }

// InstanceName is the name of the block, empty if it is inline.
func (m *Module) InstanceName() string { return m.instName }

// Close stores what waits, as far as the database takes it, and ends the store.
func (m *Module) Close() error {
	if m.store == nil {
		return nil
	}
	defer journals.release(m.journal)
	return m.store.Close()
}

// closeAtShutdown does for a block without a name what maddy does for named
// ones.
func closeAtShutdown(m *Module) {
	hooks.AddHook(hooks.EventShutdown, func() {
		if err := m.Close(); err != nil {
			m.log.Error("close failed", err)
		}
	})
}

// journals are the journals of this process: each may have one owner.
var journals = owners{blocks: make(map[string]config.Node)}

type owners struct {
	sync.Mutex
	blocks map[string]config.Node // by directory
}

// take makes a block the owner of a journal, or returns who is.
func (o *owners) take(dir string, block config.Node) (owner config.Node, ok bool) {
	o.Lock()
	defer o.Unlock()
	if owner, taken := o.blocks[dir]; taken {
		return owner, false
	}
	o.blocks[dir] = block
	return block, true
}

func (o *owners) release(dir string) {
	o.Lock()
	defer o.Unlock()
	delete(o.blocks, dir)
}
