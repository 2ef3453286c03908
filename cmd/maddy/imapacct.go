package main

import (
	"errors"
	"fmt"

	"github.com/foxcpp/maddy/framework/module"
	"github.com/urfave/cli/v2"
)

// storageKind is what an operator calls a block that "imap-acct" can work on.
const storageKind = "a storage whose accounts can be managed"

// imapAcctCommand returns "maddy imap-acct".
func imapAcctCommand() *cli.Command {
	return &cli.Command{
		Name:  "imap-acct",
		Usage: "IMAP storage accounts management",
		Description: `These commands change the accounts of a mail storage.

The storage is a top-level block of the configuration, local_mailboxes unless
--cfg-block names another.

An account alone lets nobody log in: the user needs credentials too, see "maddy
creds create".`,
		Subcommands: []*cli.Command{
			{
				Name:   "list",
				Usage:  "List storage accounts",
				Flags:  []cli.Flag{cfgBlockFlag("local_mailboxes"), quietFlag()},
				Action: imapAcctList,
			},
			{
				Name:        "create",
				Usage:       "Create an IMAP storage account",
				Description: "The account gets the usual folders, marked with their special use (RFC 6154).",
				ArgsUsage:   "USERNAME",
				Flags:       append([]cli.Flag{cfgBlockFlag("local_mailboxes")}, folderFlags()...),
				Action:      imapAcctCreate,
			},
			{
				Name:        "remove",
				Usage:       "Delete an IMAP storage account",
				Description: "All messages of the account are deleted, also while a client has them open.",
				ArgsUsage:   "USERNAME",
				Flags:       []cli.Flag{cfgBlockFlag("local_mailboxes"), yesFlag()},
				Action:      imapAcctRemove,
			},
		},
	}
}

// specialFolders are the folders that a new account gets: the flag that renames one, the name without it, its
// attribute (RFC 6154, section 2).
var specialFolders = []struct{ flag, name, attribute, use string }{
	{"sent-name", "Sent", `\Sent`, "sent messages"},
	{"trash-name", "Trash", `\Trash`, "trash"},
	{"junk-name", "Junk", `\Junk`, "junk (spam)"},
	{"drafts-name", "Drafts", `\Drafts`, "drafts"},
	{"archive-name", "Archive", `\Archive`, "the archive"},
}

// folderFlags returns the flags of "imap-acct create" that decide about folders.
func folderFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "no-specialuse", Usage: "Do not create special-use folders"},
	}
	for _, folder := range specialFolders {
		flags = append(flags, &cli.StringFlag{
			Name:  folder.flag,
			Usage: fmt.Sprintf("`NAME` of the folder for %s, an empty one to create none", folder.use),
			Value: folder.name,
		})
	}
	return flags
}

func imapAcctList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	return withBlock(c, storageKind, func(storage module.ManageableStorage) error {
		return printUsers(c, storage.ListIMAPAccts)
	})
}

func imapAcctCreate(c *cli.Context) error {
	username, err := newUsername(c)
	if err != nil {
		return err
	}
	return withBlock(c, storageKind, func(storage module.ManageableStorage) error {
		if err := storage.CreateIMAPAcct(username); err != nil {
			return fmt.Errorf("cannot create the account %s: %w", username, err)
		}
		if c.Bool("no-specialuse") {
			return nil
		}
		if err := createFolders(c, storage, username); err != nil {
			return fmt.Errorf("the account %s was created, but not all of its folders: %w", username, err)
		}
		return nil
	})
}

// createFolders creates the special-use folders of a new account. One that fails does not hold up the others.
func createFolders(c *cli.Context, storage module.ManageableStorage, username string) error {
	account, err := storage.GetIMAPAcct(username)
	if err != nil {
		return err
	}
	// What a storage offers that knows special use; go-imap has no name for it.
	special, ok := account.(interface {
		CreateMailboxSpecial(name, attribute string) error
	})
	if !ok {
		fmt.Fprintln(c.App.ErrWriter, "Note: the storage does not know special use, its folders are ordinary ones.")
	}
	var errs []error
	for _, folder := range specialFolders {
		name := c.String(folder.flag)
		if name == "" {
			continue
		}
		if ok {
			err = special.CreateMailboxSpecial(name, folder.attribute)
		} else {
			err = account.CreateMailbox(name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", name, err))
		}
	}
	return errors.Join(append(errs, account.Logout())...)
}

func imapAcctRemove(c *cli.Context) error {
	username, err := oneArgument(c, "USERNAME")
	if err != nil {
		return err
	}
	return withBlock(c, storageKind, func(storage module.ManageableStorage) error {
		if !c.Bool("yes") {
			if err := confirm(c, fmt.Sprintf("Delete the account %s and all of its messages?", username)); err != nil {
				return err
			}
		}
		if err := storage.DeleteIMAPAcct(username); err != nil {
			return fmt.Errorf("cannot delete the account %s: %w", username, err)
		}
		return nil
	})
}
