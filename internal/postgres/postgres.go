// Package postgres connects to PostgreSQL in such a way that nothing waits for
// ever, and keeps schemas up to date.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// passfile matches the word by which psql finds a password. The driver does not know
// it, and would hand it to the server as a setting, which refuses the connection.
var passfile = regexp.MustCompile(`(^|[\s?&])passfile\s*=`)

// sslmode matches how the connection is protected. The driver looks at the word only
// when the server has answered, and knows fewer than psql.
var sslmode = regexp.MustCompile(`(?:^|[\s?&])sslmode\s*=\s*'?([^\s&']*)`)

var sslmodes = []string{"", "disable", "require", "verify-ca", "verify-full"}

// CheckDSN returns what is wrong with a connection string. The error does not
// quote it: there may be a password in it.
func CheckDSN(dsn string) error {
	_, err := pq.NewConnector(dsn)
	var inURL *url.Error
	switch {
	case errors.As(err, &inURL):
		return errors.New("the URL cannot be read")
	case err != nil && strings.HasPrefix(err.Error(), "missing \"=\""):
		return errors.New("unexpected word, expected NAME=VALUE; a value with spaces is written as '...'")
	case err == nil && passfile.MatchString(dsn):
		return errors.New("unexpected passfile, expected the file's name in PGPASSFILE in maddy's environment")
	case err == nil:
		if m := sslmode.FindStringSubmatch(dsn); m != nil && !slices.Contains(sslmodes, m[1]) {
			return fmt.Errorf("sslmode: unexpected %q, expected disable, require, verify-ca or verify-full", m[1])
		}
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
