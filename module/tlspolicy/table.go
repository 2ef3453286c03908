package tlspolicy

import (
	"context"
	"errors"
	"time"

	"golang.org/x/net/idna"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
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
	// Broken is set if the table answered, but the row cannot be read whole.
	Broken bool
	Err    error
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
// that has a `domain` block. Where the table fails, it is what the table last
// said about the domain, if that is not too long ago: see lastKnown. The error
// is a *TableError; it has been logged.
func (m *Module) Row(ctx context.Context, sendingDomain string) (*policy.Block, error) {
	key := policy.Normalize(sendingDomain)
	if m.table == nil || key == "" || m.policy.HasDomain(key) {
		return nil, nil
	}
	last, known := m.last.get(key)
	if known && m.last.resting() {
		return last.block(), nil
	}
	patience := lookupTimeout
	if known {
		patience = m.last.patience
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	started := m.last.now()
	row, err := m.ask(asking, key)
	m.learn(key, row, err, started)
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		m.last.rest() // whatever the table made of the end of our patience
	}
	switch {
	case err == nil:
		return row.block(), nil
	case known && !err.Broken && ctx.Err() == nil:
		if m.last.tell() {
			m.log.Msg("domains table fails, going on with what it last said", "key", key,
				"as_of", last.asOf(), "reason", err.Error())
		}
		return last.block(), nil
	}
	if err.Broken {
		m.log.Msg("row of the domains table unusable, deferring", "key", key, "reason", err.Error())
	} else {
		m.log.Msg("domains table fails, deferring", "key", key, "reason", err.Error())
	}
	return nil, err
}

// row is a row of the table, as it is written and as it is read.
type row struct {
	key      string // as which it was found
	text     string
	settings policy.Block
}

// block returns what the row says, nil if there is none.
func (r *row) block() *policy.Block {
	if r == nil {
		return nil
	}
	b := r.settings
	b.Place = "row " + policy.Quote(r.key)
	return &b
}

// keysOf returns the keys under which a normalised domain is looked up: its
// U-labels first, then its A-labels, because people write either.
func keysOf(domain string) []string {
	keys := []string{domain}
	if ascii, err := idna.ToASCII(domain); err == nil && ascii != domain {
		keys = append(keys, ascii)
	}
	return keys
}

// fetchRow returns the row of a normalised domain, nil if there is none. Of a
// broken row it returns key and text beside the error. See ask for who decides by it.
func (m *Module) fetchRow(ctx context.Context, domain string) (*row, *TableError) {
	if err := m.file.readable(m.last.now()); err != nil {
		return nil, &TableError{Key: domain, Err: &table.Error{Err: err}}
	}
	for _, key := range keysOf(domain) {
		text, found, err := m.table.Lookup(ctx, key)
		if values := (*table.ValuesError)(nil); errors.As(err, &values) {
			return &row{key: key}, &TableError{Key: key, Broken: true, Err: err}
		}
		if err != nil {
			return nil, &TableError{Key: key, Err: err}
		}
		if !found {
			continue
		}
		settings, err := policy.ParseRow(text)
		if err != nil {
			return &row{key: key, text: text}, &TableError{Key: key, Broken: true, Err: err}
		}
		return &row{key, text, settings}, nil
	}
	if err := m.file.reread(m.last.now()); err != nil {
		return nil, &TableError{Key: domain, Err: err}
	}
	return nil, nil
}
