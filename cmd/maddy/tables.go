package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
)

// maddy's tables in databases make what is missing as soon as they are opened. A table that is missing is a database
// that was lost, or a failover to an empty one; relays that run know that, and go on with the settings they knew. If a
// command made the table anew, they would find it empty, and send in clear what must not be sent so. So where a command
// does not have to make a table, it opens them as they are: each sql_table and sql_query of the configuration becomes a
// module of the same directives that makes nothing.

// asTheyAre are the names of the modules that make tables, and what stands for them in the process of a command.
var asTheyAre = map[string]string{
	"sql_table": "table.sql_table_as_it_is", "table.sql_table": "table.sql_table_as_it_is",
	"sql_query": "table.sql_query_as_it_is", "table.sql_query": "table.sql_query_as_it_is",
}

// registerAsTheyAre makes these modules known. The server does not have them.
var registerAsTheyAre = sync.OnceFunc(func() {
	for name, lookup := range map[string]func(*config.Map) (sqlQueries, error){
		"table.sql_table": readSQLTable, "table.sql_query": readSQLQuery,
	} {
		module.Register(asTheyAre[name], func(_, instName string, aliases, inlineArgs []string) (module.Module, error) {
			inner, err := module.Get("table.sql_query")(name, instName, aliases, inlineArgs)
			if err != nil {
				return nil, err
			}
			table, ok := inner.(sqlTable)
			if !ok {
				return nil, fmt.Errorf("%s: not the module of this name that maddy has", name)
			}
			return &tableAsItIs{table, lookup}, nil
		})
	}
})

// openTablesAsTheyAre replaces the tables of a configuration, wherever they stand in it.
func openTablesAsTheyAre(blocks []config.Node) []config.Node {
	registerAsTheyAre()
	blocks = slices.Clone(blocks)
	for i, block := range blocks {
		if name, ok := asTheyAre[block.Name]; ok {
			if len(block.Args) == 0 {
				blocks[i].Args = []string{block.Name} // by which it is referred to
			}
			blocks[i].Name = name
		}
		blocks[i].Children = inlineTablesAsTheyAre(block.Children)
	}
	return blocks
}

// inlineTablesAsTheyAre does so with the directives of a block. A table inside another block is named in a directive's
// arguments, and what follows in braces is its own.
func inlineTablesAsTheyAre(directives []config.Node) []config.Node {
	directives = slices.Clone(directives) // nil stays nil: no braces
	for i, d := range directives {
		if d.Children == nil {
			continue
		}
		directives[i].Children = inlineTablesAsTheyAre(d.Children)
		at := slices.IndexFunc(d.Args, func(arg string) bool { return asTheyAre[arg] != "" })
		if at >= 0 {
			directives[i].Args = slices.Clone(d.Args)
			directives[i].Args[at] = asTheyAre[d.Args[at]]
		}
	}
	return directives
}

// sqlTable is what maddy's table.sql_query can do.
type sqlTable interface {
	module.MutableTable
	module.Module
	io.Closer
	LookupMulti(ctx context.Context, key string) ([]string, error)
}

// tableAsItIs is a table.sql_query that is given nothing to do when it is opened.
type tableAsItIs struct {
	sqlTable
	read func(*config.Map) (sqlQueries, error)
}

// sqlQueries are the directives of a table.sql_query.
type sqlQueries struct {
	driver string
	dsn    string
	table  string // its name, "" if only the queries know it
	nodes  []config.Node
}

// Init opens the table. It is an error if it does not exist.
func (t *tableAsItIs) Init(cfg *config.Map) error {
	q, err := t.read(cfg)
	if err != nil {
		return err
	}
	// SQLite makes the file of a database that is only read, too.
	if path := sqliteFile(q.dsn); q.driver == "sqlite3" && path != "" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return config.NodeErr(cfg.Block, "%sthe database file %s does not exist", q.named(), path)
		}
	}
	block := cfg.Block
	block.Children = q.nodes
	err = t.sqlTable.Init(config.NewMap(cfg.Globals, block))
	if err == nil && q.driver == "sqlite3" {
		// The driver of a build without cgo takes any query, and looks at it when it is asked. What else it says then
		// whoever asks is told.
		if _, _, asked := t.Lookup(context.Background(), "there.invalid"); asked != nil && noSuchTable(asked.Error()) {
			err = config.NodeErr(cfg.Block, "%v", errors.Join(asked, t.Close()))
		}
	}
	if err != nil && noSuchTable(err.Error()) {
		return fmt.Errorf("%sthe table does not exist: %w", q.named(), err)
	}
	return err
}

