package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

// setting is a setting as it is shown.
type setting struct {
	Value  string        `json:"value"`
	Source policy.Source `json:"source"`
	Place  string        `json:"place,omitempty"`
}

// source says in words where the value comes from.
func (s setting) source() string {
	switch {
	case s.Source == policy.FromDefault && s.Place == "":
		return "built in"
	case s.Place == "":
		return string(s.Source)
	}
	return string(s.Source) + ", " + s.Place
}

// shown is a domain as --json shows it.
type shown struct {
	Domain   string             `json:"domain"`
	Block    string             `json:"block,omitempty"`
	Row      *shownRow          `json:"row,omitempty"`
	Settings map[string]setting `json:"settings,omitempty"`
	Error    string             `json:"error,omitempty"`
}

type shownRow struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// settingsOf returns the settings by their names.
func settingsOf(s policy.Settings) map[string]setting {
	word := map[bool]string{true: "yes", false: "no"}
	return map[string]setting{
		"require_tls":            {word[s.RequireTLS], s.RequireTLSSource, s.RequireTLSPlace},
		"skip_verification":      {word[s.SkipVerification], s.SkipVerificationSource, s.SkipVerificationPlace},
		"on_failure":             {string(s.OnFailure), s.OnFailureSource, s.OnFailurePlace},
		"opportunistic_fallback": {string(s.Fallback), s.FallbackSource, s.FallbackPlace},
		"message_override":       {string(s.MessageOverride), s.MessageOverrideSource, s.MessageOverridePlace},
	}
}

func show(d tlspolicy.Domain) shown {
	s := shown{Domain: d.Name, Block: d.Block}
	if d.Row != nil {
		s.Row = &shownRow{d.Row.Key, d.Row.Text}
	}
	if d.Err != nil {
		s.Error = d.Err.Error()
		return s
	}
	s.Settings = settingsOf(d.Settings)
	return s
}

// printDomains writes a line for each domain, columns aligned.
func printDomains(c *cli.Context, list []tlspolicy.Domain) error {
	if len(list) == 0 && !c.Bool("quiet") && !c.Bool("json") {
		fmt.Fprintln(c.App.ErrWriter, "No domains.")
	}
	if c.Bool("json") {
		for _, d := range list {
			if err := printJSON(c, show(d)); err != nil {
				return err
			}
		}
		return nil
	}
	return aligned(c, func(w io.Writer) {
		for _, d := range list {
			where := d.Block
			if where == "" {
				where = "table"
			}
			what := ""
			if d.Err != nil {
				what = d.Err.Error()
			} else {
				s := settingsOf(d.Settings)
				what = "require_tls=" + s["require_tls"].Value + " skip_verification=" + s["skip_verification"].Value
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", oneLine(d.Name), oneLine(where), oneLine(what))
		}
	})
}

// printDomain writes a line for each setting of a domain.
func printDomain(c *cli.Context, d tlspolicy.Domain) error {
	if c.Bool("json") {
		return printJSON(c, show(d))
	}
	settings := settingsOf(d.Settings)
	return aligned(c, func(w io.Writer) {
		for _, name := range policy.SettingNames() {
			s := settings[name]
			fmt.Fprintf(w, "%s\t%s\t%s\n", name, s.Value, oneLine(s.source()))
		}
	})
}

// aligned writes what print does to stdout, its tab-separated columns aligned.
func aligned(c *cli.Context, print func(io.Writer)) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	print(w)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(c.App.Writer, text.String())
	return err
}

// printJSON writes v as a line of JSON to stdout.
func printJSON(c *cli.Context, v any) error {
	e := json.NewEncoder(c.App.Writer)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
