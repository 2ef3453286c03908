// Package postgres connects to PostgreSQL in such a way that nothing waits for
// ever, and keeps schemas up to date.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Times that a server has. A statement ends with its context before that; these
// are for a network that swallows everything.
const (
	connectTimeout = 10 * time.Second
	silence        = time.Minute
)

// Connector returns what makes connections to the database that a connection
// string names. Nothing is connected yet; the error is about the string.
func Connector(dsn string) (driver.Connector, error) {
	c, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	c.Dialer(dialer{})
	return c, nil
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

// Migrate brings a schema up to date with the numbered files of a folder. Which of
// them the database has had is in the table called versions, one for each folder.
// While several processes do this, one works and the others wait.
func Migrate(ctx context.Context, db *sql.DB, folder fs.FS, versions string) error {
	// goose logs and waits when it cannot connect; this says it at once.
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	store, err := database.NewStore(goose.DialectPostgres, versions)
	if err != nil {
		return err
	}
	// The store knows the dialect, so the provider must not be told.
	p, err := goose.NewProvider("", db, folder, goose.WithDisableGlobalRegistry(true), goose.WithStore(store), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("preparing the schema: %w", err)
	}
	return nil
}

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
