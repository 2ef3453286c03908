package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"tlscontrol/cmd/maddy/demo"
)

// demoCommand returns "maddy tls demo".
func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "Show on loopback what becomes of mail under each setting",
		Description: `Starts a maddy with a configuration of its own, MX hosts that treat STARTTLS in
five ways, and a resolver, sends a message for each of them and each kind of
settings, and compares what the hosts saw and what the delivery log says with
what is promised. Needs no privileges, no network and no configuration, and takes
a few seconds.

The exit code is 0 only if all is as promised.`,
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name:  "json",
				Usage: "Print the delivery-status documents alone, one a line",
			},
			&cli.BoolFlag{
				Name:  "keep",
				Usage: "Leave the server running until Ctrl-C, and its files for good",
			},
		},
		Action: runDemo,
	}
}

func runDemo(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find the file of this program: %w", err)
	}
	// Otherwise writing to a pipe that nobody reads would end the process before it can clean up. This way it is an
	// error like any other.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// Whoever asks twice does not want to wait.
	context.AfterFunc(ctx, stop)
	return demo.Run(ctx, demo.Options{
		Executable: executable,
		Name:       os.Args[0],
		Out:        c.App.Writer,
		Err:        c.App.ErrWriter,
		JSON:       c.Bool("json"),
		Keep:       c.Bool("keep"),
		Colour:     colourful(c.App.Writer),
		Escape:     oneLine,
	})
}

// colourful reports whether w is a terminal whose user has nothing against colours (no-color.org).
func colourful(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
