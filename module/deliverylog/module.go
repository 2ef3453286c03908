// Package deliverylog is the `delivery_log` configuration block: where the
// delivery-status documents of target.remote_tls go.
//
// The package is a thin shell around internal/status, which makes the
// documents and writes them. It reads the block (config.go), lets other
// blocks refer to it or hold it inline (Directive), opens the outputs when
// maddy starts, has files reopened on maddy's log-rotate hook, and counts and
// logs what could not be written. Observer gives a target what it reports to.
package deliverylog

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/metrics"
	"tlscontrol/internal/status"
)

const modName = "delivery_log"

func init() {
	module.Register(modName, New)
}

// Module is one delivery_log block.
type Module struct {
	instName   string
	inlineArgs []string
	log        log.Logger
	onError    func(n int) // counts lost documents

	documents *status.Log // nil before Init
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
	return &Module{
		instName: instName,
		log:      log.Logger{Name: modName},
		onError:  func(n int) { metrics.Default().LogErrors(n) },
	}
}

// Default is what a target without a delivery_log directive uses: a block
// without directives. It is ready to use and closed when maddy stops.
func Default() *Module {
	m := newModule("")
	if err := m.start(defaultSettings()); err != nil {
		// Standard error itself cannot be had. Mail goes on without documents;
		// this is the only trace of it, and needs another log to be seen.
		m.log.Error("no delivery-status documents are written", err)
		m.documents = status.NewLog(status.Config{})
	}
	closeAtShutdown(m)
	return m
}

// Init reads the block and opens its outputs. Every error carries file and
// line.
func (m *Module) Init(cfg *config.Map) error {
	if len(m.inlineArgs) > 0 {
		return config.NodeErr(cfg.Block, "%s: unexpected %q, expected a block", modName, m.inlineArgs[0])
	}
	s, err := parse(cfg.Block)
	if err != nil {
		return err
	}
	return m.start(s)
}

// start opens the outputs and begins to take documents.
func (m *Module) start(s settings) error {
	var outputs []status.Output
	// maddy's administration commands read the configuration too. They deliver
	// nothing, and must not create files as whoever runs them.
	if !module.NoRun {
		var err error
		if outputs, err = openAll(s.outputs, config.StateDirectory); err != nil {
			return err
		}
	}
	m.documents = status.NewLog(status.Config{
		Outputs: outputs,
		Headers: s.headers,
		OnError: m.onError,
		Report:  func(msg string) { m.log.Println(msg) },
	})
	hooks.AddHook(hooks.EventLogRotate, m.documents.Reopen)
	return nil
}

// openAll opens all outputs or none.
func openAll(settings []outputSetting, stateDir string) (opened []status.Output, err error) {
	for _, s := range settings {
		out, err := s.open(stateDir)
		if err != nil {
			for _, o := range opened {
				o.Close()
			}
			return nil, config.NodeErr(s.node, "output %s: %v", s, err)
		}
		opened = append(opened, out)
	}
	return opened, nil
}

func (s outputSetting) open(stateDir string) (status.Output, error) {
	switch s.kind {
	case kindFile:
		return status.OpenFile(inStateDir(stateDir, s.path))
	case kindStderr:
		return status.NewStream(s.kind, os.Stderr)
	case kindStdout:
		return status.NewStream(s.kind, os.Stdout)
	case kindSyslog:
		return status.OpenSyslog()
	}
	return nil, fmt.Errorf("cannot open an output of kind %q", s.kind)
}

// inStateDir resolves a relative path as all of maddy's are: from the state
// directory, which is the working directory unless changing to it failed.
func inStateDir(stateDir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(stateDir, path)
}

// Observer is what writes the documents. It is there after Init, and may be
// shared by several targets.
func (m *Module) Observer() delivery.Observer { return m.documents }

// Name is the name of the module, "delivery_log".
func (m *Module) Name() string { return modName }

// InstanceName is the name of the block, empty if it is inline.
func (m *Module) InstanceName() string { return m.instName }

// Close writes what is waiting and closes the outputs.
func (m *Module) Close() error {
	if m.documents == nil {
		return nil
	}
	return m.documents.Close()
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
