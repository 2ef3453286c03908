package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// mutable is what maddy calls module.MutableTable.
type mutable interface {
	Table
	Keys() ([]string, error)
	RemoveKey(key string) error
	SetKey(key, value string) error
}

// ErrNotKept reports that a table took a value and has another one afterwards:
// somebody else wrote in between, or the table lost it.
var ErrNotKept = errors.New("the table does not hold what was just written: " +
	"somebody else changed it at the same time (try again), the database could not keep it (is its disk full?), " +
	"or its queries are wrong")

// ErrNotWritable reports that the database refuses to be written to, and will until
// somebody changes that. What it said itself is wrapped beside it.
var ErrNotWritable = errors.New("the table cannot be written: whoever the server runs as may not change the database, " +
	"or its file, or may not make files in its folder, or the file was removed or replaced while the server runs")

// Keys returns the keys of the table, sorted, or ErrReadOnly.
func (g *Guard) Keys(ctx context.Context) ([]string, error) {
	t, ok := g.table.(mutable)
	if !ok {
		return nil, ErrReadOnly
	}
	keys, err := within(ctx, g, func(ctx context.Context) ([]string, error) { return unlocked(ctx, t.Keys) })
	slices.Sort(keys)
	return keys, err
}

// Set writes the value under the key and reads it back. The error is
// ErrReadOnly, ErrNotKept, ErrNotWritable, an *Error of the table, or the context's.
func (g *Guard) Set(ctx context.Context, key, value string) error {
	return g.write(ctx, key, value, true, func(t mutable) error { return t.SetKey(key, value) })
}

// Remove removes the key, whether or not it is there. Errors are those of Set.
func (g *Guard) Remove(ctx context.Context, key string) error {
	return g.write(ctx, key, "", false, func(t mutable) error { return t.RemoveKey(key) })
}

// write changes the key and looks whether it has the value, or is gone.
func (g *Guard) write(ctx context.Context, key, value string, there bool, do func(mutable) error) error {
	t, ok := g.table.(mutable)
	if !ok {
		return ErrReadOnly
	}
	_, err := within(ctx, g, func(ctx context.Context) (struct{}, error) {
		return unlocked(ctx, func() (struct{}, error) { return struct{}{}, do(t) })
	})
	switch {
	case err != nil && forbidden(err):
		return fmt.Errorf("%w: %w", ErrNotWritable, err)
	case err != nil:
		return err
	}
	got, found, err := g.Lookup(ctx, key)
	if err != nil {
		return fmt.Errorf("written, but cannot be read back: %w", err)
	}
	if found != there || got != value {
		return ErrNotKept
	}
	return nil
}

const (
	// lockTime is how long a locked database is asked again. Whoever locks it
	// writes a row; what takes longer is no passing thing.
	lockTime = 2 * time.Second
	// lockPause is the longest pause before it is asked again.
	lockPause = 200 * time.Millisecond
)

// unlocked repeats what fails because another process holds the database: SQLite
// lets one write at a time and, depending on the driver, does not wait itself.
func unlocked[T any](ctx context.Context, do func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, lockPause) {
		v, err := do()
		switch {
		case err == nil:
			return v, nil
		case strings.Contains(err.Error(), "not mutable"):
			// What table.sql_query says if it was given no query for it.
			return v, ErrReadOnly
		case !locked(err):
			return v, &Error{err}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return v, &Error{err}
		}
	}
}

// forbidden tells by the text, too: that of SQLite, and of PostgreSQL. One that is read
// only as a whole ("in a read-only transaction") is a standby, and passes.
func forbidden(err error) bool {
	text := err.Error()
	return strings.Contains(text, "readonly database") || strings.Contains(text, "permission denied")
}

// locked tells by the text: the drivers' error types stay inside maddy.
func locked(err error) bool {
	text := err.Error()
	return strings.Contains(text, "database is locked") || strings.Contains(text, "database table is locked") ||
		strings.Contains(text, "SQLITE_BUSY")
}
