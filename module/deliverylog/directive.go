package deliverylog

import (
	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/module/blocks"
)

// Directive reads a directive that names a log, for config.Map.Custom: either
//
//	delivery_log &name
//	delivery_log { ... }
//
// where the braces hold what a delivery_log block holds. It returns a *Module.
// Every error carries file and line.
func Directive(m *config.Map, node config.Node) (interface{}, error) {
	return blocks.Find(m, node, modName, func(block *config.Map) (*Module, error) {
		mod := newModule("")
		if err := mod.Init(block); err != nil {
			return nil, err
		}
		closeAtShutdown(mod)
		return mod, nil
	})
}
