package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"
)

// TestMain lets the scripts, and the tests that need a process of their own, run this binary as maddy.
func TestMain(m *testing.M) {
	os.Exit(testscript.RunMain(m, map[string]func() int{
		"maddy": func() int { return run(os.Args) },
	}))
}

// TestScripts runs the command line as it is typed. Each script of testdata is one promise.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		// The configuration of a script has its state below $WORK, which is not known before.
		Setup: func(env *testscript.Env) error {
			env.Setenv("MADDY_CONFIG", "maddy.conf")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"expand": expand,
			"lines":  lines,
			"lock":   lock,
			"passes": passes,
			"query":  query,
			"serve":  serve,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// exits CODE PROGRAM ARG...: the program ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [arg...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit := (*exec.ExitError)(nil)
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// expand FILE: replaces $WORK in the file, and $DNS, $PORT and $STS, which serve sets.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand file")
	}
	text := ts.ReadFile(args[0])
	for _, name := range []string{"WORK", "DNS", "PORT", "STS"} {
		text = strings.ReplaceAll(text, "$"+name, ts.Getenv(name))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// lines N FILE: the file, which may be stdout or stderr, has so many lines.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines n file")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if text := ts.ReadFile(args[1]); strings.Count(text, "\n") != want {
		ts.Fatalf("%s has not %d lines:\n%s", args[1], want, text)
	}
}

// open opens the SQLite database in file, with whichever driver maddy was built with.
func open(ts *testscript.TestScript, file string) *sql.DB {
	driver := "sqlite3"
	if !slices.Contains(sql.Drivers(), driver) {
		driver = "sqlite" // without cgo
	}
	db, err := sql.Open(driver, "file:"+ts.MkAbs(file))
	ts.Check(err)
	ts.Defer(func() { db.Close() })
	db.SetMaxOpenConns(1) // locks belong to a connection
	return db
}

// lock DB: keeps the database locked until the script ends.
func lock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lock db")
	}
	_, err := open(ts, args[0]).Exec("BEGIN EXCLUSIVE")
	ts.Check(err)
}

// [!] passes DB USER PASSWORD: the user's password, as auth.pass_table keeps it in the table "passwords", is this.
func passes(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] passes db user password")
	}
	var stored string
	row := open(ts, args[0]).QueryRow("SELECT value FROM passwords WHERE key = ?", args[1])
	ts.Check(row.Scan(&stored))
	hash, ok := strings.CutPrefix(stored, "bcrypt:")
	if !ok {
		ts.Fatalf("stored value %q is no bcrypt hash", stored)
	}
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost != bcrypt.DefaultCost {
		ts.Fatalf("bcrypt cost %d (%v), want %d", cost, err, bcrypt.DefaultCost)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(args[2])); (err != nil) != neg {
		ts.Fatalf("password %q of %s: %v", args[2], args[1], err)
	}
}

// query DB SQL: writes the rows to stdout, columns separated by "|".
func query(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: query db sql")
	}
	rows, err := open(ts, args[0]).Query(args[1])
	ts.Check(err)
	defer rows.Close()
	columns, err := rows.Columns()
	ts.Check(err)
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		ts.Check(rows.Scan(into...))
		row := make([]string, len(columns))
		for i, v := range values {
			row[i] = v.String
		}
		fmt.Fprintln(ts.Stdout(), strings.Join(row, "|"))
	}
	ts.Check(rows.Err())
}
