//go:build !cgo

package main

import (
	"database/sql"

	"modernc.org/sqlite"
)

// maddy's tables know SQLite only through cgo. In a build without a C compiler
// they get the driver that maddy's own mailbox storage uses then.
func init() {
	sql.Register("sqlite3", &sqlite.Driver{})
}
