package remotetls

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsplan"
)

// readMXAuth reads the lines of an mx_auth block.
func readMXAuth(t *testing.T, lines string) mxAuth {
	t.Helper()
	m := config.NewMap(map[string]interface{}{"state_dir": "/state"}, config.Node{})
	a, err := mxAuthDirective(m, nodes(t, "mx_auth {\n"+lines+"\n}")[0])
	if err != nil {
		t.Fatal(err)
	}
	return a.(mxAuth)
}

func TestMXAuth(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(t.TempDir(), "ca.pem")
	if err := ca.WriteFile(pem); err != nil {
		t.Fatal(err)
	}
	fs := func(dir string) *mtastsBlock { return &mtastsBlock{dir: dir, port: 443} }
	for lines, want := range map[string]mxAuth{
		"":                             {},
		"dane":                         {dane: true},
		"dane { }":                     {dane: true},
		"dane {\ndebug\n}\ndebug no":   {dane: true},
		"dnssec":                       {},
		"dnssec { }":                   {},
		"sts_preload":                  {preload: true},
		"sts_preload {\nsource eff\n}": {preload: true},
		"mtasts":                       {mtasts: fs("/state/mtasts_cache")},
		"mtasts {\ncache fs\n}":        {mtasts: fs("/state/mtasts_cache")},
		"mtasts {\nfs_dir policies\n}": {mtasts: fs("/state/policies")},
		"mtasts {\nfs_dir /var/x\n}":   {mtasts: fs("/var/x")},
		"mtasts {\ncache ram\n}":       {mtasts: fs("")},
		"mtasts {\nport 8443\nallow_private\n}": {mtasts: &mtastsBlock{
			dir: "/state/mtasts_cache", port: 8443, allowPrivate: true}},
		"local_policy":     {minTLS: tlsplan.LevelEncrypted, minMX: tlsplan.MXUnproven},
		"local_policy off": {minTLS: tlsplan.LevelNone, minMX: tlsplan.MXUnproven},
		"dane\nmtasts\nlocal_policy {\nmin_tls_level authenticated\nmin_mx_level mtasts\n}": {
			dane: true, mtasts: fs("/state/mtasts_cache"), minTLS: tlsplan.LevelAuthenticated, minMX: tlsplan.MXByMTASTS},
		"local_policy {\nmin_mx_level dnssec\n}": {minTLS: tlsplan.LevelEncrypted, minMX: tlsplan.MXByDNSSEC},
	} {
		wantMXAuth(t, lines, readMXAuth(t, lines), want)
	}
	if b := readMXAuth(t, "mtasts {\nroot_ca "+pem+"\n}").mtasts; !b.roots.Equal(ca.Pool()) {
		t.Error("the root is not there")
	}
}

func wantMXAuth(t *testing.T, name string, got, want mxAuth) {
	t.Helper()
	if !reflect.DeepEqual(got.mtasts, want.mtasts) {
		t.Errorf("%q: mtasts %+v, want %+v", name, got.mtasts, want.mtasts)
	}
	got.mtasts, want.mtasts = nil, nil
	if got != want {
		t.Errorf("%q: %+v, want %+v", name, got, want)
	}
}

