package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/urfave/cli/v2"
	"golang.org/x/net/idna"

	"tlscontrol/internal/downgrade"
)

// memoryCommand returns "maddy tls memory".
func memoryCommand() *cli.Command {
	return &cli.Command{
		Name:      "memory",
		Usage:     "Show what TLS MX hosts proved before",
		ArgsUsage: "[HOST...]",
		Description: `Prints what the targets remember of MX hosts, of those named or of all: the most
that each proved, how its certificate was found good, and when it last proved
that and any TLS. Works beside a running server; what was proved in its last
seconds may be missing. What is older than downgrade_memory does not count any
more, and is printed until the server drops it. Of lines that are damaged it is
said how many there are; the server sets such a file aside when it starts.

The exit code is 1 if nothing is known of a host that is named.`,
		Flags: []cli.Flag{
			targetFlag(),
			&cli.BoolFlag{Name: "json", Usage: "Print JSON objects, one a line"},
		},
		Action: tlsMemory,
	}
}

// forgetCommand returns "maddy tls forget".
func forgetCommand() *cli.Command {
	return &cli.Command{
		Name:      "forget",
		Usage:     "Forget what TLS MX hosts proved before",
		ArgsUsage: "HOST...",
		Description: `Lets MX hosts go that are meant to give less than they did: a certificate that
will not come back, a host that has no TLS any more. With downgrade_action defer
their mail waits until then. A running server heeds it within seconds, one that is
stopped when it starts. A host that proves something again is remembered again.

HOST is the name of an MX host, as "maddy tls memory" and the delivery log have it,
and not the domain of a recipient.`,
		Flags:  []cli.Flag{targetFlag()},
		Action: tlsForget,
	}
}

func targetFlag() cli.Flag {
	return &cli.StringFlag{
		Name:  "target",
		Usage: "Name of the target.remote_tls block (default: all that remember something)",
	}
}

// remembered is what one target knows of one host; as JSON it speaks the words of the delivery log.
type remembered struct {
	Host         string          `json:"mx-host"`
	Target       string          `json:"target"`
	Proved       downgrade.Level `json:"proved"`
	Verification string          `json:"verification,omitempty"`
	LastVerified string          `json:"last-verified,omitempty"`
	LastTLS      string          `json:"last-tls"`
}

func tlsMemory(c *cli.Context) error {
	hosts, err := hostArguments(c)
	if err != nil {
		return err
	}
	rows, err := readMemory(c)
	if err != nil {
		return err
	}
	if len(hosts) > 0 {
		rows = slices.DeleteFunc(rows, func(r remembered) bool { return !slices.Contains(hosts, r.Host) })
	}
	if err := printMemory(c, rows); err != nil {
		return err
	}
	return unknownHosts(hosts, rows)
}

func tlsForget(c *cli.Context) error {
	hosts, err := hostArguments(c)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return usageError(c, "HOST is required")
	}
	rows, err := readMemory(c)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(r remembered) bool { return !slices.Contains(hosts, r.Host) })
	byTarget := make(map[string][]string)
	for _, r := range rows {
		byTarget[r.Target] = append(byTarget[r.Target], r.Host)
	}
	for _, target := range slices.Sorted(maps.Keys(byTarget)) {
		if err := downgrade.Forget(downgrade.File(config.StateDirectory, target), byTarget[target]); err != nil {
			return explain(fmt.Errorf("cannot ask target %s to forget: %w", oneLine(target), err))
		}
		for _, host := range byTarget[target] {
			fmt.Fprintf(c.App.Writer, "%s: forgotten by %s\n", host, oneLine(target))
		}
	}
	return unknownHosts(hosts, rows)
}

// hostArguments returns the hosts that are named, as they are remembered.
func hostArguments(c *cli.Context) (hosts []string, _ error) {
	for _, arg := range c.Args().Slice() {
		name, err := idna.Lookup.ToASCII(strings.TrimSuffix(arg, "."))
		if err != nil {
			name = strings.ToLower(arg) // idna is stricter than host names are: "_mx.example.net"
		}
		if !downgrade.ValidHost(name) {
			return nil, usageError(c, "%q is not the name of a host", arg)
		}
		hosts = append(hosts, name)
	}
	return hosts, nil
}

// readMemory returns what the targets know, by host. Of the configuration only the state directory matters, so that it
// works with any that maddy itself would refuse.
func readMemory(c *cli.Context) (rows []remembered, _ error) {
	nodes, err := readConfig(c)
	if err != nil {
		return nil, err
	}
	if _, _, err := maddy.ReadGlobals(nodes); err != nil {
		return nil, err
	}
	if err := checkStateDir(); err != nil {
		return nil, err
	}
	targets, err := downgrade.Targets(config.StateDirectory)
	if err != nil {
		return nil, explain(fmt.Errorf("cannot read what hosts proved: %w", err))
	}
	if only := c.String("target"); only != "" {
		if !slices.Contains(targets, only) {
			return nil, withHint(fmt.Errorf("no target %q remembers anything", only), "%s", rememberers(targets))
		}
		targets = []string{only}
	}
	for _, target := range targets {
		path := downgrade.File(config.StateDirectory, target)
		hosts, damaged, err := downgrade.Read(path)
		if err != nil {
			return nil, explain(fmt.Errorf("cannot read what hosts proved: %w", err))
		}
		if damaged > 0 {
			fmt.Fprintf(c.App.ErrWriter, "maddy: lines of %s that are damaged and passed over: %d\n", oneLine(path), damaged)
		}
		for host, e := range hosts {
			rows = append(rows, remembered{
				Host: host, Target: target, Proved: e.Level(), Verification: string(e.By),
				LastVerified: timeText(e.Verified), LastTLS: timeText(e.TLS),
			})
		}
	}
	slices.SortFunc(rows, func(a, b remembered) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Target, b.Target))
	})
	return rows, nil
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// rememberers says which targets could have been named instead.
func rememberers(targets []string) string {
	if len(targets) == 0 {
		return "nothing was delivered over TLS yet, or downgrade_memory is off"
	}
	for i, t := range targets {
		targets[i] = oneLine(t)
	}
	return "use --target with one of: " + strings.Join(targets, ", ")
}

func printMemory(c *cli.Context, rows []remembered) error {
	if c.Bool("json") {
		out := json.NewEncoder(c.App.Writer)
		for _, r := range rows {
			if err := out.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		if c.Args().Present() {
			return nil // The error tells of each host.
		}
		_, err := fmt.Fprintln(c.App.Writer, "Nothing is remembered.")
		return err
	}
	table := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(table, strings.Join(cells, "\t")) }
	row("HOST", "PROVED", "BY", "LAST VERIFIED", "LAST TLS", "TARGET")
	for _, r := range rows {
		row(r.Host, string(r.Proved), cmp.Or(r.Verification, "-"), cmp.Or(r.LastVerified, "-"), r.LastTLS, oneLine(r.Target))
	}
	return table.Flush()
}

// unknownHosts is the error about hosts of which nothing is remembered, nil if there are none.
func unknownHosts(hosts []string, rows []remembered) error {
	var errs []error
	for _, h := range hosts {
		if !slices.ContainsFunc(rows, func(r remembered) bool { return r.Host == h }) {
			errs = append(errs, fmt.Errorf("nothing is remembered of %s", h))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return withHint(errors.Join(errs...), "\"maddy tls memory\" lists the hosts that are; a host is not the domain of its mail")
}
