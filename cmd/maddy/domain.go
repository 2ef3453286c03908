package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"

	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

// domainCommand returns "maddy tls domain".
func domainCommand() *cli.Command {
	return &cli.Command{
		Name:  "domain",
		Usage: "TLS settings of sending domains",
		Description: `These commands show the settings of sending domains, and change those in the table
that the "domains" directive of a tls_policy block names. A running server follows
a change from the next message on.

Domains with a "domain" block in the configuration can only be changed there.`,
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "List the domains that have a block or a row",
				Description: `Prints a line for each: the domain, where it is set, require_tls and
skip_verification. The exit code is 1 if a row cannot be read.`,
				Flags:  []cli.Flag{policyFlag(), jsonFlag("Print a JSON object a line"), quietFlag()},
				Action: domainList,
			},
			{
				Name:  "get",
				Usage: "Show each setting of a domain and where it comes from",
				Description: `The settings are those of a message that asks for nothing itself, to a destination
that has no block.`,
				ArgsUsage: "DOMAIN",
				Flags:     []cli.Flag{policyFlag(), jsonFlag("Print a JSON object")},
				Action:    domainGet,
			},
			{
				Name:  "set",
				Usage: "Change settings in a domain's row",
				Description: `Settings that are not named stay as they are; SETTING= takes one out of the row.

    maddy tls domain set example.com require_tls=yes skip_verification=no`,
				ArgsUsage: "DOMAIN SETTING=VALUE...",
				Flags:     []cli.Flag{policyFlag()},
				Action:    domainSet,
			},
			{
				Name:      "unset",
				Usage:     "Remove a domain's row, or settings from it",
				ArgsUsage: "DOMAIN [SETTING...]",
				Flags:     []cli.Flag{policyFlag()},
				Action:    domainUnset,
			},
		},
	}
}

// policyFlag returns --policy, which names the tls_policy block.
func policyFlag() cli.Flag {
	return &cli.StringFlag{Name: "policy", Usage: "Use the tls_policy block `NAME`, if there are several"}
}

// jsonFlag returns --json.
func jsonFlag(usage string) cli.Flag { return &cli.BoolFlag{Name: "json", Usage: usage} }

func domainList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withDomains(c, func(domains tlspolicy.Domains) error {
		list, unlisted := domains.List(c.Context)
		if unlisted != nil && !errors.Is(unlisted, tlspolicy.ErrReadOnlyTable) {
			return unlisted
		}
		if err := printDomains(c, list); err != nil {
			return err
		}
		broken := len(list) - len(slices.DeleteFunc(slices.Clone(list), func(d tlspolicy.Domain) bool { return d.Err != nil }))
		switch {
		case unlisted != nil:
			return withHint(errors.New("the table does not tell which rows it has, so only blocks are listed"),
				"\"maddy tls domain get DOMAIN\" shows a row")
		case broken > 0:
			return withHint(fmt.Errorf("rows that cannot be read: %d", broken),
				"messages of such a domain are deferred, and of one that is never found go out as if it had no row; "+
					"mend the row in the table, or remove it with \"maddy tls domain unset\"")
		}
		return nil
	})
}

func domainGet(c *cli.Context) error {
	domain, err := oneArgument(c, "DOMAIN")
	if err != nil {
		return err
	}
	return withDomains(c, func(domains tlspolicy.Domains) error {
		d, err := domains.Get(c.Context, domain)
		if err != nil {
			return err
		}
		return printDomain(c, d)
	})
}

func domainSet(c *cli.Context) error {
	domain := c.Args().First()
	if domain == "" || c.NArg() < 2 {
		return usageError(c, "DOMAIN and at least one SETTING=VALUE are required")
	}
	changes := make(tlspolicy.Changes)
	for _, arg := range c.Args().Tail() {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return usageError(c, "unexpected argument %q, expected SETTING=VALUE; flags go before DOMAIN", arg)
		}
		if _, twice := changes[name]; twice {
			return usageError(c, "%q is named twice", name)
		}
		changes[name] = value
	}
	return withDomains(c, func(domains tlspolicy.Domains) error {
		_, err := domains.Set(c.Context, domain, changes)
		return err
	})
}

