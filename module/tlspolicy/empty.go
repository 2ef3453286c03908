package tlspolicy

import (
	"context"
	"errors"
	"time"

	"tlscontrol/internal/table"
)

// A table that failed and then answers that it is empty may be another one: after a
// failover to an empty database, or a lost table that a relay made anew as it started.
// If it were believed, all domains would lose their settings in one instant. So a table
// that had rows before it failed counts as failing until it has a row, or somebody says
// that it is meant: by a change over the API of this server, or a restart.
//
// A table that did not fail may lose its last row at any time, and so may one that cannot
// list its keys: it is believed.

// errEmptied is what such a table says.
var errEmptied = errors.New("the table had rows before it failed, and is empty now, as a new one is: restore the rows, " +
	"or, if it is meant to be empty, restart maddy or change a setting over the API")

// ask returns the row of a normalised domain, as fetchRow does, of a table that can be
// believed.
func (m *Module) ask(ctx context.Context, domain string) (*row, *TableError) {
	asked := m.last.now()
	r, err := m.fetchRow(ctx, domain)
	if r != nil || err != nil || !m.last.doubtful() || m.file.path != "" { // of a file see tableFile
		return r, err
	}
	keys, listed := m.table.Keys(ctx)
	switch {
	case errors.Is(listed, table.ErrReadOnly):
	case listed != nil:
		return nil, &TableError{Key: domain, Err: listed}
	case len(keys) == 0:
		return nil, &TableError{Key: domain, Err: errEmptied}
	}
	m.last.believe(asked)
	return nil, nil
}

// believe is trust for who does not hold the lock.
func (k *lastKnown) believe(asked time.Time) {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.trust(asked)
}

// doubtful reports whether the table would have to have rows.
func (k *lastKnown) doubtful() bool {
	k.lock.Lock()
	defer k.lock.Unlock()
	return k.doubt
}

// fails notes that the table failed to answer a question of this time. The lock is held.
func (k *lastKnown) fails(asked time.Time) {
	if k.failed.IsZero() {
		k.doubt = k.knowsRow()
	}
	if asked.After(k.failed) {
		k.failed = asked
	}
}

// trust notes that what the table said to a question of this time is believed. An answer
// from before it failed says nothing about the table that is there now. The lock is held.
func (k *lastKnown) trust(asked time.Time) {
	if !asked.Before(k.failed) {
		k.failed, k.doubt = time.Time{}, false
	}
}

// knowsRow reports whether a domain has a row, as far as what is known still counts. The
// lock is held.
func (k *lastKnown) knowsRow() bool {
	now := k.now()
	for _, generation := range []map[string]lastRow{k.rows.young, k.rows.old} {
		for _, l := range generation {
			if now.Sub(l.at) <= k.keep {
				return true
			}
		}
	}
	return false
}
