package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func TestReport(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want string
		code int
	}{
		{"plain", errors.New("it broke"), "maddy: it broke\n", 1},
		{"hint", withHint(errors.New("it broke"), "mend %q", "it"), "maddy: it broke\nmaddy: hint: mend \"it\"\n", 1},
		{"wrapped hint", fmt.Errorf("block: %w", withHint(errors.New("it broke"), "mend it")),
			"maddy: block: it broke\nmaddy: hint: mend it\n", 1},
		{"of maddy", cli.Exit("no listener\n", 7), "maddy: no listener\n", 7},
		{"said already", cli.Exit("", 2), "", 2},
		{"of help", cli.Exit("no help topic", 3), "maddy: no help topic\n", 2},
		{"joined", errors.Join(errors.New("one"), errors.New("two")), "maddy: one; two\n", 1},
		{"hostile", errors.New("x\r\x1b[2Jy\u2028\u202e\xff\nmaddy: hint: curl"),
			`maddy: x\r\x1b[2Jy\u2028\u202e\ufffd; maddy: hint: curl` + "\n", 1},
		{"readable", errors.New(`Grüße an "用户" & 'co'`), "maddy: Grüße an \"用户\" & 'co'\n", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if code := report(&out, test.err); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, hint string
		err        error
	}{
		{"busy", "another process", errors.New("imapsql: NewBackend (initSchema): database is locked")},
		{"busy storage", "another process", errors.New("imapsql: serialization failure, try again later")},
		{"no access", "as the user that the server runs as", &fs.PathError{Op: "mkdir", Path: "/x", Err: fs.ErrPermission}},
		{"no access to the database", "as the user that the server runs as",
			errors.New("sql_table: add alice: attempt to write a readonly database")},
		{"no right in PostgreSQL", "owns the tables", errors.New("lookup a: pq: permission denied for table tls_domains")},
		{"no table in PostgreSQL", "restore them before that", errors.New(`failed to prepare lookup query: pq: relation "api_keys" does not exist`)},
		{"no table in SQLite", "restore them before that", errors.New("no such table: api_keys")},
		{"anything else", "", errors.New("sql_table: disk I/O error")},
		{"explained already", "do this", withHint(errors.New("database is locked"), "do this")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := explain(test.err)
			if !errors.Is(err, test.err) || err.Error() != test.err.Error() {
				t.Errorf("explained %v as %v", test.err, err)
			}
			var hint string
			if f := (*failure)(nil); errors.As(err, &f) {
				hint = f.hint
			}
			if (hint == "") != (test.hint == "") || !strings.Contains(hint, test.hint) {
				t.Errorf("hint %q, want one with %q", hint, test.hint)
			}
		})
	}
	if err := explain(nil); err != nil {
		t.Errorf("explained nothing as %v", err)
	}
}
