package main

import (
	"fmt"
	"runtime/debug"

	"github.com/foxcpp/maddy"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/urfave/cli/v2"
)

// runCommand returns "maddy run". Everything it does is maddy's, which reads the flags by their names.
func runCommand() *cli.Command {
	return &cli.Command{
		Name:   "run",
		Usage:  "Start the server",
		Flags:  runFlags(false),
		Action: maddy.Run,
	}
}

// runFlags returns the flags that maddy.Run reads, besides the global ones. They are also accepted without "run",
// where they are hidden: service files written for old versions of maddy start it like that.
func runFlags(hidden bool) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name:        "libexec",
			Usage:       "Path to the libexec directory",
			Value:       maddy.DefaultLibexecDirectory,
			Destination: &config.LibexecDirectory,
			Hidden:      hidden,
		},
		&cli.StringSliceFlag{
			Name:   "log",
			Usage:  "Default logging target(s)",
			Value:  cli.NewStringSlice("stderr"),
			Hidden: hidden,
		},
		&cli.BoolFlag{
			Name:   "v",
			Usage:  "Print version and build metadata, then exit",
			Hidden: true,
		},
	}
}

// runWithoutName is what "maddy" does without a command: maddy 0.8 still starts the server then, with a warning.
func runWithoutName(c *cli.Context) error {
	if c.Args().Present() {
		return unknownCommand(c)
	}
	if !c.Bool("v") {
		log.Println(`WARNING: starting the server without saying "maddy run" is deprecated and will stop working`)
	}
	return maddy.Run(c)
}

// versionCommand returns "maddy version": what maddy prints, and what it was built from, because the version of a
// custom build says nothing about the maddy inside.
func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "Print version and build metadata, then exit",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.App.Writer, "%s\nbuilt from: %s\n", maddy.BuildInfo(), builtFrom())
			return err
		},
	}
}

// builtFrom names the main module and maddy's, with the versions that were compiled in.
func builtFrom() string {
	const host = "github.com/foxcpp/maddy"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return host // built without module support, which tells no versions
	}
	text := info.Main.Path
	if info.Main.Version != "" {
		text += " " + info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == host {
			text += ", " + host + " " + dep.Version
		}
	}
	return text
}
