package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"
)

const (
	exitFailure = 1
	exitUsage   = 2
)

// failure is an error with the exit code that it leads to and, if there is one, the operator's next step.
type failure struct {
	err  error
	hint string
	code int
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }
func (f *failure) ExitCode() int { return f.code }

// withHint adds the next step to err.
func withHint(err error, format string, args ...any) error {
	return &failure{err: err, hint: fmt.Sprintf(format, args...), code: exitFailure}
}

// usageError returns the error for a command line that cannot be understood. It points to the help of the command
// that c belongs to.
func usageError(c *cli.Context, format string, args ...any) error {
	return &failure{
		err:  fmt.Errorf(format, args...),
		hint: fmt.Sprintf("see %q", c.Command.HelpName+" --help"),
		code: exitUsage,
	}
}

// unknownCommand is the usage error for a first argument that should have been the name of a command.
func unknownCommand(c *cli.Context) error {
	return usageError(c, "unknown command %q", c.Args().First())
}

// onUsageError is what the command line parser calls for a flag that it does not know or cannot read.
func onUsageError(c *cli.Context, err error, _ bool) error {
	return usageError(c, "%w", err)
}

// report writes err to w, one line for what happened and one for the next step, and returns the exit code.
func report(w io.Writer, err error) int {
	// An empty message is an error of which everything has been said.
	if text := strings.TrimSpace(err.Error()); text != "" {
		// Joined errors come with a line for each.
		fmt.Fprintf(w, "maddy: %s\n", oneLine(strings.ReplaceAll(text, "\n", "; ")))
	}
	if f := (*failure)(nil); errors.As(err, &f) && f.hint != "" {
		fmt.Fprintf(w, "maddy: hint: %s\n", oneLine(f.hint))
	}
	code := exitFailure
	if coder := cli.ExitCoder(nil); errors.As(err, &coder) {
		code = coder.ExitCode()
	}
	if f := (*failure)(nil); code == 3 && !errors.As(err, &f) { // the parser's own code for "help" on an unknown topic
		code = exitUsage
	}
	return code
}

// explain adds the next step to errors of a block, or of opening it, whose cause can be told. Database drivers and
// maddy's modules keep their error types to themselves, so all there is to go by is the text.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	says := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(err.Error(), part) {
				return true
			}
		}
		return false
	}
	switch {
	case noSuchTable(err.Error()), says("the database file ") && says("does not exist"):
		return withHint(err, "the server makes its tables when it starts. If there were rows in it, restore them before that: "+
			"relays that run go on with the settings they knew while the table is missing, and lose them to an empty one")
	case says("database is locked", "database table is locked", "SQLITE_BUSY", "serialization failure"):
		return withHint(err, "another process holds the database; try again, and if it stays so, stop the server first")
	case says("pq: permission denied", "pq: must be owner"):
		return withHint(err, "the user of the database lacks a right; the easiest is that it owns the tables")
	case errors.Is(err, fs.ErrPermission), says("permission denied", "readonly database", "unable to open database file"):
		return withHint(err, "run the command as the user that the server runs as")
	case says("not mutable"):
		return withHint(err, "the block reads its users from a source that this command cannot change; manage them there")
	case says("unknown module"):
		return withHint(err, "the module's name may be misspelt, or belong to a build with other modules than this one")
	default:
		return err
	}
}

// oneLine returns s with everything that is not printable escaped, so that text from a database or a configuration
// can neither forge a second line nor move the cursor of the terminal it is shown on.
func oneLine(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}
