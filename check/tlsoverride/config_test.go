package tlsoverride

import (
	"os"
	"slices"
	"strings"
	"testing"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"
	"github.com/foxcpp/maddy/framework/module"
)

func parse(t *testing.T, text string) []config.Node {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// load makes the check of a text that holds one tls_override directive, the way
// maddy does for a directive in a `check { }` block.
func load(t *testing.T, stateDir, text string) (*Check, error) {
	t.Helper()
	node := parse(t, text)[0]
	globals := map[string]interface{}{"state_dir": stateDir}
	chk, err := modconfig.MessageCheck(globals, append([]string{node.Name}, node.Args...), node)
	if err != nil {
		return nil, err
	}
	return chk.(*Check), nil
}

func mustLoad(t *testing.T, stateDir, text string) *Check {
	t.Helper()
	c, err := load(t, stateDir, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"tls_override", "tls_override {\n}"} {
		c := mustLoad(t, "", text)
		if c.allow != authenticated || c.Name() != "check.tls_override" || c.InstanceName() != "" {
			t.Errorf("%s: %+v", text, c)
		}
		if got := c.policy.Fields().Names()[0]; got != "X-Require-TLS" {
			t.Errorf("%s reads %s", text, got)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"tls_override {\nallow everyone\n}", `maddy.conf:2: allow: unexpected "everyone", expected authenticated, all or none`},
		{"tls_override {\nallow\n}", `maddy.conf:2: allow: nothing given, expected authenticated, all or none`},
		{"tls_override {\nallow all none\n}", `maddy.conf:2: allow: unexpected "none" after all`},
		{"tls_override {\nallow all {\n}\n}", `maddy.conf:2: allow: unexpected block, expected authenticated, all or none`},
		{"tls_override {\nallow all\nallow all\n}", `maddy.conf:3: allow is already set at maddy.conf:2`},
		{"tls_override {\nalow all\n}", `maddy.conf:2: unexpected directive "alow", expected policy or allow`},
		{"tls_override all", `maddy.conf:1: tls_override: unexpected "all", expected a block`},
		{"tls_override {\npolicy\n}", `maddy.conf:2: policy: expected &name or a block`},
		{"tls_override {\npolicy outbound\n}", `maddy.conf:2: policy: unexpected "outbound", expected &name or a block`},
		{"tls_override {\npolicy &outbound\n}", `maddy.conf:2: policy: there is no block named "outbound"`},
		{"tls_override {\npolicy {\n}\npolicy {\n}\n}", `maddy.conf:4: policy is already set at maddy.conf:2`},
		{"tls_override {\npolicy {\nrequire_tls maybe\n}\n}", `maddy.conf:3: require_tls: unexpected "maybe", expected yes or no`},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, "", test.text); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// register enters top-level blocks into maddy's registry, as maddy does at start,
// until the test ends.
func register(t *testing.T, globals map[string]interface{}, nodes []config.Node) {
	t.Helper()
	for _, node := range nodes {
		mod, err := module.Get(node.Name)(node.Name, node.Args[0], node.Args[1:], nil)
		if err != nil {
			t.Fatal(err)
		}
		module.RegisterInstance(mod, config.NewMap(globals, node))
		t.Cleanup(func() { delete(module.Initialized, mod.InstanceName()) })
	}
}

// Not parallel: maddy's registry of instances is not made for it.
func TestNamedUse(t *testing.T) {
	register(t, nil, parse(t, `tls_policy named_policy {
	require_tls_header X-Acme-TLS
}
check.tls_override named_check {
	policy &named_policy
	allow all
}`))
	chk, err := modconfig.MessageCheck(nil, []string{"&named_check"}, config.Node{})
	if err != nil {
		t.Fatal(err)
	}
	c := chk.(*Check)
	if c.allow != everybody || c.InstanceName() != "named_check" || c.policy.Fields().Names()[0] != "X-Acme-TLS" {
		t.Errorf("got %+v", c)
	}
}

// checkGroup stands for the `checks` block of maddy's pipeline, which nobody
// outside maddy can import.
type checkGroup struct{ name string }

func (g *checkGroup) Init(cfg *config.Map) error {
	for _, node := range cfg.Block.Children {
		if _, err := modconfig.MessageCheck(cfg.Globals, append([]string{node.Name}, node.Args...), node); err != nil {
			return err
		}
	}
	return nil
}
func (g *checkGroup) Name() string         { return "checks" }
func (g *checkGroup) InstanceName() string { return g.name }

func init() {
	module.Register("checks", func(_, name string, _, _ []string) (module.Module, error) {
		return &checkGroup{name}, nil
	})
}

// The examples of the manual page load. Not parallel, as above.
func TestManualPage(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```maddyconf\n")[1:]
	if len(parts) == 0 {
		t.Fatal("no examples")
	}
	for _, part := range parts {
		example, _, _ := strings.Cut(part, "```")
		nodes := slices.DeleteFunc(parse(t, example), func(n config.Node) bool {
			return module.Get(n.Name) == nil // endpoints are not for a test of this package
		})
		register(t, nil, nodes)
		for _, node := range nodes {
			if _, err := module.GetInstance(node.Args[0]); err != nil {
				t.Errorf("%v in\n%s", err, example)
			}
		}
	}
}
