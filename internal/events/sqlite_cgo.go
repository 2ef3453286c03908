//go:build cgo

package events

import (
	"database/sql/driver"

	"github.com/mattn/go-sqlite3"
)

func sqliteDriver() driver.Driver { return &sqlite3.SQLiteDriver{} }
