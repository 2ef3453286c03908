// Package tlsoverride is the module check.tls_override: it decides, when a
// message is submitted, whether the message's own TLS override counts.
//
// A message asks for its own require_tls and skip_verification in header
// fields. Who may do so is a question about the client, and only the endpoint
// that accepts the message knows the client: the queue keeps header and body,
// but forgets the connection. So the check reads the fields, and hands what it
// accepted to the target as one more header field, the stamp of
// internal/policy: an HMAC binds the override to this message ID.
//
// It fails closed. From an admitted client, fields that cannot be followed are
// refused (554 5.6.0), and so is, for the time being (451 4.3.0), an override
// that cannot be stamped: it must not get lost on the way, as it may be the
// sender's demand for TLS. From everybody else the fields count as absent here;
// the target still honours those that tighten.
package tlsoverride

import (
	"fmt"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

const modName = "check.tls_override"

// source is what the check needs of a tls_policy block.
type source interface {
	Fields() policy.Fields
	OverrideKey() (policy.Key, error)
}

// admission says whose overrides count.
type admission string

const (
	authenticated admission = "authenticated" // clients that logged in
	everybody     admission = "all"           // also messages made on this machine
	nobody        admission = "none"
)

// Check is one check.tls_override block. After Init it is read-only and safe for
// concurrent use.
type Check struct {
	instName   string
	inlineArgs []string
	log        log.Logger
	policy     source
	allow      admission
}

// New makes a check with the defaults; it is the constructor that maddy's module
// registry wants.
func New(_, instName string, _, inlineArgs []string) (module.Module, error) {
	return &Check{
		instName:   instName,
		inlineArgs: inlineArgs,
		log:        log.Logger{Name: modName},
		policy:     tlspolicy.BuiltIn(),
		allow:      authenticated,
	}, nil
}

// Name returns "check.tls_override".
func (c *Check) Name() string { return modName }

// InstanceName returns the name of the block, "" if it is inline.
func (c *Check) InstanceName() string { return c.instName }

// Init reads the configuration block. Every mistake is an error with file, line,
// the wrong word and the choices.
func (c *Check) Init(cfg *config.Map) error {
	if len(c.inlineArgs) != 0 {
		return config.NodeErr(cfg.Block, "tls_override: unexpected %q, expected a block", c.inlineArgs[0])
	}
	seen := make(map[string]config.Node)
	for _, node := range cfg.Block.Children {
		if earlier, ok := seen[node.Name]; ok {
			return config.NodeErr(node, "%s is already set at %s:%d", node.Name, earlier.File, earlier.Line)
		}
		seen[node.Name] = node
		if err := c.directive(cfg, node); err != nil {
			return err
		}
	}
	return nil
}

func (c *Check) directive(cfg *config.Map, node config.Node) error {
	switch node.Name {
	case "policy":
		mod, err := tlspolicy.Directive(cfg, node)
		if err != nil {
			return err
		}
		c.policy = mod.(*tlspolicy.Module)
		return nil
	case "allow":
		allow, err := parseAllow(node)
		if err != nil {
			return config.NodeErr(node, "allow: %v", err)
		}
		c.allow = allow
		return nil
	}
	return config.NodeErr(node, "unexpected directive %q, expected policy or allow", node.Name)
}

func parseAllow(node config.Node) (admission, error) {
	choices := fmt.Sprintf("expected %s, %s or %s", authenticated, everybody, nobody)
	switch {
	case node.Children != nil:
		return "", fmt.Errorf("unexpected block, %s", choices)
	case len(node.Args) == 0:
		return "", fmt.Errorf("nothing given, %s", choices)
	case len(node.Args) > 1:
		return "", fmt.Errorf("unexpected %q after %s", strings.Join(node.Args[1:], " "), node.Args[0])
	}
	switch a := admission(node.Args[0]); a {
	case authenticated, everybody, nobody:
		return a, nil
	}
	return "", fmt.Errorf("unexpected %q, %s", node.Args[0], choices)
}

func init() {
	module.Register(modName, New)
}
