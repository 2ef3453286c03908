package events

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// checkTimeout bounds the look at a file whose schema cannot be made. Damage that
// keeps SQLite from that is found at once.
const checkTimeout = 10 * time.Second

// damagedError reports a file that SQLite cannot read any more. It does not pass by
// itself, so its text says what to do.
type damagedError struct {
	path, found string
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("the file is damaged: stop maddy, move %s away, with its -wal and -shm, and start maddy (docs/event-store.md): %s", e.path, e.found)
}

// damaged makes a *damagedError of what SQLite says when it finds a file damaged.
// Other errors stay as they are. It goes by the text: there are two drivers.
func (db *database) damaged(err error) error {
	if err == nil || db.path == "" {
		return err
	}
	for _, says := range []string{"disk image is malformed", "malformed database schema", "file is not a database"} {
		if strings.Contains(err.Error(), says) {
			return &damagedError{db.path, err.Error()}
		}
	}
	return err
}

// examined is an error of preparing the schema, or the damage that is behind it: an
// index that lost its table looks as if somebody else had made it. A big file takes
// long to look through, so that the same error is not looked into twice.
func (db *database) examined(ctx context.Context, open *sql.DB, err error) error {
	if was := db.looked; was != nil && was.err == err.Error() {
		if was.damage != nil {
			return was.damage
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	db.looked = &look{err: err.Error()}
	var says string
	switch failed := open.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&says); {
	case failed != nil:
		if d, ok := db.damaged(failed).(*damagedError); ok {
			db.looked.damage = d
		}
	case says != "ok":
		db.looked.damage = &damagedError{db.path, strings.Join(strings.Fields(says), " ")}
	}
	if db.looked.damage != nil {
		return db.looked.damage
	}
	return err
}

// look is what became of looking into an error.
type look struct {
	err    string
	damage error // nil if none was found
}
