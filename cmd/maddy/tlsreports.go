package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/foxcpp/maddy"
	"github.com/urfave/cli/v2"

	"tlscontrol/internal/tlsrpt"
	"tlscontrol/target/remotetls"
)

// reportsCommand returns "maddy tls reports".
func reportsCommand() *cli.Command {
	return &cli.Command{
		Name:  "reports",
		Usage: "Print the TLS reports that would be sent about today",
		Description: `Reads what target.remote_tls blocks with tlsrpt have counted since midnight, UTC,
also while the server runs, and prints the report about each recipient domain as it
stands: by policy, how many sessions were secured and how many failed, and why. After
midnight it is sent to domains that publish a TLSRPT record; whether one does is not
looked up here. What was counted in the last two seconds may be missing, in the last
thirty if several relays count together. About a day that is over, it also says what
became of the report.`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:    "target",
				Aliases: []string{"cfg-block"}, // as maddy's own commands have it
				Usage:   "`NAME` of the target.remote_tls block (default: all that have tlsrpt)",
				EnvVars: []string{"MADDY_CFGBLOCK"},
			},
			&cli.StringFlag{
				Name:  "domain",
				Usage: "Only the report about `DOMAIN`",
			},
			&cli.StringFlag{
				Name:  "day",
				Usage: "The `DAY`, UTC, instead of today, as 2026-11-26; three days are kept",
			},
			&cli.BoolFlag{
				Name:  "json",
				Usage: "Print the documents that are sent, one a line",
			},
		},
		Action: runReports,
	}
}

func runReports(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	day := time.Now().UTC()
	if text := c.String("day"); text != "" {
		var err error
		if day, err = time.Parse(time.DateOnly, text); err != nil {
			return usageError(c, "%q is no day such as 2026-11-26", text)
		}
	}
	domain := ""
	if text := c.String("domain"); text != "" {
		address, ok := tlsrpt.Address("x@" + text)
		if !ok {
			return usageError(c, "%q is no domain", text)
		}
		domain = strings.TrimPrefix(address, "x@")
	}
	var at visit
	defer at.leave()
	cfg, err := registerAsItIs(c, at.enter)
	if err != nil {
		return explain(err)
	}
	all, err := readReports(c.Context, c.String("target"), cfg.blocks, day)
	if err != nil {
		return explain(err)
	}
	print := printReport
	if c.Bool("json") {
		print = printReportJSON
	}
	// Written at once: a reader that goes away is one error.
	var out bytes.Buffer
	for _, d := range all {
		if domain == "" || d.Domain == domain {
			if err := print(&out, d); err != nil {
				return err
			}
		}
	}
	if out.Len() == 0 && !c.Bool("json") {
		fmt.Fprintf(&out, "Nothing was counted on %s (UTC).\n", day.Format(time.DateOnly))
	}
	_, err = c.App.Writer.Write(out.Bytes())
	return err
}

// readReports reads the reports of the block called name, or of all blocks that
// have any.
func readReports(ctx context.Context, name string, blocks []maddy.ModInfo, day time.Time) ([]tlsrpt.Document, error) {
	var all []tlsrpt.Document
	found := false
	for _, b := range blocks {
		target, ok := b.Instance.(*remotetls.Target)
		if !ok || name != "" && target.InstanceName() != name {
			continue
		}
		source, ok, err := remotetls.Reports(b.Cfg, target.InstanceName())
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		found = true
		documents, err := source.Read(ctx, day)
		if err != nil {
			return nil, err
		}
		all = append(all, documents...)
	}
	switch {
	case found:
		return all, nil
	case name != "":
		return nil, withHint(fmt.Errorf("the configuration has no target.remote_tls block %q with tlsrpt", name), "without --target all are read")
	}
	return nil, withHint(fmt.Errorf("no target.remote_tls block of the configuration has tlsrpt"),
		"TLS reports are off until a block has one, see docs/tls-reports.md")
}

func printReportJSON(w io.Writer, d tlsrpt.Document) error {
	text, err := d.JSON()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// printReport writes a report for people. Everything in it is printable: what
// strangers said was made so when it was counted.
func printReport(w io.Writer, d tlsrpt.Document) error {
	fmt.Fprintf(w, "%s\n", d.Domain)
	for _, p := range d.Policies {
		fmt.Fprintf(w, "    %s %s: %d secured, %d failed\n", p.Policy.Type, p.Policy.Domain,
			p.Summary.TotalSuccessfulSessionCount, p.Summary.TotalFailureSessionCount)
		for _, f := range p.FailureDetails {
			fmt.Fprintf(w, "        %d %s", f.FailedSessionCount, f.ResultType)
			if f.FailureReasonCode != "" {
				fmt.Fprintf(w, " (%s)", f.FailureReasonCode)
			}
			for _, part := range []struct{ word, value string }{
				{"at", f.ReceivingMXHostname}, {"on", f.ReceivingIP}, {"from", f.SendingMTAIP},
			} {
				if part.value != "" {
					fmt.Fprintf(w, " %s %s", part.word, part.value)
				}
			}
			fmt.Fprintln(w)
		}
	}
	for _, to := range slices.Sorted(maps.Keys(d.Told)) {
		fmt.Fprintf(w, "    %s: %s\n", oneLine(tlsrpt.Outcome(to, d.Told[to])), oneLine(to))
	}
	if d.Done != "" {
		fmt.Fprintf(w, "    done: %s\n", oneLine(d.Done))
	}
	return nil
}
