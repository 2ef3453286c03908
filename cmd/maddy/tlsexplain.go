package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-message/textproto"
	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"

	"tlscontrol/target/remotetls"
)

// exitCodes is the end of the help of "tls explain" and "tls probe".
const exitCodes = `

Exit codes: 0 the message would cross; 1 it would not, because of TLS or for good;
2 the command line or the configuration is wrong; 3 nobody can say now, because DNS,
a policy or the hosts do not answer.`

// explainCommand returns "maddy tls explain".
func explainCommand() *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "Show what would become of a message, and who decided",
		Description: `Reads the configuration and prints what a target.remote_tls block would do with a
message now: each setting with the block that says it, what the recipient
publishes in DNS and with MTA-STS, what each MX host must prove, and what would
change with require_tls. With --probe the hosts are dialled too, as far as
STARTTLS; no mail is sent. Works beside a running server and changes nothing.` + exitCodes,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "Sender `ADDRESS`; <> is the null sender"},
			&cli.StringFlag{Name: "to", Usage: "Recipient `ADDRESS`"},
			&cli.GenericFlag{Name: "header", Value: &fields{}, Usage: "Header `FIELD` of the message, as \"X-Require-TLS: yes\"; may repeat"},
			&cli.BoolFlag{Name: "stranger", Usage: "Read override fields as those of a client that check.tls_override does not admit"},
			&cli.BoolFlag{Name: "requiretls", Usage: "The sender used REQUIRETLS (RFC 8689)"},
			&cli.BoolFlag{Name: "probe", Usage: "Dial the hosts, and look at their TLS"},
			&cli.StringFlag{Name: "target", Usage: "`NAME` of the target.remote_tls block (default: the only one)"},
		}, answerFlags()...),
		Action: tlsExplain,
	}
}

// answerFlags are those of both commands.
func answerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "Print a JSON object"},
		&cli.DurationFlag{Name: "timeout", Usage: "How long it may take in all", Value: 2 * time.Minute},
	}
}

// checkTimeout refuses a --timeout in which nothing can be asked: every failure would look like one of DNS or of a table.
func checkTimeout(c *cli.Context) error {
	if t := c.Duration("timeout"); t <= 0 {
		return usageError(c, "--timeout: unexpected %q, expected a time such as 30s", t)
	}
	return nil
}

func tlsExplain(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := checkTimeout(c); err != nil {
		return err
	}
	q := remotetls.Question{
		From: bare(c.String("from")), To: bare(c.String("to")),
		REQUIRETLS: c.Bool("requiretls"), Admitted: !c.Bool("stranger"), Probe: c.Bool("probe"),
	}
	switch {
	case c.String("from") == "":
		return usageError(c, "--from is required; --from '<>' is the null sender")
	case c.String("to") == "":
		return usageError(c, "--to is required")
	}
	if q.From != "" {
		if err := checkAddress(c, "from", q.From); err != nil {
			return err
		}
	}
	if err := checkAddress(c, "to", q.To); err != nil {
		return err
	}
	q.Header = c.Generic("header").(*fields).header
	var at visit
	defer at.leave()
	// maddy adds a hook for each module it initialises that has something to close.
	defer hooks.RunHooks(hooks.EventShutdown)
	target, err := openTarget(c, &at)
	if err != nil {
		return inVain(explain(err))
	}
	return answer(c, target, q)
}

// fields is the value of --header. A slice of the command line parser would end at each comma.
type fields struct{ header textproto.Header }

// fieldName is what the name of a field may consist of (RFC 5322, section 3.6.8).
var fieldName = regexp.MustCompile(`^[!-9;-~]+$`)

// Set implements cli.Generic.
func (f *fields) Set(field string) error {
	name, value, ok := strings.Cut(field, ":")
	if !ok || !fieldName.MatchString(name) || strings.ContainsAny(value, "\r\n") {
		return errors.New("expected a header field, as \"X-Require-TLS: yes\"")
	}
	f.header.Add(name, strings.TrimSpace(value))
	return nil
}

// String implements cli.Generic.
func (f *fields) String() string { return "" }

// bare returns an address without angle brackets.
func bare(address string) string {
	if inner, ok := strings.CutPrefix(address, "<"); ok && strings.HasSuffix(inner, ">") {
		return strings.TrimSuffix(inner, ">")
	}
	return address
}

// answer asks the target, prints the answer and returns it as an exit code.
func answer(c *cli.Context, target *remotetls.Target, q remotetls.Question) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d, err := target.Explain(ctx, q)
	if err != nil {
		return usageError(c, "%w", err)
	}
	write := d.Write
	if c.Bool("json") {
		write = d.WriteJSON
	}
	if err := write(c.App.Writer); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	if code := d.ExitCode(); code != 0 {
		return &failure{err: errors.New(""), code: code} // All of it is said.
	}
	return nil
}

