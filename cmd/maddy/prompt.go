package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// maxLine is the longest answer that is read, in bytes: as much as a terminal hands out as one line on Linux.
const maxLine = 4096

// passwordFlag returns --password, which takes the place of the question.
func passwordFlag() cli.Flag {
	return &cli.StringFlag{
		Name:    "password",
		Aliases: []string{"p"},
		Usage: "Use `PASSWORD` instead of reading it from stdin.\n\t\tWARNING: for debugging only. " +
			"It ends up in the shell's history and is visible to other users!",
	}
}

// newPassword returns the password that the user username shall have: from the flag --password, or asked twice on a
// terminal, without echo, or the first line of stdin. It is never empty.
func newPassword(c *cli.Context, username string) (string, error) {
	password, err := readPassword(c, username)
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", errors.New("the password is empty")
	case strings.ContainsRune(password, 0):
		// RFC 4616, section 2: no client could ever send it.
		return "", errors.New("the password contains a zero byte")
	}
	return password, nil
}

func readPassword(c *cli.Context, username string) (string, error) {
	if c.IsSet("password") {
		return c.String("password"), nil
	}
	tty, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return readLine(c.App.Reader)
	}
	first, err := readHidden(tty, c.App.ErrWriter, fmt.Sprintf("New password for %s: ", oneLine(username)))
	if err != nil || first == "" {
		return "", err
	}
	second, err := readHidden(tty, c.App.ErrWriter, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the passwords differ, nothing was changed")
	}
	return first, nil
}

// readHidden asks question and reads one line of the terminal without showing it. A terminal whose user gives up
// (interrupt) or whose process is told to end shows again what is typed.
func readHidden(tty *os.File, prompts io.Writer, question string) (string, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("cannot read the terminal's state: %w", err)
	}
	ended, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	fmt.Fprint(prompts, question)
	go func() {
		line, err := term.ReadPassword(fd)
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		fmt.Fprintln(prompts) // the one that was typed was not shown either
		if a.err != nil {
			return "", fmt.Errorf("cannot read the password: %w", a.err)
		}
		return string(a.line), nil
	case <-ended.Done():
		// The read cannot be called off; it ends with the process, which is about to.
		fmt.Fprintln(prompts)
		if err := term.Restore(fd, state); err != nil {
			return "", withHint(errors.New("interrupted"), "type \"stty echo\" to see again what you type")
		}
		return "", errors.New("interrupted")
	}
}

// confirm asks question on stderr and returns an error unless a line of stdin says yes.
func confirm(c *cli.Context, question string) error {
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N]: ", oneLine(question))
	line, err := readLine(c.App.Reader)
	if err != nil {
		return withHint(err, "--yes answers the question beforehand")
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	default:
		return errors.New("cancelled, nothing was removed")
	}
}

// readLine reads one line, without its end. What follows it is not looked at.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine+1)).ReadString('\n')
	switch {
	case err == io.EOF && line == "":
		return "", errors.New("stdin ended without an answer")
	case err != nil && err != io.EOF:
		return "", fmt.Errorf("cannot read stdin: %w", err)
	case len(line) > maxLine:
		return "", fmt.Errorf("the line on stdin is longer than %d bytes", maxLine)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}
