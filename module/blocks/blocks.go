// Package blocks reads what the configuration blocks of this project have in
// common: a directive that names another block or holds it inline, and lists of
// header fields.
package blocks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
)

// Find reads a directive that stands for a block of the given kind: either
//
//	directive &name
//	directive { ... }
//
// inline makes a block of what the braces hold. Every error carries file and line,
// those of the named block's own Init included.
func Find[M module.Module](m *config.Map, node config.Node, kind string, inline func(*config.Map) (M, error)) (found M, err error) {
	switch {
	case len(node.Args) > 1:
		return found, config.NodeErr(node, "%s: unexpected %q, expected &name or a block", node.Name, node.Args[1])
	case len(node.Args) == 1:
		return named[M](node, kind)
	case node.Children == nil:
		return found, config.NodeErr(node, "%s: expected &name or a block", node.Name)
	}
	return inline(config.NewMap(m.Globals, node))
}

// named finds the block that the directive names.
func named[M module.Module](node config.Node, kind string) (none M, err error) {
	name, ok := strings.CutPrefix(node.Args[0], "&")
	if !ok || name == "" {
		return none, config.NodeErr(node, "%s: unexpected %q, expected &name or a block", node.Name, node.Args[0])
	}
	if node.Children != nil {
		return none, config.NodeErr(node, "%s: a block is not allowed after %s", node.Name, node.Args[0])
	}
	if !module.HasInstance(name) {
		return none, config.NodeErr(node, "%s: there is no block named %q", node.Name, name)
	}
	found, err := module.GetInstance(name)
	if err != nil {
		return none, err // of the block's own Init, which names the place
	}
	mod, ok := found.(M)
	if !ok {
		return none, config.NodeErr(node, "%s: %s is a block of %s, expected one of %s",
			node.Name, node.Args[0], found.Name(), kind)
	}
	return mod, nil
}

// maxHeaders and maxHeaderName bound what every document carries.
const (
	maxHeaders    = 32
	maxHeaderName = 64
)

// HeaderNames reads the arguments of a `headers` directive and returns the names in
// lower case.
func HeaderNames(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, errors.New("headers: expected at least one field name")
	}
	if len(args) > maxHeaders {
		return nil, fmt.Errorf("headers: %d field names, expected at most %d", len(args), maxHeaders)
	}
	var names []string
	for _, arg := range args {
		if !validFieldName(arg) {
			return nil, fmt.Errorf("headers: %q is not the name of a header field", arg)
		}
		name := strings.ToLower(arg)
		if slices.Contains(names, name) {
			return nil, fmt.Errorf("headers: %q stands here twice", arg)
		}
		names = append(names, name)
	}
	return names, nil
}

// validFieldName allows what RFC 5322, section 2.2, does: printable US-ASCII
// without the colon.
func validFieldName(s string) bool {
	if s == "" || len(s) > maxHeaderName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}
