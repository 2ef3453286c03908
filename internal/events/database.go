package events

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// MaxReaders is how many questions are answered at a time, others wait. Writing has
// connections of its own, so that no amount of reading keeps events from being stored.
const MaxReaders = 4

// maxIdle is how long a connection is kept that nobody uses.
const maxIdle = 5 * time.Minute

// migrateTimeout bounds the wait for a new schema, which other relays may be
// making at the moment. What was done until then stays.
const migrateTimeout = time.Hour

// ErrUnavailable says that the database could not be reached since the start.
var ErrUnavailable = errors.New("the event database is not available")

// dialect is where databases differ.
type dialect struct {
	migrations  string // folder
	migrate     func(context.Context, *database, fs.FS) error
	numbered    bool   // placeholders are $1, $2… and not ?
	parted      bool   // indexes begin with the part (parts.go)
	writers     int    // connections for writing
	twoAtOnce   bool   // two transactions can insert at a time
	indexOf     string // function that returns where one string is in another
	insert      func(context.Context, *sql.Tx, []columnsAndDocument) (int64, error)
	badDocument func(error) bool // an error that comes from what a row holds
	upkeep      []string         // statements that the database needs now and then
	clock       string           // asks what time it is, in microseconds; "" if the database has no clock of its own
}

// columnsAndDocument is a row.
type columnsAndDocument struct {
	columns
	document []byte
}

// database is a database that may be away.
type database struct {
	dialect
	write, read *sql.DB

	migrating sync.Mutex
	ready     atomic.Bool           // the schema is what it must be
	failure   atomic.Pointer[error] // why it is not; nil if nobody has tried
	looked    *look                 // what was found behind the last error; nil if nothing was looked at

	path string                      // of SQLite's file
	file atomic.Pointer[os.FileInfo] // the one that has the schema
}

// newDatabase makes the handles; nothing is opened before it is needed.
func newDatabase(d dialect, writer, reader driver.Connector) *database {
	db := &database{dialect: d, write: sql.OpenDB(writer), read: sql.OpenDB(reader)}
	db.write.SetMaxOpenConns(d.writers)
	db.write.SetConnMaxIdleTime(maxIdle)
	db.read.SetMaxOpenConns(MaxReaders)
	db.read.SetMaxIdleConns(MaxReaders)
	db.read.SetConnMaxIdleTime(maxIdle)
	return db
}

func (db *database) close() error {
	return errors.Join(db.read.Close(), db.write.Close())
}

// prepare brings the schema up to date: once, and again in the file that takes
// the place of one that was removed.
func (db *database) prepare(ctx context.Context) (err error) {
	if db.ready.Load() && !db.moved() {
		return nil
	}
	db.migrating.Lock()
	defer db.migrating.Unlock()
	defer func() {
		if err = db.damaged(err); err != nil {
			db.failure.Store(&err)
		}
	}()
	if db.ready.Load() {
		if !db.moved() {
			return nil
		}
		db.leave()
	}
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	folder, err := fs.Sub(migrations, db.migrations)
	if err != nil {
		return err
	}
	if err := db.migrate(ctx, db, folder); err != nil {
		return err
	}
	if db.path != "" {
		file, err := os.Stat(db.path)
		if err != nil {
			db.leave()
			return err
		}
		db.file.Store(&file)
	}
	db.ready.Store(true)
	return nil
}

// unavailable is ErrUnavailable with the reason, if there is one yet.
func (db *database) unavailable() error {
	if why := db.failure.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, *why)
	}
	return fmt.Errorf("%w: it is being opened, or its schema prepared", ErrUnavailable)
}

// moved tells whether the file that has the schema is not there any more, or
// another one in its place. A connection would go on to write to what nobody
// can open again, and have no error.
func (db *database) moved() bool {
	was := db.file.Load()
	if was == nil {
		return false
	}
	file, err := os.Stat(db.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(*was, file)
}

// leave closes the connections to the file that was there. One that is busy with
// a question is closed when it is maxIdle old.
func (db *database) leave() {
	db.ready.Store(false)
	db.write.SetMaxIdleConns(0)
	db.write.SetMaxIdleConns(db.writers)
	db.read.SetMaxIdleConns(0)
	db.read.SetMaxIdleConns(MaxReaders)
}

// enoughForTwo is how many rows are worth two transactions.
const enoughForTwo = 1000

// store inserts rows, and returns how many were not there before. Where two
// transactions can do it, each has half of many rows. After an error the rows may
// come again, all of them; some may be stored, and count, then.
func (db *database) store(ctx context.Context, rows []columnsAndDocument) (stored int64, err error) {
	if err := db.fillTags(ctx, rows); err != nil {
		return 0, err
	}
	if !db.twoAtOnce || len(rows) < enoughForTwo {
		return db.storeTogether(ctx, rows)
	}
	// In order, so that neither waits for a row that the other one has.
	slices.SortFunc(rows, func(a, b columnsAndDocument) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.id, b.id))
	})
	first, second := rows[:len(rows)/2], rows[len(rows)/2:]
	done := make(chan struct{})
	var more int64
	var errMore error
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				errMore = fmt.Errorf("panic: %v", p)
			}
		}()
		more, errMore = db.storeTogether(ctx, second)
	}()
	defer func() {
		<-done
		stored, err = stored+more, errors.Join(err, errMore)
	}()
	return db.storeTogether(ctx, first)
}

// storeTogether inserts rows in one transaction.
func (db *database) storeTogether(ctx context.Context, rows []columnsAndDocument) (stored int64, err error) {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	if stored, err = db.insert(ctx, tx, rows); err != nil {
		return 0, err
	}
	if err := db.tagAllEarlier(ctx, tx, rows); err != nil {
		return 0, err
	}
	if err := tx.Commit(); err != nil {
		return 0, err
	}
	return stored, nil
}

// columnNames is the order in which rows are written.
const columnNames = "ts, id, event, severity, sender, sender_domain, recipient, recipient_domain, message_id, queue_id, " +
	"reason, tls, verified, mx_host, size, subject, tags, list, content_sent, document"

const columnCount = 20
