package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"

	"tlscontrol/internal/apikey"
	"tlscontrol/internal/table"
)

// keyCommand returns "maddy tls key".
func keyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "Keys of the HTTP API",
		Description: `These commands make, list and revoke the keys with which clients log in to the HTTP
API. They are kept, hashed, in the table that the "keys" directive of the http_api
block names. A running server follows a change from the next request on.`,
		Subcommands: []*cli.Command{
			{
				Name:  "create",
				Usage: "Make a key and print it",
				Description: `The key is printed once and cannot be shown again. Without --domain it opens the
whole API. With --domain it sends mail of that domain, and nothing else. With
"--domain DOMAIN --role reading" it also shows what became of mail of that domain,
and its settings, and logs in to the page for people, which shows no other domain.
Only a key without a domain changes settings.`,
				Flags: []cli.Flag{
					tableFlag(),
					&cli.StringFlag{Name: "domain", Usage: "Open nothing but what belongs to `DOMAIN`"},
					&cli.StringFlag{Name: "role", Usage: "What it is for: `ROLE` is sending or reading with --domain (sending if absent), else full"},
					&cli.StringFlag{Name: "comment", Usage: "Say in `TEXT` who has it"},
					jsonFlag("Print the key as a JSON object"),
				},
				Action: keyCreate,
			},
			{
				Name:        "list",
				Usage:       "List the keys, without what makes them work",
				Description: "Prints ID, time, domain (or * for all), role and comment of each.",
				Flags:       []cli.Flag{tableFlag(), jsonFlag("Print a JSON object a line"), quietFlag()},
				Action:      keyList,
			},
			{
				Name:        "revoke",
				Usage:       "Remove a key",
				Description: "The ID is what stands between the first and the second hyphen of a key.",
				ArgsUsage:   "ID",
				Flags:       []cli.Flag{tableFlag()},
				Action:      keyRevoke,
			},
		},
	}
}

// tableFlag returns --table, which names the table of the keys.
func tableFlag() cli.Flag {
	return &cli.StringFlag{Name: "table", Usage: "Use the table block `NAME` instead of the one that http_api uses"}
}

// shownKey is a key as --json shows it.
type shownKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Domain  string    `json:"domain,omitempty"`
	Role    string    `json:"role"`
	Comment string    `json:"comment,omitempty"`
	Key     string    `json:"key,omitempty"` // the whole word, for who makes one
}

func showKey(key apikey.Key) shownKey {
	return shownKey{ID: key.ID, Created: key.Created, Domain: key.Domain, Role: string(key.Role), Comment: key.Comment}
}

func keyCreate(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if c.IsSet("domain") && c.String("domain") == "" {
		// A script whose variable is empty must not get a key to everything.
		return usageError(c, "--domain is empty")
	}
	if c.IsSet("role") && c.String("role") == "" {
		return usageError(c, "--role is empty, expected sending, reading or full")
	}
	// The first key may be made before the server first starts, which would make the table.
	return withKeys(c, register, func(keys *apikey.Store, cfg configuration) error {
		secret, key, err := keys.Create(c.Context, c.String("domain"), apikey.Role(c.String("role")), c.String("comment"))
		if invalid := (*apikey.InvalidError)(nil); errors.As(err, &invalid) {
			return usageError(c, "%w", err)
		}
		if err != nil {
			return err
		}
		if c.Bool("json") {
			shown := showKey(key)
			shown.Key = secret
			err = printJSON(c, shown)
		} else {
			_, err = fmt.Fprintln(c.App.Writer, secret)
		}
		if err != nil {
			// Nobody has seen it, nobody will.
			return errors.Join(err, keys.Revoke(c.Context, key.ID))
		}
		if key.Domain != "" {
			warnOfDomain(c, key.Domain, cfg.endpoints)
		}
		return nil
	})
}

func keyList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withKeys(c, keysAsTheyAre, func(keys *apikey.Store, _ configuration) error {
		list, broken := keys.List(c.Context)
		if row := (*apikey.RowError)(nil); broken != nil && !errors.As(broken, &row) {
			return broken
		}
		if len(list) == 0 && broken == nil && !c.Bool("quiet") && !c.Bool("json") {
			fmt.Fprintln(c.App.ErrWriter, "No keys.")
		}
		if err := printKeys(c, list); err != nil {
			return err
		}
		if broken != nil {
			return withHint(broken, "nobody can log in with such a key; remove it with \"maddy tls key revoke ID\"")
		}
		return nil
	})
}

