package events

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/pressly/goose/v3"
)

// sqliteDialect is SQLite through the driver that the process has: the library
// itself where there is cgo (sqlite_cgo.go), else a translation to Go.
var sqliteDialect = dialect{
	migrations:  "migrations/sqlite",
	migrate:     migrateSQLite,
	writers:     1, // SQLite has one at a time
	indexOf:     "instr",
	parted:      true,
	badDocument: func(error) bool { return false }, // it takes whatever it is given
	// No statistics: what a question goes by is settled in how it is asked, and what
	// was found when there were few events would only mislead the planner. Somebody
	// may have made some by hand.
	upkeep: []string{removeParts, "DROP TABLE IF EXISTS sqlite_stat1"},
}

// Pragmas of every connection. WAL lets readers read while somebody writes.
// With synchronous FULL a commit is on the disk when it returns: only then may
// the journal forget. The cache is negative KiB. A checkpoint, every 160 MB, copies
// pages of the indexes once that were written many times. Of a page of 4 KiB, which is
// what SQLite chooses itself, two rows leave much unused; a file that was made so stays
// so, and has its checkpoints every 80 MB.
var (
	sqlitePragmas = []string{
		"PRAGMA busy_timeout = 5000", "PRAGMA page_size = 8192", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL",
		"PRAGMA cache_size = -65536", "PRAGMA temp_store = MEMORY", "PRAGMA wal_autocheckpoint = 20000",
	}
	sqliteReaderPragmas = []string{
		"PRAGMA busy_timeout = 5000", "PRAGMA query_only = ON", "PRAGMA cache_size = -16384", "PRAGMA temp_store = MEMORY",
	}
)

// sqliteSchemaPragmas are those of the connection that changes the schema. An
// index of all events is sorted in a file, and not in memory.
var sqliteSchemaPragmas = append(slices.Clone(sqlitePragmas), "PRAGMA temp_store = FILE")

// openSQLite gives the database in a file.
func openSQLite(path string, partSize int64) *database {
	d := sqliteDialect
	d.insert = sqliteInserter{partSize}.insert
	db := newDatabase(d, &sqliteConnector{path, sqlitePragmas}, &sqliteConnector{path, sqliteReaderPragmas})
	db.path = path
	db.read.SetConnMaxLifetime(maxIdle) // see leave
	return db
}

// migrateSQLite brings the schema up to date over a connection of its own.
func migrateSQLite(ctx context.Context, db *database, folder fs.FS) error {
	changer := sql.OpenDB(&sqliteConnector{db.path, sqliteSchemaPragmas})
	defer changer.Close()
	// goose logs and waits when it cannot connect; this says it at once.
	if err := changer.PingContext(ctx); err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, changer, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return db.examined(ctx, changer, fmt.Errorf("preparing the schema: %w", err))
	}
	return nil
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
	row := "(?" + strings.Repeat(",?", columnCount) + ")"
	return "INSERT OR IGNORE INTO events (" + columnNames + ", part) VALUES " + row + strings.Repeat(","+row, rows-1)
}

// sqliteInserter inserts rows into parts of a size.
type sqliteInserter struct{ partSize int64 }

func (s sqliteInserter) insert(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) (stored int64, err error) {
	before, err := readParts(ctx, tx)
	if err != nil {
		return 0, err
	}
	parts := slices.Clone(before)
	if stored, err = insertSQLite(ctx, tx, rows, parts); err != nil || stored == 0 {
		return 0, err
	}
	return stored, parts.save(ctx, tx, before, s.partSize)
}

func insertSQLite(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument, parts parts) (stored int64, err error) {
	var insert *sql.Stmt // for several full statements
	if len(rows) >= rowsAtOnce {
		if insert, err = tx.PrepareContext(ctx, sqliteInsert(rowsAtOnce)); err != nil {
			return 0, err
		}
		defer insert.Close()
	}
	args := make([]any, 0, min(len(rows), rowsAtOnce)*(columnCount+1))
	for now := range slices.Chunk(rows, rowsAtOnce) {
		args = args[:0]
		for i := range now {
			part := &parts[parts.of(now[i].ts)]
			part.fresh++
			args = append(now[i].appendArgs(args), part.number)
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
		r.queueID, r.reason, int64(r.tls), int64(r.verified), r.mxHost, r.size, r.subject, r.tags, r.list, r.sent, string(r.document))
}
