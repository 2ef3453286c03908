package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/module"
	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// TestTLSCommands: the group is there exactly if there is something in it.
func TestTLSCommands(t *testing.T) {
	t.Parallel()
	if groups := tlsCommands(); len(groups) != 0 {
		t.Errorf("an empty group became %d commands", len(groups))
	}
	var ran bool
	groups := tlsCommands(&cli.Command{
		Name:   "demo",
		Action: func(*cli.Context) error { ran = true; return nil },
	})
	if len(groups) != 1 {
		t.Fatalf("%d groups, want 1", len(groups))
	}
	finish(groups[0])
	app := &cli.App{
		Name:           "maddy",
		Commands:       groups,
		ExitErrHandler: func(*cli.Context, error) {},
		Writer:         io.Discard,
		ErrWriter:      io.Discard,
	}
	if err := app.Run([]string{"maddy", "tls", "demo"}); err != nil || !ran {
		t.Errorf("tls demo: ran %v, error %v", ran, err)
	}
	checkError(t, app.Run([]string{"maddy", "tls", "nothing"}), `unknown command "nothing"`)
}

// userDB is a credentials store that, as its interface allows, answers an unknown user and a wrong password alike.
type userDB struct {
	module.PlainUserDB // what is not used here
	users              []string
	authErr, listErr   error
}

func (db *userDB) AuthPlain(string, string) error       { return db.authErr }
func (db *userDB) ListUsers() (users []string, _ error) { return db.users, db.listErr }

func TestMustExist(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		db      userDB
		wantErr string
	}{
		{"wrong password", userDB{authErr: errors.New("hash mismatch")}, ""},
		{"no password at all", userDB{}, ""},
		{"unknown", userDB{authErr: module.ErrUnknownCredentials, users: []string{"bob"}}, `no credentials for "Alice"`},
		{"unknown or wrong password", userDB{authErr: module.ErrUnknownCredentials, users: []string{"bob", "alice"}}, ""},
		{"cannot tell", userDB{authErr: module.ErrUnknownCredentials, listErr: errors.New("connection refused")},
			"connection refused"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			checkError(t, mustExist(&test.db, "Alice"), test.wantErr)
		})
	}
}

// TestPrintUsers: a name cannot pass for two, nor do anything to the terminal.
func TestPrintUsers(t *testing.T) {
	t.Parallel()
	var out, errOut strings.Builder
	app := &cli.App{
		Name:      "maddy",
		Writer:    &out,
		ErrWriter: &errOut,
		Action: func(c *cli.Context) error {
			return printUsers(c, func() ([]string, error) { return []string{"alice", "b\nob\x1b[2J"}, nil })
		},
	}
	if err := app.Run([]string{"maddy"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("alice\nb\\nob\\x1b[2J\n", out.String()); diff != "" {
		t.Errorf("stdout (-want +got):\n%s", diff)
	}
	if errOut.Len() != 0 {
		t.Errorf("stderr %q", errOut.String())
	}
}
