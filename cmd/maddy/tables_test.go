package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/pgtest"
)

// TestMissingTables: a table that PostgreSQL has lost, or never had, is made by the server or by who makes the first key,
// and by no command that asks or changes a row.
func TestMissingTables(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t).Database(t)
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conf := filepath.Join(t.TempDir(), "maddy.conf")
	table := func(name string) string {
		return fmt.Sprintf("sql_table {\ndriver postgres\ndsn %q\ntable_name %s\n}\n", dsn, name)
	}
	text := "state_dir " + filepath.Dir(conf) + "\nruntime_dir " + filepath.Dir(conf) + "\nhostname mx.example.org\n" +
		"table." + strings.Replace(table("api_keys"), "{", "the_keys {", 1) +
		"http_api tcp://127.0.0.1:0 {\nkeys &the_keys\n}\n" +
		"tls_policy outbound_policy {\ndomains " + table("tls_domains") + "}\n" +
		"target.remote_tls outbound {\npolicy &outbound_policy\nresolver 127.0.0.1:1\n}\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	maddy := func(line string) (string, int) {
		t.Helper()
		cmd := exec.Command(executable(t), append([]string{"--config", conf, "tls"}, strings.Fields(line)...)...)
		cmd.Args[0] = "maddy"
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	tables := func() (names string) {
		t.Helper()
		row := db.QueryRow("SELECT coalesce(string_agg(tablename, ' '), '') FROM pg_tables WHERE schemaname = 'public'")
		if err := row.Scan(&names); err != nil {
			t.Fatal(err)
		}
		return names
	}
	const explain = "explain --from a@a.from --to b@example.net"
	for line, want := range map[string]string{
		"domain list": "tls_domains", "domain get a.from": "tls_domains", explain: "tls_domains",
		"domain set a.from require_tls=yes": "tls_domains", "domain unset a.from": "tls_domains",
		"key list": "api_keys", "key list --table the_keys": "api_keys", "key revoke abc": "api_keys",
	} {
		out, code := maddy(line)
		if code == 0 || code == 3 || !strings.Contains(out, "table "+want+": the table does not exist: ") ||
			!strings.Contains(out, `relation "`+want+`" does not exist`) || !strings.Contains(out, "restore them before that") {
			t.Errorf("%s: exit code %d\n%s", line, code, out)
		}
	}
	if names := tables(); names != "" {
		t.Errorf("made: %s", names)
	}

	if out, code := maddy("key create"); code != 0 {
		t.Errorf("the first key: %s", out)
	}
	if names := tables(); names != "api_keys" {
		t.Errorf("after the first key: %s", names)
	}
	if _, err := db.Exec("CREATE TABLE tls_domains (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{
		{"domain list", "No domains."}, {"domain set a.from require_tls=yes", ""}, {"domain get a.from", `yes        table, row "a.from"`},
		{"domain set a.from require_tls=no", ""}, {"domain list", "require_tls=no"}, {"domain unset a.from", ""},
		{"domain list", "No domains."}, {"key list", "full"},
	} {
		if out, code := maddy(step[0]); code != 0 || !strings.Contains(out, step[1]) {
			t.Errorf("%s: exit code %d, %s", step[0], code, out)
		}
	}
	if out, code := maddy(explain); code != 3 || !strings.Contains(out, "require_tls") {
		t.Errorf("%s: exit code %d, want 3, since no resolver answers\n%s", explain, code, out)
	}
}

// executable is this binary, which can be run as maddy.
func executable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Tables are replaced wherever they stand, and keep the names by which they are referred to.
func TestTablesAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{
		{"table.sql_table a b {\ndsn x\n}", "table.sql_table_as_it_is a b {\ndsn x\n}"},
		{"table.sql_query {\ndsn x\n}", "table.sql_query_as_it_is table.sql_query {\ndsn x\n}"},
		{"x sql_table {\ndomains sql_table {\ndsn sql_table\n}\n}", "x sql_table {\ndomains table.sql_table_as_it_is {\ndsn sql_table\n}\n}"},
		{"table.chain c {\nstep table.sql_query {\ndsn x\n}\n}", "table.chain c {\nstep table.sql_query_as_it_is {\ndsn x\n}\n}"},
		{"x {\nauth pass_table sql_table {\ndsn x\n}\n}", "x {\nauth pass_table table.sql_table_as_it_is {\ndsn x\n}\n}"},
		{"x {\ndomains &sql_table\n}", "x {\ndomains &sql_table\n}"},
	} {
		got, want := openTablesAsTheyAre(nodes(t, tt[0])), nodes(t, tt[1])
		if !sameNode(config.Node{Children: got}, config.Node{Children: want}) {
			t.Errorf("%s:\ngot %v\nwant %v", tt[0], got, want)
		}
	}
}

func nodes(t *testing.T, text string) []config.Node {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

func TestSQLiteFile(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"a.db": "a.db", "/x/a.db?_busy_timeout=1": "/x/a.db", "file:a.db?mode=rwc": "a.db", "file:/x/a%20b.db": "/x/a b.db",
		"file:///x/a.db": "/x/a.db", "file://localhost/x/a.db?cache=shared": "/x/a.db",
		":memory:": "", "file::memory:?cache=shared": "", "file:a?mode=memory": "", "": "",
	} {
		if got := sqliteFile(dsn); got != want {
			t.Errorf("%s: got %q, want %q", dsn, got, want)
		}
	}
}

func TestQueriesThatSetUp(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"SET search_path = mail": true, " pragma busy_timeout = 5000; ": true,
		"CREATE TABLE t (k TEXT)": false, "SET x = 1; CREATE TABLE t (k TEXT)": false, "": false,
	} {
		if got := setsUp(query); got != want {
			t.Errorf("%q: %v", query, got)
		}
	}
}
