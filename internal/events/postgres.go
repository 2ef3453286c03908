package events

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
)

// postgresDialect is PostgreSQL, from version 11 on.
var postgresDialect = dialect{
	goose:      goose.DialectPostgres,
	migrations: "migrations/postgres",
	numbered:   true,
	writers:    2,
	indexOf:    "strpos",
	insert:     insertPostgres,
	locker:     true,
	// A planner that knows nothing of a table that grew quickly goes through all of
	// it by time, to find the few events of a message.
	optimize: []string{"ANALYZE events"},
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
	c, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	c.Dialer(dialer{})
	return newDatabase(postgresDialect, c, c), nil
}

// insertPostgres passes columns as arrays: one statement for any number of rows.
func insertPostgres(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) (int64, error) {
	n := len(rows)
	ts, size := make([]int64, n), make([]int64, n)
	tls, verified := make([]int64, n), make([]int64, n)
	text := make([][]string, 15)
	for i := range text {
		text[i] = make([]string, n)
	}
	for i := range rows {
		r := &rows[i]
		ts[i], size[i], tls[i], verified[i] = r.ts, r.size, int64(r.tls), int64(r.verified)
		for k, s := range [...]string{
			r.id, r.event, r.severity, r.sender, r.senderDomain, r.recipient, r.recipientDomain, r.messageID, r.queueID,
			r.reason, r.mxHost, r.subject, r.tags, r.list, string(r.document),
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
	"$11::text[], $12::smallint[], $13::smallint[], $14::text[], $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[]" +
	") ON CONFLICT DO NOTHING"

// Times that a server has. A statement ends with its context before that; these
// are for a network that swallows everything.
const (
	connectTimeout = 10 * time.Second
	silence        = time.Minute
)

// dialer makes connections on which no read and no write waits for ever.
type dialer struct{}

// Dial implements pq.Dialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, connectTimeout)
}

// DialTimeout implements pq.Dialer.
func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// DialContext implements pq.DialerContext.
func (dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: connectTimeout}
	c, err := nd.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return impatient{c}, nil
}

// impatient is a connection with a time limit for each read and write.
type impatient struct{ net.Conn }

// Read implements net.Conn.
func (c impatient) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c impatient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// passfile matches the word by which psql finds a password. The driver does not know
// it, and would hand it to the server as a setting, which refuses the connection.
var passfile = regexp.MustCompile(`(^|[\s?&])passfile\s*=`)

// CheckDSN returns what is wrong with a connection string. The error does not
// quote it: there may be a password in it.
func CheckDSN(dsn string) error {
	_, err := pq.NewConnector(dsn)
	var inURL *url.Error
	if errors.As(err, &inURL) {
		return errors.New("the URL cannot be read")
	}
	if err == nil && passfile.MatchString(dsn) {
		return errors.New("unexpected passfile, expected the file's name in PGPASSFILE in maddy's environment")
	}
	return err
}
