package events

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
)

// sqliteDialect is SQLite through the driver that the process has: the library
// itself where there is cgo (sqlite_cgo.go), else a translation to Go.
var sqliteDialect = dialect{
	goose:       goose.DialectSQLite3,
	migrations:  "migrations/sqlite",
	writers:     1, // SQLite has one at a time
	indexOf:     "instr",
	insert:      insertSQLite,
	badDocument: func(error) bool { return false }, // it takes whatever it is given
	// The limit keeps a look at a large table short.
	optimize: []string{"PRAGMA analysis_limit = 400", "PRAGMA optimize"},
}

// Pragmas of every connection. WAL lets readers read while somebody writes.
// With synchronous FULL a commit is on the disk when it returns: only then may
// the journal forget. The cache is negative KiB. A checkpoint, every 160 MB, copies
// pages of the indexes once that were written many times.
var (
	sqlitePragmas = []string{
		"PRAGMA busy_timeout = 5000", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
		"PRAGMA cache_size = -65536", "PRAGMA temp_store = MEMORY", "PRAGMA wal_autocheckpoint = 40000",
	}
	sqliteReaderPragmas = []string{
		"PRAGMA busy_timeout = 5000", "PRAGMA query_only = ON", "PRAGMA cache_size = -16384", "PRAGMA temp_store = MEMORY",
	}
)

// openSQLite gives the database in a file.
func openSQLite(path string) *database {
	db := newDatabase(sqliteDialect, &sqliteConnector{path, sqlitePragmas}, &sqliteConnector{path, sqliteReaderPragmas})
	db.path = path
	db.read.SetConnMaxLifetime(maxIdle) // see leave
	return db
}

// sqliteConnector opens connections and prepares them in the same way with
// every driver.
type sqliteConnector struct {
	dsn     string
	pragmas []string
}

// Connect implements driver.Connector.
func (c *sqliteConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	x, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(errors.New("the SQLite driver cannot execute statements"), conn.Close())
	}
	for _, p := range c.pragmas {
		if _, err := x.ExecContext(ctx, p, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c *sqliteConnector) Driver() driver.Driver { return sqliteDriver() }

// rowsAtOnce is how many rows one statement inserts: SQLite has at most 32766
// parameters, and gains little from more than this.
const rowsAtOnce = 50

// sqliteInsert is a statement for rows. OR IGNORE passes over what is there, as ON
// CONFLICT DO NOTHING does. With that, SQLite would keep a copy of every page that
// the statement changes, in case that a later row has a NULL where none may be.
func sqliteInsert(rows int) string {
	row := "(?" + strings.Repeat(",?", columnCount-1) + ")"
	return "INSERT OR IGNORE INTO events (" + columnNames + ") VALUES " + row + strings.Repeat(","+row, rows-1)
}

func insertSQLite(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) (stored int64, err error) {
	var insert *sql.Stmt // for several full statements
	if len(rows) >= rowsAtOnce {
		if insert, err = tx.PrepareContext(ctx, sqliteInsert(rowsAtOnce)); err != nil {
			return 0, err
		}
		defer insert.Close()
	}
	args := make([]any, 0, min(len(rows), rowsAtOnce)*columnCount)
	for now := range slices.Chunk(rows, rowsAtOnce) {
		args = args[:0]
		for i := range now {
			args = now[i].appendArgs(args)
		}
		var res sql.Result
		if len(now) == rowsAtOnce {
			res, err = insert.ExecContext(ctx, args...)
		} else {
			res, err = tx.ExecContext(ctx, sqliteInsert(len(now)), args...)
		}
		if err != nil {
			return 0, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return 0, err
		}
		stored += n
	}
	return stored, nil
}

func (r *columnsAndDocument) appendArgs(args []any) []any {
	return append(args, r.ts, r.id, r.event, r.severity, r.sender, r.senderDomain, r.recipient, r.recipientDomain, r.messageID,
		r.queueID, r.reason, int64(r.tls), int64(r.verified), r.mxHost, r.size, r.subject, r.tags, r.list, string(r.document))
}