func (q sqlQueries) named() string {
	if q.table == "" {
		return ""
	}
	return "table " + q.table + ": "
}

// noSuchTable tells by the text, that of PostgreSQL and that of SQLite.
func noSuchTable(text string) bool {
	return strings.Contains(text, "no such table") || strings.Contains(text, "pq: relation ") && strings.Contains(text, "does not exist")
}

// readSQLTable reads the directives of a table.sql_table, and writes the queries that it makes of them.
func readSQLTable(cfg *config.Map) (sqlQueries, error) {
	var (
		q          sqlQueries
		dsn        []string
		key, value string
	)
	cfg.String("driver", false, true, "", &q.driver)
	cfg.StringList("dsn", false, true, nil, &dsn)
	cfg.String("table_name", false, true, "", &q.table)
	cfg.String("key_column", false, false, "key", &key)
	cfg.String("value_column", false, false, "value", &value)
	if _, err := cfg.Process(); err != nil {
		return q, err
	}
	q.dsn = strings.Join(dsn, " ")
	named, keyIs, valueIs := "no", "$1", "$2"
	if q.driver == "sqlite3" {
		named, keyIs, valueIs = "yes", ":key", ":value" // it numbers $1 and $2 in the order in which they come
	}
	add := func(name string, args ...string) { q.nodes = append(q.nodes, config.Node{Name: name, Args: args}) }
	add("driver", q.driver)
	add("dsn", dsn...)
	add("named_args", named)
	add("lookup", fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s", value, q.table, key, keyIs))
	add("list", fmt.Sprintf("SELECT %s FROM %s", key, q.table))
	add("add", fmt.Sprintf("INSERT INTO %s (%s, %s) VALUES (%s, %s)", q.table, key, value, keyIs, valueIs))
	add("set", fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s = %s", q.table, value, valueIs, key, keyIs))
	add("del", fmt.Sprintf("DELETE FROM %s WHERE %s = %s", q.table, key, keyIs))
	return q, nil
}

// readSQLQuery takes the directives of a table.sql_query, but for those `init` queries that do more than set up a
// connection. What else is wrong with them the module itself tells.
func readSQLQuery(cfg *config.Map) (sqlQueries, error) {
	var q sqlQueries
	for _, node := range cfg.Block.Children {
		switch {
		case node.Name == "driver" && len(node.Args) == 1:
			q.driver = node.Args[0]
		case node.Name == "dsn":
			q.dsn = strings.Join(node.Args, " ")
		case node.Name == "init":
			node.Args = slices.DeleteFunc(slices.Clone(node.Args), func(query string) bool { return !setsUp(query) })
			if len(node.Args) == 0 {
				continue
			}
		}
		q.nodes = append(q.nodes, node)
	}
	return q, nil
}

// setsUp reports whether a query makes nothing.
func setsUp(query string) bool {
	words := strings.Fields(query)
	return len(words) > 0 && !strings.Contains(strings.TrimRight(query, "; \t\r\n"), ";") &&
		slices.Contains([]string{"SET", "PRAGMA"}, strings.ToUpper(words[0]))
}

// sqliteFile is the file that a data source name of SQLite leads to, "" if it leads to none.
func sqliteFile(dsn string) string {
	path, options, _ := strings.Cut(dsn, "?")
	uri, isURI := strings.CutPrefix(path, "file:")
	if isURI {
		if authority, ok := strings.CutPrefix(uri, "//"); ok {
			_, rest, _ := strings.Cut(authority, "/")
			uri = "/" + rest
		}
		path, _, _ = strings.Cut(uri, "#")
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}
		if values, err := url.ParseQuery(options); err == nil && values.Get("mode") == "memory" {
			return ""
		}
	}
	if path == ":memory:" {
		return ""
	}
	return path
}