func domainUnset(c *cli.Context) error {
	domain := c.Args().First()
	if domain == "" {
		return usageError(c, "DOMAIN is required")
	}
	changes := make(tlspolicy.Changes)
	for _, name := range c.Args().Tail() {
		if !slices.Contains(policy.SettingNames(), name) {
			return usageError(c, "unexpected argument %q, expected one of %s; flags go before DOMAIN",
				name, strings.Join(policy.SettingNames(), ", "))
		}
		changes[name] = ""
	}
	return withDomains(c, func(domains tlspolicy.Domains) error {
		if len(changes) == 0 {
			return domains.Unset(c.Context, domain)
		}
		d, err := domains.Get(c.Context, domain)
		if err == nil && d.Row == nil && d.Block == "" {
			return &tlspolicy.NotFoundError{Domain: d.Name}
		}
		_, err = domains.Set(c.Context, domain, changes)
		return err
	})
}

// withDomains opens the tls_policy block that --policy names, or the only one,
// and hands its domains to use. Of the configuration only this block, and the
// table that it refers to, is initialised. The table has to be there: the server
// makes it when it first starts, so a missing one was lost.
func withDomains(c *cli.Context, use func(tlspolicy.Domains) error) error {
	defer hooks.RunHooks(hooks.EventShutdown)
	cfg, err := registerAsItIs(c, maddy.InitDirs)
	if err != nil {
		return explain(err)
	}
	name, err := policyName(cfg.blocks, c.String("policy"))
	if err != nil {
		return err
	}
	instance, err := module.GetInstance(name)
	if err != nil {
		return explain(fmt.Errorf("cannot open block %q: %w", name, err))
	}
	return explain(explainDomain(c, use(instance.(*tlspolicy.Module).Domains())))
}

// policyName returns the name of the tls_policy block that is meant.
func policyName(blocks []maddy.ModInfo, wanted string) (string, error) {
	wanted = strings.TrimPrefix(wanted, "&")
	var names []string
	for _, b := range blocks {
		if _, ok := b.Instance.(*tlspolicy.Module); !ok {
			continue
		}
		if wanted != "" && slices.Contains(blockNames(b), wanted) {
			return wanted, nil
		}
		names = append(names, b.Instance.InstanceName())
	}
	switch {
	case len(names) == 0:
		return "", withHint(errors.New("the configuration has no tls_policy block"),
			"write a policy that stands inside another block as a block of its own, and refer to it with \"policy &NAME\"")
	case wanted != "":
		return "", withHint(fmt.Errorf("the configuration has no tls_policy block %q", wanted),
			"use --policy with one of: %s", strings.Join(names, ", "))
	case len(names) > 1:
		return "", withHint(errors.New("the configuration has several tls_policy blocks"),
			"use --policy with one of: %s", strings.Join(names, ", "))
	}
	return names[0], nil
}

// explainDomain adds the next step to errors of the domains.
func explainDomain(c *cli.Context, err error) error {
	var (
		invalid  *tlspolicy.InvalidError
		readOnly *tlspolicy.ReadOnlyError
		missing  *tlspolicy.NotFoundError
		row      *tlspolicy.TableError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return usageError(c, "%w", err)
	case errors.As(err, &readOnly):
		return withHint(err, "edit the block, and restart the server")
	case errors.As(err, &missing):
		return withHint(err, "\"maddy tls domain list\" shows all that have one")
	case errors.Is(err, tlspolicy.ErrNoTable), errors.Is(err, tlspolicy.ErrReadOnlyTable):
		return withHint(err, "edit the table's source, or use one like: domains sql_table { driver sqlite3; dsn tls_domains.db; table_name tls_domains }")
	case errors.As(err, &row) && row.Broken:
		return withHint(err, "mend the row where it is kept; in a table that can be changed from here also: name all five settings to \"maddy tls domain set\", or remove the row with \"maddy tls domain unset\"")
	}
	return err
}
