package remotetls

import (
	"crypto/x509"
	"path/filepath"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// mxAuth is the mx_auth block: which of the things that recipients publish count,
// and what the operator demands besides. maddy's own type for it is internal, so
// it is read here, in the same syntax. As with target.remote, nothing counts that
// is not named, and without the block nothing does.
type mxAuth struct {
	dane   bool
	mtasts *mtastsBlock // nil: not named
	minTLS tlsplan.Level
	minMX  tlsplan.MXLevel

	preload bool // sts_preload is there
}

// mtastsBlock is the mtasts block in it.
type mtastsBlock struct {
	dir          string         // where policies are kept; "" in memory only
	roots        *x509.CertPool // of policy hosts; nil: the system's
	rootFiles    []string       // where the roots come from
	port         int            // of policy hosts
	allowPrivate bool           // policy hosts may have addresses that are not public
}

// policiesDir is the default of fs_dir, and policiesPort that of port.
const (
	policiesDir  = "mtasts_cache"
	policiesPort = 443
)

// mxAuthNames are the directives of the block; those before debug are what maddy
// calls policies.
var mxAuthNames = []string{"dane", "dnssec", "mtasts", "local_policy", "sts_preload", "debug"}

func mxAuthDirective(m *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) != 0 {
		return sharedMXAuth(m, node)
	}
	if node.Children == nil {
		return nil, config.NodeErr(node, "mx_auth: expected a block or &name")
	}
	if _, err := checkChildren(node, mxAuthNames); err != nil {
		return nil, err
	}
	var a mxAuth
	for _, child := range node.Children {
		if err := a.read(m, child); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// read takes one directive of the block.
func (a *mxAuth) read(m *config.Map, node config.Node) (err error) {
	switch node.Name {
	case "dane":
		// Its debug is read as maddy reads it; there is nothing to say.
		a.dane = true
		_, err = onOff(node, "debug")
	case "dnssec":
		// Whether MX records are signed is always looked at.
		_, err = onOff(node)
	case "mtasts":
		a.mtasts, err = readMTASTS(m, node)
	case "local_policy":
		err = a.readLocalPolicy(node)
	case "sts_preload":
		a.preload = true
		_, err = blockOf(node, "source", "enforce_testing")
	case "debug":
		_, err = boolDirective(nil, node)
	}
	return err
}

// blockOf returns the directives of a node that has a block or nothing.
func blockOf(node config.Node, names ...string) (map[string]config.Node, error) {
	if len(node.Args) != 0 {
		expected := "a block or nothing"
		if len(names) == 0 {
			expected = "nothing"
		}
		return nil, unexpected(node, node.Args[0], expected)
	}
	if len(names) == 0 && len(node.Children) != 0 {
		return nil, config.NodeErr(node.Children[0], "%s: unexpected %q, expected an empty block", node.Name, node.Children[0].Name)
	}
	return checkChildren(node, names)
}

// onOff reads a node whose block holds only directives that are yes or no.
func onOff(node config.Node, names ...string) (map[string]bool, error) {
	children, err := blockOf(node, names...)
	if err != nil {
		return nil, err
	}
	values := make(map[string]bool)
	for name, child := range children {
		value, err := boolDirective(nil, child)
		if err != nil {
			return nil, err
		}
		values[name] = value.(bool)
	}
	return values, nil
}

// readMTASTS reads the block with maddy's defaults; root_ca, port and
// allow_private are ours.
func readMTASTS(m *config.Map, node config.Node) (*mtastsBlock, error) {
	children, err := blockOf(node, "cache", "fs_dir", "root_ca", "port", "allow_private")
	if err != nil {
		return nil, err
	}
	b := &mtastsBlock{dir: policiesDir, port: policiesPort}
	if child, ok := children["fs_dir"]; ok {
		if b.dir, err = oneArg(child, "a directory"); err != nil {
			return nil, err
		}
		if b.dir == "" {
			return nil, unexpected(child, b.dir, "a directory")
		}
	}
	b.dir = inStateDir(m, b.dir)
	if child, ok := children["cache"]; ok {
		kind, err := oneOf(child, "ram", "fs")
		if err != nil {
			return nil, err
		}
		if kind == "ram" {
			if dir, ok := children["fs_dir"]; ok {
				return nil, config.NodeErr(dir, "fs_dir: unexpected with cache ram, expected cache fs")
			}
			b.dir = ""
		}
	}
	if child, ok := children["root_ca"]; ok {
		if b.roots, err = rootCAs(child); err != nil {
			return nil, err
		}
		b.rootFiles = child.Args
	}
	if child, ok := children["port"]; ok {
		port, err := intDirective(1, 65535)(m, child)
		if err != nil {
			return nil, err
		}
		b.port = port.(int)
	}
	if child, ok := children["allow_private"]; ok {
		allow, err := boolDirective(m, child)
		if err != nil {
			return nil, err
		}
		b.allowPrivate = allow.(bool)
	}
	return b, nil
}

// inStateDir makes a path that is not absolute one below the state directory,
// which is where maddy works.
func inStateDir(m *config.Map, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	dir, _ := m.Globals["state_dir"].(string)
	if dir == "" {
		dir = config.StateDirectory
	}
	return filepath.Join(dir, path)
}

// rootCAs reads trust anchors from files.
func rootCAs(node config.Node) (*x509.CertPool, error) {
	paths, err := words(node, "at least one file")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, path := range paths {
		pem, err := readFile(node, path)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, config.NodeErr(node, "%s: there is no certificate in %s", node.Name, path)
		}
	}
	return pool, nil
}

// readLocalPolicy reads the block with maddy's defaults: a block without
// min_tls_level demands encryption, and "off" is what maddy's manual says it is.
func (a *mxAuth) readLocalPolicy(node config.Node) error {
	a.minTLS, a.minMX = tlsplan.LevelEncrypted, tlsplan.MXUnproven
	if len(node.Args) == 1 && node.Args[0] == "off" && node.Children == nil {
		a.minTLS = tlsplan.LevelNone
		return nil
	}
	if len(node.Args) != 0 {
		return config.NodeErr(node, "local_policy: unexpected %q, expected a block or off", strings.Join(node.Args, " "))
	}
	children, err := blockOf(node, "min_tls_level", "min_mx_level")
	if err != nil {
		return err
	}
	if child, ok := children["min_tls_level"]; ok {
		level, err := oneOf(child, string(tlsplan.LevelNone), string(tlsplan.LevelEncrypted), string(tlsplan.LevelAuthenticated))
		if err != nil {
			return err
		}
		a.minTLS = tlsplan.Level(level)
	}
	if child, ok := children["min_mx_level"]; ok {
		level, err := oneOf(child, string(tlsplan.MXUnproven), string(tlsplan.MXByMTASTS), string(tlsplan.MXByDNSSEC))
		if err != nil {
			return err
		}
		a.minMX = tlsplan.MXLevel(level)
	}
	return nil
}

// notices logs what has no effect, so that nobody relies on it.
func (a *mxAuth) notices(r *route.Resolver, logger log.Logger) {
	if a.preload {
		logger.Msg("sts_preload has no effect: the list is not maintained any more")
	}
	if a.dane && !r.Validates() {
		logger.Msg("dane has no effect: no resolver is on a loopback address, so none is believed that an answer was authenticated")
	}
}
