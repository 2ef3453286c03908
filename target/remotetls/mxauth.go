package remotetls

import (
	"strings"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/tlsplan"
)

// mxAuth is the mx_auth block. maddy's own type for it is internal, so it is
// read here, in the same syntax.
type mxAuth struct {
	minTLS tlsplan.Level
}

func mxAuthDirective(_ *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) != 0 {
		return nil, config.NodeErr(node, "mx_auth: %q is not supported yet, expected a block", strings.Join(node.Args, " "))
	}
	if node.Children == nil {
		return nil, config.NodeErr(node, "mx_auth: expected a block")
	}
	var (
		m    mxAuth
		seen = make(map[string]bool)
	)
	for _, child := range node.Children {
		if seen[child.Name] {
			return nil, config.NodeErr(child, "mx_auth: %s is there twice", child.Name)
		}
		seen[child.Name] = true
		switch child.Name {
		case "local_policy":
			var err error
			if m.minTLS, err = localPolicy(child); err != nil {
				return nil, err
			}
		case "dane", "mtasts", "dnssec", "sts_preload":
			return nil, config.NodeErr(child, "mx_auth: %s is not supported yet, expected local_policy", child.Name)
		case "debug":
			// Read as maddy reads it, which makes no use of it either.
			if _, err := boolDirective(nil, child); err != nil {
				return nil, err
			}
		default:
			return nil, config.NodeErr(child, "mx_auth: unexpected %q, expected local_policy", child.Name)
		}
	}
	return m, nil
}

// localPolicy reads the block with maddy's defaults: a block without
// min_tls_level demands encryption, and "off" is what maddy's manual says it is.
func localPolicy(node config.Node) (tlsplan.Level, error) {
	level := string(tlsplan.LevelEncrypted)
	if len(node.Args) == 1 && node.Args[0] == "off" && node.Children == nil {
		return tlsplan.LevelNone, nil
	}
	if len(node.Args) != 0 {
		return "", config.NodeErr(node, "local_policy: unexpected %q, expected a block or off", node.Args[0])
	}
	seen := make(map[string]bool)
	for _, child := range node.Children {
		if seen[child.Name] {
			return "", config.NodeErr(child, "local_policy: %s is there twice", child.Name)
		}
		seen[child.Name] = true
		switch child.Name {
		case "min_tls_level":
			var err error
			level, err = oneOf(child, string(tlsplan.LevelNone), string(tlsplan.LevelEncrypted), string(tlsplan.LevelAuthenticated))
			if err != nil {
				return "", err
			}
		case "min_mx_level":
			mx, err := oneOf(child, "none", "mtasts", "dnssec")
			if err != nil {
				return "", err
			}
			if mx != "none" {
				return "", config.NodeErr(child, "min_mx_level: %s is not supported yet, expected none", mx)
			}
		default:
			return "", config.NodeErr(child, "local_policy: unexpected %q, expected min_tls_level or min_mx_level", child.Name)
		}
	}
	return tlsplan.Level(level), nil
}
