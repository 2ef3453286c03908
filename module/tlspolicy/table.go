package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/foxcpp/maddy/framework/module"
	"golang.org/x/net/idna"

	"tlscontrol/internal/policy"
)

// lookupTimeout bounds the question to the table. A database that does not
// answer in this time will not answer; the recipients are deferred.
const lookupTimeout = 30 * time.Second

// TableError reports that a sending domain's row could not be had or not be
// read. The recipients concerned are to be deferred (451 4.3.5): without the row
// nobody knows what the domain's owner wants.
type TableError struct {
	// Key is the key of the row, a normalised domain.
	Key string
	Err error
}

func (e *TableError) Error() string {
	return "domains table, row " + policy.Quote(e.Key) + ": " + e.Err.Error()
}

func (e *TableError) Unwrap() error { return e.Err }

// Temporary returns true: tables and rows get repaired.
func (e *TableError) Temporary() bool { return true }

// Decide answers what TLS the sender wants. The row is that of Row.
func (m *Module) Decide(q policy.Question) policy.Settings { return m.policy.Resolve(q) }

// Row returns what the `domains` table says about a sending domain, nil if it
// says nothing. The table is not asked about the null sender, nor about a domain
// that has a `domain` block. The error is a *TableError; it has been logged.
func (m *Module) Row(ctx context.Context, sendingDomain string) (*policy.Block, error) {
	key := policy.Normalize(sendingDomain)
	if m.table == nil || key == "" || m.policy.HasDomain(key) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	row, err := m.fetchRow(ctx, key)
	if err != nil {
		m.log.Msg("row of the domains table unusable, deferring", "key", key, "reason", err.Error())
		return nil, err
	}
	return row, nil
}

// fetchRow asks for the domain's U-labels first, then for its A-labels: people
// write either.
func (m *Module) fetchRow(ctx context.Context, key string) (*policy.Block, error) {
	if err := fileReadable(m.tableFile); err != nil {
		return nil, &TableError{Key: key, Err: foreignError{err}}
	}
	keys := []string{key}
	if ascii, err := idna.ToASCII(key); err == nil && ascii != key {
		keys = append(keys, ascii)
	}
	for _, key := range keys {
		value, found, err := m.lookup(ctx, key)
		if err != nil {
			return nil, &TableError{Key: key, Err: err}
		}
		if !found {
			continue
		}
		row, err := policy.ParseRow(value)
		if err != nil {
			return nil, &TableError{Key: key, Err: err}
		}
		row.Place = "row " + policy.Quote(key)
		return &row, nil
	}
	return nil, nil
}

// maxLookups bounds the questions that a table has not answered: one that hangs
// may keep as many goroutines, for as long as it hangs.
const maxLookups = 64

type answer struct {
	value string
	found bool
	err   error
}

// lookup asks the table and waits no longer than the context lasts, whether or
// not the table heeds it.
func (m *Module) lookup(ctx context.Context, key string) (value string, found bool, err error) {
	select {
	case m.lookups <- struct{}{}:
	case <-ctx.Done():
		return "", false, fmt.Errorf("no answer to %d earlier questions: %w", maxLookups, ctx.Err())
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			<-m.lookups
			if p := recover(); p != nil {
				a = answer{err: foreignError{fmt.Errorf("panic: %v", p)}}
			}
			done <- a
		}()
		a = ask(ctx, m.table, key)
	}()
	select {
	case a := <-done:
		return a.value, a.found, a.err
	case <-ctx.Done():
		return "", false, fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// ask puts the question to the table. Some tables hold several values for a
// key: table.file makes them of a comma in the value and of a repeated key.
// Lookup would return the first and hide that the row was not read whole.
func ask(ctx context.Context, table module.Table, key string) answer {
	value, found, err := table.Lookup(ctx, key)
	if err != nil {
		return answer{err: foreignError{err}}
	}
	if multi, ok := table.(module.MultiTable); ok && found {
		values, err := multi.LookupMulti(ctx, key)
		if err != nil {
			return answer{err: foreignError{err}}
		}
		if len(values) > 1 {
			return answer{err: errors.New(strconv.Itoa(len(values)) +
				" values, expected one: separate the words with spaces, without commas, and name the domain once")}
		}
	}
	return answer{value: value, found: found}
}

// maxForeign bounds the text of an error that came from a table: a line of a
// database's complaint, not its whole query plan.
const maxForeign = 512

// foreignError is an error from a table; its text is escaped and cut.
type foreignError struct{ error }

func (e foreignError) Error() string {
	text := e.error.Error()
	cut := ""
	if len(text) > maxForeign {
		text, cut = text[:maxForeign], "..."
	}
	quoted := strconv.QuoteToASCII(text)
	return quoted[1:len(quoted)-1] + cut
}

func (e foreignError) Unwrap() error { return e.error }
