// Package table asks and writes maddy's tables, which may hang, panic, or say
// anything.
//
// A Table is asked through a Guard. It waits no longer than the context lasts,
// and never longer than 30 seconds, whether or not the table heeds it; it bounds how many questions may hang; a
// panic in the table is an error; and the text of the table's errors, which
// comes from databases and files, is escaped and cut.
//
// Writing goes through the interface that maddy calls module.MutableTable. It
// has no transactions, and its implementation over SQL says "done" when an
// UPDATE changed nothing, so what was written is read back (write.go).
package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Table is what maddy calls module.Table.
type Table interface {
	Lookup(ctx context.Context, key string) (value string, found bool, err error)
}

// multi is what maddy calls module.MultiTable.
type multi interface {
	LookupMulti(ctx context.Context, key string) ([]string, error)
}

// maxPending bounds the questions that a table has not answered: one that hangs
// may keep as many goroutines, for as long as it hangs.
const maxPending = 64

// A Guard asks one table. It is safe for concurrent use as far as the table is,
// and maddy's are.
type Guard struct {
	table   Table
	pending chan struct{} // holds one for each question that is not answered
}

// New returns a guard for the table.
func New(t Table) *Guard {
	return &Guard{table: t, pending: make(chan struct{}, maxPending)}
}

// Lookup returns the value under the key, if there is one. Several values are
// an error: see ask. Errors of the table come as *Error, no answer in time as
// the context's error, wrapped.
func (g *Guard) Lookup(ctx context.Context, key string) (value string, found bool, err error) {
	type answer struct {
		value string
		found bool
	}
	a, err := within(ctx, g, func(ctx context.Context) (a answer, err error) {
		a.value, a.found, err = ask(ctx, g.table, key)
		return a, err
	})
	return a.value, a.found, err
}

// ask puts the question to the table, once. Some tables hold several values for
// a key: table.file makes them of a comma in the value and of a repeated key.
// Lookup would return the first and hide that the row was not read whole.
func ask(ctx context.Context, table Table, key string) (string, bool, error) {
	t, ok := table.(multi)
	if !ok {
		found := false
		value, err := unlocked(ctx, func() (value string, err error) {
			value, found, err = table.Lookup(ctx, key)
			return value, err
		})
		return value, found && err == nil, err
	}
	values, err := unlocked(ctx, func() ([]string, error) { return t.LookupMulti(ctx, key) })
	switch {
	case err != nil:
		return "", false, err
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", false, &ValuesError{len(values)}
	}
	return values[0], true, nil
}

// longest bounds one question, whatever the context says. A database that does
// not answer in this time will not answer.
const longest = 30 * time.Second

// within calls do in a goroutine of its own and waits no longer than the
// context lasts.
func within[T any](ctx context.Context, g *Guard, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	var none T
	select {
	case g.pending <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("no answer to %d earlier questions: %w", maxPending, ctx.Err())
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			<-g.pending
			if p := recover(); p != nil {
				a = answer{err: &Error{fmt.Errorf("panic: %v", p)}}
			}
			done <- a
		}()
		a.value, a.err = do(ctx)
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// ValuesError reports that a key has several values where one is expected. It
// is a mistake in the row, not a failure of the table.
type ValuesError struct{ Values int }

func (e *ValuesError) Error() string {
	return strconv.Itoa(e.Values) + " values, expected one: separate the words with spaces, " +
		"without commas, and name the key once"
}

// maxForeign bounds the text of an error that came from a table: a line of a
// database's complaint, not its whole query plan.
const maxForeign = 512

// Error is a failure of a table; its text is escaped and cut.
type Error struct{ Err error }

func (e *Error) Error() string {
	text := e.Err.Error()
	cut := ""
	if len(text) > maxForeign {
		text, cut = text[:maxForeign], "..."
	}
	quoted := strconv.QuoteToASCII(text)
	return quoted[1:len(quoted)-1] + cut
}

func (e *Error) Unwrap() error { return e.Err }

// ErrReadOnly reports that a table cannot be written, or its keys not be listed.
var ErrReadOnly = errors.New("the table cannot be changed from here: " +
	"expected one that can be written, as sql_table")
