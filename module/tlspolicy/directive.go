package tlspolicy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
)

// Directive reads a directive that names a policy, for config.Map.Custom: either
//
//	policy &name
//	policy { ... }
//
// where the braces hold what a tls_policy block holds. It returns a *Module.
// Every error carries file and line.
func Directive(m *config.Map, node config.Node) (interface{}, error) {
	mod, err := fromNode(m, node)
	if err != nil {
		return nil, placed(node, err)
	}
	return mod, nil
}

func fromNode(m *config.Map, node config.Node) (*Module, error) {
	switch {
	case len(node.Args) > 1:
		return nil, fmt.Errorf("%s: unexpected %q, expected &name or a block", node.Name, node.Args[1])
	case len(node.Args) == 0 && node.Children == nil:
		return nil, fmt.Errorf("%s: expected &name or a block", node.Name)
	case len(node.Args) == 0:
		mod := newModule("")
		return mod, mod.Init(config.NewMap(m.Globals, node))
	}
	name, ok := strings.CutPrefix(node.Args[0], "&")
	if !ok || name == "" {
		return nil, fmt.Errorf("%s: unexpected %q, expected &name or a block", node.Name, node.Args[0])
	}
	if err := noBlock(node); err != nil {
		return nil, fmt.Errorf("%w after %s", err, node.Args[0])
	}
	found, err := module.GetInstance(name)
	if err != nil {
		return nil, within(node, err)
	}
	mod, ok := found.(*Module)
	if !ok {
		return nil, fmt.Errorf("%s: %s is a %s block, expected a %s block",
			node.Name, node.Args[0], found.Name(), modName)
	}
	return mod, nil
}

// placedError is an error whose text begins with file and line.
type placedError struct{ error }

func (e placedError) Unwrap() error { return e.error }

// placed puts file and line of the node before an error that has no place yet.
func placed(node config.Node, err error) error {
	if hasPlace(node, err) {
		return err
	}
	return placedError{config.NodeErr(node, "%v", err)}
}

// within puts the name of the directive before an error that has no place yet.
func within(node config.Node, err error) error {
	if hasPlace(node, err) {
		return err
	}
	return fmt.Errorf("%s: %w", node.Name, err)
}

// hasPlace reports whether an error says where the mistake is. Those of maddy's
// helpers are plain, their text is all there is to tell by.
func hasPlace(node config.Node, err error) bool {
	var p placedError
	return errors.As(err, &p) || node.File != "" && strings.HasPrefix(err.Error(), node.File+":")
}
