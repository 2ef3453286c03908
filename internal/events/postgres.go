package events

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"

	"tlscontrol/internal/postgres"
)

// postgresDialect is PostgreSQL, from version 11 on.
var postgresDialect = dialect{
	migrations: "migrations/postgres",
	migrate: func(ctx context.Context, db *database, folder fs.FS) error {
		return postgres.Migrate(ctx, db.write, folder, goose.DefaultTablename)
	},
	numbered:  true,
	writers:   3, // one for the keeper
	twoAtOnce: true,
	indexOf:   "strpos",
	insert:    insertPostgres,
	// A planner that knows nothing of a table that grew quickly goes through all of
	// it by time, to find the few events of a message.
	upkeep: []string{"ANALYZE events"},
	clock:  "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint",
	badDocument: func(err error) bool {
		var e *pq.Error
		// Data exceptions, violated constraints, and what exceeds a limit of the
		// program, such as the length of an index entry.
		return errors.As(err, &e) && (e.Code.Class() == "22" || e.Code.Class() == "23" || e.Code.Class() == "54")
	},
}

// openPostgres gives the database that a connection string names. Its errors are
// about the string.
func openPostgres(dsn string) (*database, error) {
	c, err := postgres.Connector(dsn)
	if err != nil {
		return nil, err
	}
	return newDatabase(postgresDialect, c, c), nil
}

// insertPostgres passes columns as arrays: one statement for any number of rows.
func insertPostgres(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) (int64, error) {
	n := len(rows)
	ts, size := make([]int64, n), make([]int64, n)
	tls, verified := make([]int64, n), make([]int64, n)
	text := make([][]string, 16)
	for i := range text {
		text[i] = make([]string, n)
	}
	for i := range rows {
		r := &rows[i]
		ts[i], size[i], tls[i], verified[i] = r.ts, r.size, int64(r.tls), int64(r.verified)
		for k, s := range [...]string{
			r.id, r.event, r.severity, r.sender, r.senderDomain, r.recipient, r.recipientDomain, r.messageID, r.queueID,
			r.reason, r.mxHost, r.subject, r.tags, r.list, r.sent, string(r.document),
		} {
			text[k][i] = s
		}
	}
	args := []any{pq.Array(ts)}
	for _, t := range text[:10] {
		args = append(args, pq.Array(t))
	}
	args = append(args, pq.Array(tls), pq.Array(verified), pq.Array(text[10]), pq.Array(size))
	for _, t := range text[11:] {
		args = append(args, pq.Array(t))
	}
	res, err := tx.ExecContext(ctx, postgresInsert, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

const postgresInsert = "INSERT INTO events (" + columnNames + ") SELECT * FROM unnest(" +
	"$1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], " +
	"$11::text[], $12::smallint[], $13::smallint[], $14::text[], $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::text[]" +
	") ON CONFLICT DO NOTHING"