// inVain makes an error one of the configuration, which ends the command as those of the command line do.
func inVain(err error) error {
	out := &failure{err: err, code: exitUsage}
	if f := (*failure)(nil); errors.As(err, &f) {
		out.hint = f.hint
	}
	return out
}

// openTarget opens the target.remote_tls block that --target names, or the only one there is.
func openTarget(c *cli.Context, at *visit) (*remotetls.Target, error) {
	cfg, err := registerAsItIs(c, at.enter)
	if err != nil {
		return nil, err
	}
	blocks := slices.DeleteFunc(cfg.blocks, func(b maddy.ModInfo) bool { _, ok := b.Instance.(*remotetls.Target); return !ok })
	var names []string
	for _, b := range blocks {
		names = append(names, b.Instance.InstanceName())
	}
	name := c.String("target")
	switch {
	case len(blocks) == 0:
		return nil, withHint(errors.New("the configuration has no target.remote_tls block with a name"),
			"a block inside another one has none: write it at the top and refer to it as &name")
	case name == "" && len(blocks) == 1:
		name = names[0]
	case name == "":
		return nil, withHint(fmt.Errorf("the configuration has %d targets", len(names)), "use --target with one of: %s", strings.Join(names, ", "))
	case !slices.ContainsFunc(blocks, func(b maddy.ModInfo) bool { return slices.Contains(blockNames(b), name) }):
		return nil, withHint(fmt.Errorf("the configuration has no target.remote_tls block %q", name), "use --target with one of: %s", strings.Join(names, ", "))
	}
	instance, err := module.GetInstance(name)
	if err != nil {
		return nil, fmt.Errorf("cannot open block %q: %w", name, err)
	}
	return instance.(*remotetls.Target), nil
}

// probeCommand returns "maddy tls probe".
func probeCommand() *cli.Command {
	return &cli.Command{
		Name:      "probe",
		Usage:     "Show what TLS the MX hosts of a domain have",
		ArgsUsage: "DOMAIN",
		Description: `Looks up what a domain publishes (MX, TLSA, MTA-STS), dials its MX hosts as far as
STARTTLS, and prints what each of them proves, and what would become of a message
under the built-in settings. Needs no configuration and sends no mail. TLSA
records count only if the resolver is on this machine, and validates DNSSEC.` + exitCodes,
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "resolver", Usage: "`IP[:PORT]` of a resolver; may repeat (default: the system's)"},
			&cli.IntFlag{Name: "port", Usage: "`PORT` of the MX hosts", Value: 25},
			&cli.StringFlag{Name: "ca", Usage: "PEM `FILE` of roots to trust (default: the system's)"},
			&cli.StringFlag{Name: "hostname", Usage: "`NAME` to say in EHLO (default: this machine's)"},
			&cli.BoolFlag{Name: "require-tls", Usage: "Judge as under require_tls yes"},
		}, answerFlags()...),
		Action: tlsProbe,
	}
}

func tlsProbe(c *cli.Context) error {
	domain, err := oneArgument(c, "DOMAIN")
	if err != nil {
		return err
	}
	if err := checkTimeout(c); err != nil {
		return err
	}
	if strings.Contains(domain, "@") {
		return usageError(c, "unexpected address %q, expected a domain", domain)
	}
	if !goodDomain(domain) {
		return usageError(c, "unexpected %q, expected a domain", domain)
	}
	if port := c.Int("port"); port == 0 { // which Alone takes for "not given"
		return usageError(c, "--port: unexpected \"0\", expected a number from 1 to 65535")
	}
	alone := remotetls.Alone{
		Hostname: c.String("hostname"), Resolvers: c.StringSlice("resolver"), Port: c.Int("port"), Roots: c.String("ca"),
	}
	if alone.Hostname == "" {
		if alone.Hostname, err = os.Hostname(); err != nil || alone.Hostname == "" {
			alone.Hostname = "localhost"
		}
	}
	q := remotetls.Question{To: "postmaster@" + strings.TrimSuffix(domain, "."), Admitted: true, Probe: true, Header: textproto.Header{}}
	if c.Bool("require-tls") {
		q.Header.Add("X-Require-TLS", "yes")
	}
	module.NoRun = true
	defer hooks.RunHooks(hooks.EventShutdown)
	target, err := remotetls.NewAlone(alone)
	if err != nil {
		return usageError(c, "%w", err)
	}
	defer target.Close()
	return answer(c, target, q)
}
