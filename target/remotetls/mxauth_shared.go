package remotetls

import (
	"context"
	"crypto/tls"
	"fmt"
	"reflect"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/tlsplan"
)

// sharedMXAuth reads a block of maddy's own that stands at the top of the
// configuration, as `mx_auth NAME { ... }`, so that target.remote and this target
// may share one. maddy has checked it. What it says is not exported: the list of
// policies is taken out by reflection, local_policy by asking it what it would let
// through, and the directory of mtasts by reflection again. Where maddy is built
// otherwise than the one this was written for, that is said at start.
func sharedMXAuth(m *config.Map, node config.Node) (interface{}, error) {
	const expected = "a block or &name"
	if len(node.Args) > 1 {
		return nil, config.NodeErr(node, "mx_auth: unexpected %q after %q, expected %s", node.Args[1], node.Args[0], expected)
	}
	name, ok := strings.CutPrefix(node.Args[0], "&")
	if !ok || name == "" {
		return nil, unexpected(node, node.Args[0], expected)
	}
	if node.Children != nil {
		return nil, config.NodeErr(node, "mx_auth: a block is not allowed after %s", node.Args[0])
	}
	if !module.HasInstance(name) {
		return nil, config.NodeErr(node, "mx_auth: there is no block named %q", name)
	}
	shared, err := module.GetInstance(name)
	if err != nil {
		return nil, placed(node, err)
	}
	if shared.Name() != "mx_auth" {
		return nil, config.NodeErr(node, "mx_auth: %s is a %s block, expected an mx_auth block", node.Args[0], shared.Name())
	}
	a, err := readGroup(m, shared)
	if err != nil {
		return nil, config.NodeErr(node, "mx_auth: %s cannot be read (%v), expected a block in this place", node.Args[0], err)
	}
	return a, nil
}

// readGroup takes a group of policies apart. A panic means that it is built in
// another way.
func readGroup(m *config.Map, group module.Module) (a mxAuth, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = mxAuth{}, fmt.Errorf("this is another maddy: %v", p)
		}
	}()
	policies := reflect.ValueOf(group).Elem().FieldByName("L").Interface().([]module.MXAuthPolicy)
	for _, p := range policies {
		switch kind := p.(module.Module).Name(); kind {
		case "mx_auth.dane":
			a.dane = true
		case "mx_auth.dnssec":
		case "mx_auth.sts_preload":
			a.preload = true
		case "mx_auth.mtasts":
			a.mtasts = &mtastsBlock{port: policiesPort}
			if dir, onDisk := directoryOf(p); onDisk {
				a.mtasts.dir = inStateDir(m, dir)
			}
		case "mx_auth.local_policy":
			a.minTLS, a.minMX = levelsOf(p)
		default:
			return mxAuth{}, fmt.Errorf("it has %s, which is not known here", kind)
		}
	}
	return a, nil
}

// directoryOf is the fs_dir of an mtasts policy, unless that has `cache ram`.
func directoryOf(p module.MXAuthPolicy) (dir string, onDisk bool) {
	store := reflect.ValueOf(p).Elem().FieldByName("cache").Elem().FieldByName("Store").Elem()
	if store.Kind() == reflect.Pointer {
		return "", false // cache ram
	}
	field := store.FieldByName("Dir")
	if field.Kind() != reflect.String { // String would make words of anything
		panic("no directory in " + store.Type().String())
	}
	return field.String(), true
}

// levelsOf asks a local_policy what is the least that it lets through.
func levelsOf(p module.MXAuthPolicy) (minTLS tlsplan.Level, minMX tlsplan.MXLevel) {
	d := p.Start(&module.MsgMetadata{})
	minTLS, minMX = tlsplan.LevelAuthenticated, tlsplan.MXByDNSSEC
	for _, level := range []module.TLSLevel{module.TLSEncrypted, module.TLSNone} {
		if _, err := d.CheckConn(context.Background(), module.MXNone, level, "", "", tls.ConnectionState{}); err == nil {
			minTLS = tlsplan.Level(level.String())
		}
	}
	for _, level := range []module.MXLevel{module.MX_MTASTS, module.MXNone} {
		if _, err := d.CheckMX(context.Background(), level, "", "", false); err == nil {
			minMX = tlsplan.MXLevel(level.String())
		}
	}
	return minTLS, minMX
}
