package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// commands lists the commands of this build. A new one is written in a file of its own and gets its line here.
func commands() []*cli.Command {
	cmds := []*cli.Command{
		runCommand(),
		versionCommand(),
		credsCommand(),
		imapAcctCommand(),
		helpCommand(),
		generateCommand("generate-man", (*cli.App).ToMan),
		generateCommand("generate-fish-completion", (*cli.App).ToFishCompletion),
	}
	cmds = append(cmds, tlsCommands(explainCommand(), probeCommand(), demoCommand(), domainCommand(), keyCommand(), memoryCommand(),
		forgetCommand(), reportsCommand())...)
	for _, cmd := range cmds {
		finish(cmd)
	}
	return cmds
}

// tlsCommands returns the group "tls" around subcommands, or nothing as long as there are none.
func tlsCommands(subcommands ...*cli.Command) []*cli.Command {
	if len(subcommands) == 0 {
		return nil
	}
	return []*cli.Command{{
		Name:        "tls",
		Usage:       "TLS connection control",
		Subcommands: subcommands,
	}}
}

// helpCommand returns "maddy help COMMAND...", which is "maddy COMMAND... --help". The parser's own shows a group
// without its commands.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Aliases:   []string{"h"},
		Usage:     "Show a list of commands, or help for one of them",
		ArgsUsage: "[COMMAND...]",
		Action: func(c *cli.Context) error {
			args := append([]string{c.App.Name}, c.Args().Slice()...)
			return c.App.RunContext(c.Context, append(args, "--help"))
		},
	}
}

// generateCommand returns a hidden command that prints what render makes of the command line. The names are
// maddy's own: the scripts that package maddy call them.
func generateCommand(name string, render func(*cli.App) (string, error)) *cli.Command {
	return &cli.Command{
		Name:   name,
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			text, err := render(c.App)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, text)
			return err
		},
	}
}

// finish gives cmd and everything below it what all commands have in common: how usage errors are told, and, for a
// group, what happens if it is called without one of its commands.
func finish(cmd *cli.Command) {
	cmd.OnUsageError = onUsageError
	if len(cmd.Subcommands) == 0 {
		// Otherwise "maddy creds create help" could not create a user of that name.
		cmd.HideHelpCommand = true
		cmd.CustomHelpTemplate = cli.CommandHelpTemplate
		return
	}
	cmd.Action = func(c *cli.Context) error {
		if c.Args().Present() {
			return unknownCommand(c)
		}
		return cli.ShowSubcommandHelp(c)
	}
	for _, sub := range cmd.Subcommands {
		finish(sub)
	}
}

// noArguments refuses arguments where a command takes none.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageError(c, "unexpected argument %q", c.Args().First())
	}
	return nil
}

// oneArgument returns the only argument of a command, which its help calls name.
func oneArgument(c *cli.Context, name string) (string, error) {
	switch arg := c.Args().First(); {
	case arg == "":
		return "", usageError(c, "%s is required", name)
	case c.NArg() > 1:
		// Flags end at the first argument, so "remove USER -y" would otherwise ask in spite of -y.
		return "", usageError(c, "unexpected argument %q after %s: flags go before it", c.Args().Get(1), name)
	default:
		return arg, nil
	}
}
