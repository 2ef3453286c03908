package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"
)

// credsKind is what an operator calls a block that "creds" can work on.
const credsKind = "a local credentials store"

// credsCommand returns "maddy creds".
func credsCommand() *cli.Command {
	return &cli.Command{
		Name:  "creds",
		Usage: "Local credentials management",
		Description: `These commands change the credentials with which users log in.

The credentials database is a top-level block of the configuration, local_authdb
unless --cfg-block names another.

Credentials alone give no access to mailboxes over IMAP: the user needs an account
in the storage too, see "maddy imap-acct create".`,
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "List users",
				Flags:  []cli.Flag{cfgBlockFlag("local_authdb"), quietFlag()},
				Action: credsList,
			},
			{
				Name:  "create",
				Usage: "Create user credentials",
				Description: `The password is asked for on a terminal, else read as one line from stdin.

It is stored as the block stores new passwords: in auth.pass_table as bcrypt, cost 10.
maddy's flags --hash and --bcrypt-cost do not exist here, because a custom build has
no access to what they need.`,
				ArgsUsage: "USERNAME",
				Flags:     []cli.Flag{cfgBlockFlag("local_authdb"), passwordFlag()},
				Action:    credsCreate,
			},
			{
				Name:      "remove",
				Usage:     "Delete user credentials",
				ArgsUsage: "USERNAME",
				Flags:     []cli.Flag{cfgBlockFlag("local_authdb"), yesFlag()},
				Action:    credsRemove,
			},
			{
				Name:        "password",
				Usage:       "Change a user's password",
				Description: "The password is asked for on a terminal, else read as one line from stdin.",
				ArgsUsage:   "USERNAME",
				Flags:       []cli.Flag{cfgBlockFlag("local_authdb"), passwordFlag()},
				Action:      credsPassword,
			},
		},
	}
}

// yesFlag returns --yes, which takes the place of the question before something is removed.
func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "Don't ask for confirmation"}
}

// quietFlag returns --quiet, which maddy's list commands look for.
func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "Don't say that there are no users"}
}

func credsList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withBlock(c, credsKind, func(db module.PlainUserDB) error {
		return printUsers(c, db.ListUsers)
	})
}

func credsCreate(c *cli.Context) error {
	username, err := newUsername(c)
	if err != nil {
		return err
	}
	return withBlock(c, credsKind, func(db module.PlainUserDB) error {
		password, err := newPassword(c, username)
		if err != nil {
			return err
		}
		return db.CreateUser(username, password)
	})
}

func credsRemove(c *cli.Context) error {
	username, err := oneArgument(c, "USERNAME")
	if err != nil {
		return err
	}
	return withBlock(c, credsKind, func(db module.PlainUserDB) error {
		if err := mustExist(db, username); err != nil {
			return err
		}
		if !c.Bool("yes") {
			if err := confirm(c, fmt.Sprintf("Remove the credentials of %s?", username)); err != nil {
				return err
			}
		}
		return db.DeleteUser(username)
	})
}

func credsPassword(c *cli.Context) error {
	username, err := oneArgument(c, "USERNAME")
	if err != nil {
		return err
	}
	return withBlock(c, credsKind, func(db module.PlainUserDB) error {
		if err := mustExist(db, username); err != nil {
			return err
		}
		password, err := newPassword(c, username)
		if err != nil {
			return err
		}
		return db.SetUserPassword(username, password)
	})
}

// mustExist returns an error if db has no user of this name. auth.pass_table would create a user whose password is
// set and "remove" one that never was, so that a slip of the finger goes unnoticed.
//
// A database may know a name in other spellings than the one that it lists, so it is asked itself first. Its "no"
// does not count alone: by its interface it may give the same answer to a wrong password.
func mustExist(db module.PlainUserDB, username string) error {
	if err := db.AuthPlain(username, ""); !errors.Is(err, module.ErrUnknownCredentials) {
		return nil
	}
	users, err := db.ListUsers()
	if err != nil {
		return err
	}
	for _, user := range users {
		if strings.EqualFold(user, username) {
			return nil
		}
	}
	return withHint(fmt.Errorf("there are no credentials for %q", username), "\"maddy creds list\" shows all users")
}

// newUsername returns the argument USERNAME of a command that creates a user. Names that cannot be shown, or typed
// again, are refused; they are accepted where an existing user is meant.
func newUsername(c *cli.Context) (string, error) {
	username, err := oneArgument(c, "USERNAME")
	if err != nil {
		return "", err
	}
	unprintable := strings.ContainsFunc(username, func(r rune) bool { return !unicode.IsPrint(r) })
	if unprintable || !utf8.ValidString(username) || strings.TrimSpace(username) != username {
		return "", usageError(c, "%q cannot be the name of a user", username)
	}
	return username, nil
}

// printUsers writes the users that list returns to stdout, one a line. That there are none is told on stderr, where
// it does not look like a user to a script.
func printUsers(c *cli.Context, list func() ([]string, error)) error {
	users, err := list()
	if err != nil {
		return err
	}
	if len(users) == 0 && !c.Bool("quiet") {
		fmt.Fprintln(c.App.ErrWriter, "No users.")
	}
	var text strings.Builder
	for _, user := range users {
		text.WriteString(oneLine(user) + "\n")
	}
	_, err = io.WriteString(c.App.Writer, text.String())
	return err
}
