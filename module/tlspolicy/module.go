// Package tlspolicy is the `tls_policy` configuration block: what TLS senders
// want of outbound deliveries, shared by target.remote_tls, check.tls_override
// and the API.
//
// The package is a thin shell around internal/policy. It reads the block
// (config.go, fields.go), lets other blocks refer to it or hold it inline
// (Directive), fetches a sending domain's row from the `domains` table
// (table.go; last.go and refresh.go for when it fails, empty.go for when it comes back empty; changes.go tells when it
// says something else), lists and changes rows for the API and the command line
// (domains.go, change.go), and keeps the key that authenticates
// message overrides. Deciding is left to policy.Policy.Resolve, which is pure.
//
// Whatever is wrong in a block is refused when maddy starts, with file, line,
// the wrong word and the choices. What goes wrong later, in the table or with
// the key, is an error of the call and never a guess: the caller defers.
package tlspolicy

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

const modName = "tls_policy"

// keyFile is the name of the override key in the state directory.
const keyFile = "tls_override.key"

// Module is one tls_policy block. After Init it is safe for concurrent use.
type Module struct {
	instName   string
	inlineArgs []string
	log        log.Logger

	policy   *policy.Policy
	fields   policy.Fields
	table    *table.Guard  // nil: no `domains` directive
	file     tableFile     // of a table that is one
	last     lastKnown     // what the table last said
	changes  changeLog     // what was told of changes in it
	writing  chan struct{} // holds one while a row is changed
	stateDir string        // "": maddy's global one

	stopRefresh func() // nil if nothing has to be kept fresh

	keyLock sync.Mutex
	key     *policy.Key // nil until it was read
}

// New makes an empty block with the built-in settings; it is the constructor
// that maddy's module registry wants.
func New(_, instName string, _, inlineArgs []string) (module.Module, error) {
	m := newModule(instName)
	m.inlineArgs = inlineArgs
	return m, nil
}

func newModule(instName string) *Module {
	m := &Module{
		instName: instName,
		log:      log.Logger{Name: modName},
		policy:   &policy.Policy{},
		last:     lastKnown{keep: defaultKeep, patience: knownPatience, now: time.Now},
		writing:  make(chan struct{}, 1),
		fields:   policy.DefaultFields(),
	}
	if instName != "" {
		m.log.Name += "/" + instName
	}
	return m
}

// BuiltIn returns what a block without a `policy` directive uses: the built-in
// settings and the default override fields.
func BuiltIn() *Module { return newModule("") }

// Init reads the configuration block.
func (m *Module) Init(cfg *config.Map) error {
	if len(m.inlineArgs) != 0 {
		return placed(cfg.Block, fmt.Errorf("%s: unexpected %q, expected a block", modName, m.inlineArgs[0]))
	}
	b, err := readBlock(cfg)
	if err != nil {
		return err
	}
	m.policy, m.fields, m.file.path, m.last.keep = b.policy, b.fields, b.tableFile, b.keep
	if b.table != nil {
		m.table = table.New(b.table)
	}
	// The global directive state_dir, or its default. It is part of the globals
	// that maddy hands to every block.
	m.stateDir, _ = cfg.Globals["state_dir"].(string)
	if m.table != nil && m.last.keep > 0 && !module.NoRun {
		m.startRefresh(refreshEvery)
	}
	return nil
}

// Name returns "tls_policy".
func (m *Module) Name() string { return modName }

// InstanceName returns the name of the block, "" if it is inline or built in.
func (m *Module) InstanceName() string { return m.instName }

// Policy returns the decisions of the block. It does not know the table: see
// Row and Decide.
func (m *Module) Policy() *policy.Policy { return m.policy }

// Fields returns the override fields of the block.
func (m *Module) Fields() policy.Fields { return m.fields }

// OverrideKey returns the key that authenticates overrides, from the file
// tls_override.key in maddy's state directory, which is made on first use. A key
// that was read is kept; after an error the next call tries again.
func (m *Module) OverrideKey() (policy.Key, error) {
	m.keyLock.Lock()
	defer m.keyLock.Unlock()
	if m.key != nil {
		return *m.key, nil
	}
	dir := m.directory()
	if dir == "" {
		return policy.Key{}, errors.New("no state directory to keep the override key in")
	}
	k, err := policy.LoadKey(filepath.Join(dir, keyFile))
	if err != nil {
		return policy.Key{}, err
	}
	m.key = &k
	return k, nil
}

// directory returns the state directory, "" if maddy was not told any.
func (m *Module) directory() string {
	if m.stateDir != "" {
		return m.stateDir
	}
	return config.StateDirectory
}

func init() {
	module.Register(modName, New)
}
