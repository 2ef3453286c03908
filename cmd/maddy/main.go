// Command maddy is the maddy mail server with TLS connection control built in.
//
// maddy loads no plugins while it runs. A module of maddy is an ordinary Go package that registers itself when it is
// imported, so a maddy with more modules is an ordinary program that imports more packages: a custom build. This
// directory is one, and it is meant to be copied:
//
//   - main.go runs the command line and turns its result into an exit code;
//   - modules.go imports what is built in besides maddy's own modules, and is the only file to change;
//   - commands.go lists the commands, run.go, creds.go, imapacct.go, tls.go and tlsreports.go hold them;
//   - demo is a package of its own, which does the work of "tls demo";
//   - instance.go opens one block of the configuration for them, prompt.go asks for passwords, errors.go speaks of
//     what went wrong.
//
// To build a maddy with another module as well, copy the files, add one line to modules.go,
//
//	import _ "example.org/maddy-greylist"
//
// and repeat in your go.mod the replace directives of maddy's go.mod: Go reads them from the main module only, and
// maddy does not compile without them.
//
//	replace github.com/emersion/go-imap => github.com/foxcpp/go-imap v1.0.0-beta.1.0.20220623182312-df940c324887
//	replace github.com/emersion/go-smtp => github.com/foxcpp/go-smtp v1.21.4-0.20250124171104-c8519ae4fb23
//	replace github.com/libdns/gandi => github.com/foxcpp/libdns-gandi v1.0.4-0.20240127130558-4782f9d5ce3e
//
// Then "go build" makes a maddy that takes the place of the one you have: configuration, state directory, service
// file and flags stay as they are. SQLite comes in through cgo; without a C compiler a Go translation of it takes its
// place (sqlite_nocgo.go).
//
// Why a custom build brings its own user management: maddy's commands read the whole configuration before they open
// the one block they want, so the stock program refuses every configuration with a module that it does not know, and
// its operator could neither list nor add users. "creds" and "imap-acct" here do what maddy's do, through the
// interfaces that maddy publishes (module.PlainUserDB, module.ManageableStorage). maddy's commands for single folders
// and messages (imap-mboxes, imap-msgs), "imap-acct appendlimit" and "hash" are not offered.
package main

import (
	"os"
	"path/filepath"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/urfave/cli/v2"
)

func main() {
	os.Exit(run(os.Args))
}

// run runs the command line args, of which the first is the program's name, and returns the exit code: 0, 1 for a
// failure, 2 for a command line that cannot be understood. Codes that maddy itself chooses are kept.
func run(args []string) int {
	app := newApp()
	if err := app.Run(args); err != nil {
		return report(app.ErrWriter, err)
	}
	return 0
}

// newApp returns the command line of this build, with maddy's global flags.
func newApp() *cli.App {
	return &cli.App{
		// Not taken from the name of the file: a build called maddy-new still speaks as maddy.
		Name:     "maddy",
		HelpName: "maddy",
		Usage:    "composable all-in-one mail server, with TLS connection control",
		Description: "\"run\" starts the server. All other commands work on what it uses: its users,\n" +
			"their mailboxes, its policies.",
		Flags: append([]cli.Flag{
			&cli.PathFlag{
				Name:    "config",
				Usage:   "Configuration file to use",
				EnvVars: []string{"MADDY_CONFIG"},
				Value:   filepath.Join(maddy.ConfigDirectory, "maddy.conf"),
			},
			&cli.BoolFlag{
				Name:        "debug",
				Usage:       "Enable debug logging early",
				Destination: &log.DefaultLogger.Debug,
			},
			cli.HelpFlag, // the parser adds it only together with its own "help" command
		}, runFlags(true)...),
		Commands:             commands(),
		Action:               runWithoutName,
		OnUsageError:         onUsageError,
		ExitErrHandler:       func(*cli.Context, error) {}, // run reports errors, in one place
		HideHelpCommand:      true,                         // commands brings its own
		HideVersion:          true,                         // "version" is a command, -v belongs to run
		EnableBashCompletion: true,
		Reader:               os.Stdin,
		Writer:               os.Stdout,
		ErrWriter:            os.Stderr,
	}
}
