package remotetls

import (
	"os"
	"slices"

	"github.com/foxcpp/maddy/framework/config"
	tls2 "github.com/foxcpp/maddy/framework/config/tls"
)

// protocols are the TLS versions that maddy's configuration knows, lowest first.
var protocols = []string{"tls1.0", "tls1.1", "tls1.2", "tls1.3"}

// tlsClientDirective reads the block with maddy's own function, after refusing
// what that one passes over: words before the block, a certificate without its
// key, versions in the wrong order.
func tlsClientDirective(m *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) != 0 {
		return nil, unexpected(node, node.Args[0], "a block")
	}
	if node.Children == nil {
		return nil, config.NodeErr(node, "%s: expected a block", node.Name)
	}
	seen, err := checkChildren(node, []string{"root_ca", "cert", "key", "protocols", "ciphers", "curves"})
	if err != nil {
		return nil, err
	}
	for _, child := range node.Children {
		if err := checkTLSDirective(child); err != nil {
			return nil, err
		}
	}
	for _, pair := range [][2]string{{"cert", "key"}, {"key", "cert"}} {
		one, ok := seen[pair[0]]
		if _, other := seen[pair[1]]; ok && !other {
			return nil, config.NodeErr(one, "%s: expected %s as well", pair[0], pair[1])
		}
	}
	cfg, err := tls2.TLSClientBlock(m, node)
	if err != nil {
		return nil, placed(node, err)
	}
	return cfg, nil
}

func checkTLSDirective(node config.Node) error {
	switch node.Name {
	case "cert", "key":
		path, err := oneArg(node, "a file")
		if err != nil {
			return err
		}
		return readable(node, path)
	case "root_ca":
		paths, err := words(node, "at least one file")
		if err != nil {
			return err
		}
		return readable(node, paths...)
	case "protocols":
		return checkProtocols(node)
	}
	_, err := words(node, "at least one name")
	return err
}

// readable makes sure that an error about a file stands in the line that names it.
func readable(node config.Node, paths ...string) error {
	for _, path := range paths {
		if _, err := readFile(node, path); err != nil {
			return err
		}
	}
	return nil
}

func readFile(node config.Node, path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, config.NodeErr(node, "%s: %v", node.Name, err)
	}
	return content, nil
}

func checkProtocols(node config.Node) error {
	const expected = "the lowest and the highest of tls1.0, tls1.1, tls1.2, tls1.3, or one of them"
	args, err := words(node, expected)
	if err != nil {
		return err
	}
	if len(args) > 2 {
		return unexpected(node, args[2], expected)
	}
	for _, arg := range args {
		if !slices.Contains(protocols, arg) {
			return unexpected(node, arg, expected)
		}
	}
	if len(args) == 2 && args[0] > args[1] {
		return unexpected(node, args[0]+" "+args[1], expected)
	}
	return nil
}