func printKeys(c *cli.Context, list []apikey.Key) error {
	if c.Bool("json") {
		for _, key := range list {
			if err := printJSON(c, showKey(key)); err != nil {
				return err
			}
		}
		return nil
	}
	return aligned(c, func(w io.Writer) {
		for _, key := range list {
			domain := key.Domain
			if domain == "" {
				domain = "*"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", key.ID, key.Created.Format(time.RFC3339), oneLine(domain), key.Role, oneLine(key.Comment))
		}
	})
}

func keyRevoke(c *cli.Context) error {
	id, err := oneArgument(c, "ID")
	if err != nil {
		return err
	}
	if strings.HasPrefix(id, "key-") {
		return usageError(c, "that is a whole key, expected its ID: what stands between the first and the second hyphen")
	}
	return withKeys(c, keysAsTheyAre, func(keys *apikey.Store, _ configuration) error {
		err := keys.Revoke(c.Context, id)
		if errors.Is(err, apikey.ErrUnknown) {
			return withHint(fmt.Errorf("there is no key %q", id), "\"maddy tls key list\" shows all keys")
		}
		return err
	})
}

// keysAsTheyAre reads the configuration for who makes no table of keys.
func keysAsTheyAre(c *cli.Context) (configuration, error) { return registerAsItIs(c, maddy.InitDirs) }

// withKeys opens the table of the keys and hands them to use. Of the
// configuration, which read reads, only this table is initialised.
func withKeys(c *cli.Context, read func(*cli.Context) (configuration, error), use func(*apikey.Store, configuration) error) error {
	defer hooks.RunHooks(hooks.EventShutdown)
	cfg, err := read(c)
	if err != nil {
		return explain(err)
	}
	t, err := keysTable(cfg, strings.TrimPrefix(c.String("table"), "&"))
	if err != nil {
		return explain(err)
	}
	err = use(apikey.New(t), cfg)
	if errors.Is(err, table.ErrReadOnly) {
		return withHint(err, "use a table like: keys sql_table { driver sqlite3; dsn api_keys.db; table_name api_keys }")
	}
	return explain(err)
}

// keysTable opens the table block called name or, if that is empty, what http_api
// uses.
func keysTable(cfg configuration, name string) (module.Table, error) {
	if name != "" {
		if i := slices.IndexFunc(cfg.blocks, func(b maddy.ModInfo) bool { return slices.Contains(blockNames(b), name) }); i < 0 {
			return nil, withHint(fmt.Errorf("the configuration has no block %q", name), "%s",
				strings.Replace(fitting[module.Table](cfg.blocks, "a table"), "--cfg-block", "--table", 1))
		}
		instance, err := module.GetInstance(name)
		if err != nil {
			return nil, fmt.Errorf("cannot open block %q: %w", name, err)
		}
		t, ok := instance.(module.Table)
		if !ok {
			return nil, fmt.Errorf("block %q (%s) is not a table", name, instance.Name())
		}
		return t, nil
	}
	node, err := keysDirective(cfg.endpoints)
	if err != nil {
		return nil, err
	}
	t, err := modconfig.TableDirective(config.NewMap(cfg.globals, node), node)
	if err != nil {
		return nil, fmt.Errorf("cannot open the table of the keys: %w", err)
	}
	return t.(module.Table), nil
}

// keysDirective finds the `keys` directive of the http_api blocks. Several
// blocks may have the same.
func keysDirective(endpoints []maddy.ModInfo) (config.Node, error) {
	const hint = "name the block of the table with --table"
	var found *config.Node
	for _, e := range endpoints {
		if e.Cfg.Name != "http_api" {
			continue
		}
		for _, node := range e.Cfg.Children {
			switch {
			case node.Name != "keys":
			case found != nil && !sameNode(*found, node):
				return config.Node{}, withHint(fmt.Errorf("the http_api blocks use several tables of keys, at %s:%d and %s:%d",
					found.File, found.Line, node.File, node.Line), hint)
			case found == nil:
				found = &node
			}
		}
	}
	if found == nil {
		return config.Node{}, withHint(errors.New("the configuration has no http_api block with a keys directive"), hint)
	}
	return *found, nil
}

// sameNode reports whether two directives say the same, wherever they stand.
func sameNode(a, b config.Node) bool {
	return a.Name == b.Name && slices.Equal(a.Args, b.Args) && slices.EqualFunc(a.Children, b.Children, sameNode)
}
