package eventstore

import (
	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/module/blocks"
)

// Directive reads a directive that names a store, for config.Map.Custom: either
//
//	event_store &name
//	event_store { ... }
//
// where the braces hold what an event_store block holds. It returns a *Module.
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
