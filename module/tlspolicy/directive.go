package tlspolicy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"

	"tlscontrol/module/blocks"
)

// Directive reads a directive that names a policy, for config.Map.Custom: either
//
//	policy &name
//	policy { ... }
//
// where the braces hold what a tls_policy block holds. It returns a *Module.
// Every error carries file and line.
func Directive(m *config.Map, node config.Node) (interface{}, error) {
	mod, err := blocks.Find(m, node, modName, func(block *config.Map) (*Module, error) {
		mod := newModule("")
		if err := mod.Init(block); err != nil {
			return nil, err
		}
		hooks.AddHook(hooks.EventShutdown, func() { _ = mod.Close() }) // it has no error
		return mod, nil
	})
	if err != nil {
		return nil, placed(node, err)
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
