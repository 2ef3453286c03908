package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/foxcpp/maddy"
	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"
)

// cfgBlockFlag returns --cfg-block, which names the block of the configuration that a command works on.
func cfgBlockFlag(def string) cli.Flag {
	return &cli.StringFlag{
		Name:    "cfg-block",
		Usage:   "Module configuration block to use",
		EnvVars: []string{"MADDY_CFGBLOCK"},
		Value:   def,
	}
}

// withBlock opens the block that --cfg-block names, hands it to use and closes it. Of the configuration only this
// block, and what it refers to, is initialised; the rest is merely registered, which opens nothing. T is the
// interface that the block has to have; kind is what an operator calls such a block.
//
// Modules have a process-wide registry, so this works once in a process.
func withBlock[T any](c *cli.Context, kind string, use func(T) error) error {
	name := c.String("cfg-block")
	if name == "" {
		return usageError(c, "--cfg-block is empty")
	}
	// maddy adds a hook for each module it initialises that has something to close.
	defer hooks.RunHooks(hooks.EventShutdown)

	cfg, err := register(c)
	if err != nil {
		return explain(err)
	}
	blocks := cfg.blocks
	i := slices.IndexFunc(blocks, func(b maddy.ModInfo) bool { return slices.Contains(blockNames(b), name) })
	if i < 0 {
		return withHint(fmt.Errorf("the configuration has no block %q", name), "%s", fitting[T](blocks, kind))
	}
	if _, ok := blocks[i].Instance.(T); !ok {
		err := fmt.Errorf("block %q (%s) is not %s", name, blocks[i].Cfg.Name, kind)
		return withHint(err, "%s", fitting[T](blocks, kind))
	}
	instance, err := module.GetInstance(name)
	if err != nil {
		return explain(fmt.Errorf("cannot open block %q: %w", name, err))
	}
	return explain(use(instance.(T)))
}

// configuration is one that was read, none of its blocks and endpoints initialised.
type configuration struct {
	globals   map[string]interface{}
	endpoints []maddy.ModInfo
	blocks    []maddy.ModInfo
}

// register reads the configuration. Tables that are missing are made when they are opened.
func register(c *cli.Context) (configuration, error) {
	nodes, err := readConfig(c)
	if err != nil {
		return configuration{}, err
	}
	return registerNodes(nodes, maddy.InitDirs)
}

// registerAsItIs is register where a table that is missing is an error, and enter makes the state directory the working
// directory.
func registerAsItIs(c *cli.Context, enter func() error) (configuration, error) {
	nodes, err := readConfig(c)
	if err != nil {
		return configuration{}, err
	}
	return registerNodes(openTablesAsTheyAre(nodes), enter)
}

func registerNodes(nodes []config.Node, enter func() error) (configuration, error) {
	module.NoRun = true
	globals, nodes, err := maddy.ReadGlobals(nodes)
	if err != nil {
		return configuration{}, err
	}
	if err := enter(); err != nil {
		return configuration{}, err
	}
	endpoints, blocks, err := maddy.RegisterModules(globals, nodes)
	return configuration{globals, endpoints, blocks}, err
}

// readConfig reads the configuration file, without the directives that would open things of the running server
// which no command needs: its log files (a missing one would be created, belonging to whoever runs the command) and
// its certificates and keys.
func readConfig(c *cli.Context) ([]config.Node, error) {
	path := c.Path("config")
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(fmt.Errorf("there is no configuration file %q", path),
			"name it with \"maddy --config FILE %s\" or in MADDY_CONFIG", strings.TrimPrefix(c.Command.HelpName, "maddy "))
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	nodes, err := parser.Read(file, path)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(nodes, func(n config.Node) bool { return n.Name == "log" || n.Name == "tls" }), nil
}

// blockNames returns the names by which a block can be referred to.
func blockNames(b maddy.ModInfo) []string {
	if len(b.Cfg.Args) == 0 {
		return []string{b.Instance.InstanceName()}
	}
	return b.Cfg.Args
}

// fitting says which blocks could have been named instead.
func fitting[T any](blocks []maddy.ModInfo, kind string) string {
	var names []string
	for _, b := range blocks {
		if _, ok := b.Instance.(T); ok {
			names = append(names, b.Instance.InstanceName())
		}
	}
	if len(names) == 0 {
		return "no block of the configuration is " + kind
	}
	return "use --cfg-block with one of: " + strings.Join(names, ", ")
}
