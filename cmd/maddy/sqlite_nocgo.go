//go:build !cgo

package main

import (
	"context"
	"database/sql"
	"strings"

	"modernc.org/sqlite"
)

// maddy's tables know SQLite only through cgo. In a build without a C compiler
// they get the driver that maddy's own mailbox storage uses then. As the one
// with cgo does, it waits 5 seconds for who holds the database, unless the DSN
// says otherwise: the command line writes beside the server.
func init() {
	driver := &sqlite.Driver{}
	driver.RegisterConnectionHook(func(conn sqlite.ExecQuerierContext, dsn string) error {
		if strings.Contains(dsn, "busy_timeout") {
			return nil
		}
		_, err := conn.ExecContext(context.Background(), "PRAGMA busy_timeout = 5000", nil)
		return err
	})
	sql.Register("sqlite3", driver)
}