// TestSharedMXAuth: blocks of maddy's own are read as they are meant. It is not
// parallel: the blocks of a configuration are global in maddy.
func TestSharedMXAuth(t *testing.T) {
	dir := t.TempDir()
	share := func(name, lines string) {
		group, err := module.Get("mx_auth")("mx_auth", name, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		module.RegisterInstance(group, config.NewMap(nil, nodes(t, "mx_auth "+name+" {\n"+lines+"\n}")[0]))
	}
	i := 0
	for lines, want := range map[string]mxAuth{
		"":                       {},
		"dane\ndnssec":           {dane: true},
		"mtasts {\ncache ram\n}": {mtasts: &mtastsBlock{port: 443}},
		"mtasts {\nfs_dir " + dir + "\n}\nsts_preload": {mtasts: &mtastsBlock{dir: dir, port: 443}, preload: true},
		"local_policy": {minTLS: tlsplan.LevelEncrypted, minMX: tlsplan.MXUnproven},
		"local_policy {\nmin_tls_level none\n}\ndane":                               {dane: true, minTLS: tlsplan.LevelNone, minMX: tlsplan.MXUnproven},
		"local_policy {\nmin_tls_level authenticated\nmin_mx_level mtasts\n}":       {minTLS: tlsplan.LevelAuthenticated, minMX: tlsplan.MXByMTASTS},
		"local_policy {\nmin_tls_level encrypted\nmin_mx_level dnssec\n}\ndebug no": {minTLS: tlsplan.LevelEncrypted, minMX: tlsplan.MXByDNSSEC},
	} {
		i++
		name := "shared_mx_auth_" + string(rune('a'+i))
		share(name, lines)
		got, err := mxAuthDirective(config.NewMap(nil, config.Node{}), nodes(t, "mx_auth &"+name)[0])
		if err != nil {
			t.Fatalf("%q: %v", lines, err)
		}
		wantMXAuth(t, lines, got.(mxAuth), want)
	}

	share("shared_mx_auth_bad", "dkim")
	limits, err := module.Get("limits")("limits", "shared_mx_auth_limits", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	module.RegisterInstance(limits, config.NewMap(nil, nodes(t, "limits shared_mx_auth_limits {\n}")[0]))
	for arg, want := range map[string]string{
		"&shared_mx_auth_bad":    `maddy.conf:1: mx_auth: unknown module: dkim (namespace: mx_auth)`,
		"&shared_mx_auth_limits": `maddy.conf:1: mx_auth: &shared_mx_auth_limits is a limits block, expected an mx_auth block`,
	} {
		if _, err := mxAuthDirective(config.NewMap(nil, config.Node{}), nodes(t, "mx_auth "+arg)[0]); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", arg, err, want)
		}
	}
	if _, err := readGroup(config.NewMap(nil, config.Node{}), limits); err == nil || !strings.Contains(err.Error(), "another maddy") {
		t.Errorf("a group that is built otherwise: %v", err)
	}
}

// otherGroup and otherMTASTS are those of a maddy that keeps policies elsewhere.
type otherGroup struct {
	module.Module
	L []module.MXAuthPolicy
}

type otherMTASTS struct {
	module.MXAuthPolicy
	module.Module
	cache *struct{ Store any }
}

func (otherMTASTS) Name() string { return "mx_auth.mtasts" }

// TestAnotherMaddy: what cannot be found is said, and never guessed.
func TestAnotherMaddy(t *testing.T) {
	t.Parallel()
	for _, store := range []any{struct{ Path string }{"x"}, struct{ Dir []string }{}, nil} {
		group := &otherGroup{L: []module.MXAuthPolicy{&otherMTASTS{cache: &struct{ Store any }{store}}}}
		a, err := readGroup(config.NewMap(nil, config.Node{}), group)
		if err == nil || !strings.Contains(err.Error(), "another maddy") {
			t.Errorf("%T: %+v, %v", store, a.mtasts, err)
		}
	}
}

// TestNotices: what has no effect is said.
func TestNotices(t *testing.T) {
	t.Parallel()
	for lines, want := range map[string]string{
		"mx_auth {\nsts_preload\n}\n":                             "sts_preload has no effect",
		"mx_auth {\ndane\n}\nresolver 192.0.2.1":                  "dane has no effect",
		"mx_auth {\ndane\n}\nresolver 192.0.2.1 127.0.0.1":        "",
		"mx_auth {\nlocal_policy\ndnssec\n}\nresolver 192.0.2.1 ": "",
	} {
		var book logBook
		block := nodes(t, "target.remote_tls outbound {\nhostname relay.example.com\n"+quiet+lines+"\n}\n")[0]
		cfg, _, err := parse(config.NewMap(nil, block), "outbound", &log.Logger{Name: name, Out: &book})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Routes.Close()
		if got := book.text(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: logged %q, want %q", lines, got, want)
		}
		if cfg.DANE != strings.Contains(lines, "127.0.0.1") {
			t.Errorf("%q: DANE %v", lines, cfg.DANE)
		}
	}
}
