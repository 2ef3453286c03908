package eventstore

import (
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
)

// Directive reads a directive that names a store, for config.Map.Custom: either
//
//	event_store &name
//	event_store { ... }
//
// where the braces hold what an event_store block holds. It returns a *Module.
// Every error carries file and line.
func Directive(m *config.Map, node config.Node) (interface{}, error) {
	switch {
	case len(node.Args) > 1:
		return nil, config.NodeErr(node, "%s: unexpected %q, expected &name or a block", node.Name, node.Args[1])
	case len(node.Args) == 1:
		return reference(node)
	case node.Children == nil:
		return nil, config.NodeErr(node, "%s: expected &name or a block", node.Name)
	}
	mod := newModule("")
	if err := mod.Init(config.NewMap(m.Globals, node)); err != nil {
		return nil, err
	}
	closeAtShutdown(mod)
	return mod, nil
}

// reference finds the block that the directive names.
func reference(node config.Node) (*Module, error) {
	name, ok := strings.CutPrefix(node.Args[0], "&")
	if !ok || name == "" {
		return nil, config.NodeErr(node, "%s: unexpected %q, expected &name or a block", node.Name, node.Args[0])
	}
	if node.Children != nil {
		return nil, config.NodeErr(node, "%s: a block is not allowed after %s", node.Name, node.Args[0])
	}
	if !module.HasInstance(name) {
		return nil, config.NodeErr(node, "%s: there is no block named %q", node.Name, name)
	}
	found, err := module.GetInstance(name)
	if err != nil {
		return nil, err // of the block's own Init, which names the place
	}
	mod, ok := found.(*Module)
	if !ok {
		return nil, config.NodeErr(node, "%s: %s is a %s block, expected a %s block",
			node.Name, node.Args[0], found.Name(), modName)
	}
	return mod, nil
}
