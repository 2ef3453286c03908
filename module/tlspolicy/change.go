package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// ConflictError reports that the row holds something else than what was just
// written: somebody on another machine wrote at the same time, and it is worth
// another try; or the disk is full, which maddy's tables keep to themselves when a
// row is new; or the queries of a table.sql_query are wrong.
type ConflictError struct{ Domain string }

func (e *ConflictError) Error() string {
	return "the row of domain " + policy.Quote(e.Domain) + " does not hold what was just written: " +
		"somebody else changed it at the same time (try again), the database could not keep it (is its disk full?), " +
		"or the table's queries are wrong"
}

func (d domains) Set(ctx context.Context, domain string, changes Changes) (Domain, error) {
	name, err := policy.ParseDomain(domain)
	if err != nil {
		return Domain{}, &InvalidError{err}
	}
	whole, err := changes.check()
	if err != nil {
		return Domain{}, err
	}
	ctx, done, err := d.change(ctx, name)
	if err != nil {
		return Domain{}, err
	}
	defer done()

	r, err := d.row(ctx, name, d.m.fetchRow)
	was, unknown := d.domain(name, r, err)
	broken := (*TableError)(nil)
	if errors.As(err, &broken) && broken.Broken && whole {
		r, err = nil, nil
	}
	if err != nil {
		return d.domain(name, r, err)
	}
	var settings policy.Block
	if r != nil {
		settings = r.settings
	}
	changes.apply(&settings)
	if r, err = d.write(ctx, name, settings); err != nil {
		return Domain{}, err
	}
	d.m.last.put(name, r, nil, d.m.last.now()) // whoever changes it tells of it
	changed, err := d.domain(name, r, nil)
	if unknown == nil {
		changed.Before = &was.Settings
	}
	return changed, err
}

// write makes the row of a domain say what the settings say. It ends up under
// one key, that of the normalised domain; one with A-labels, which counts only
// where the other is missing, goes last, so that the domain is never without.
func (d domains) write(ctx context.Context, name string, settings policy.Block) (*row, error) {
	text := settings.Row()
	if text == "" {
		return nil, d.remove(ctx, name, keysOf(name))
	}
	if err := d.m.table.Set(ctx, name, text); err != nil {
		return nil, written(name, err)
	}
	return &row{name, text, settings}, d.remove(ctx, name, keysOf(name)[1:])
}

// remove removes those keys that are there, the last one first: the first one
// hides the others as long as it is there.
func (d domains) remove(ctx context.Context, name string, keys []string) error {
	for _, key := range slices.Backward(keys) {
		there, err := d.there(ctx, key)
		if err != nil {
			return &TableError{Key: key, Err: err}
		}
		if !there {
			continue
		}
		if err := d.m.table.Remove(ctx, key); err != nil {
			return written(name, err)
		}
	}
	return nil
}

// there reports whether the table has the key, whatever is under it.
func (d domains) there(ctx context.Context, key string) (bool, error) {
	_, there, err := d.m.table.Lookup(ctx, key)
	if values := (*table.ValuesError)(nil); errors.As(err, &values) {
		return true, nil
	}
	return there, err
}

// written gives an error of writing its type.
func written(name string, err error) error {
	switch {
	case errors.Is(err, table.ErrNotKept):
		return &ConflictError{name}
	case errors.Is(err, table.ErrReadOnly):
		return err
	}
	return &TableError{Key: name, Err: err}
}

func (d domains) Unset(ctx context.Context, domain string) error {
	// A key that is never found, as Names shows it, is taken as it is written.
	name, invalid := policy.ParseDomain(domain)
	if invalid != nil {
		name = domain
	}
	ctx, done, err := d.change(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	keys := []string{name}
	if invalid == nil {
		keys = keysOf(name)
	}
	if !slices.Contains(keys, domain) {
		keys = append(keys, domain)
	}
	var there bool
	for _, key := range keys {
		also, err := d.there(ctx, key)
		if err != nil {
			return &TableError{Key: key, Err: err}
		}
		there = there || also
	}
	switch {
	case !there && invalid != nil:
		return &InvalidError{invalid}
	case !there:
		return &NotFoundError{name}
	}
	if err := d.remove(ctx, name, keys); err != nil {
		return err
	}
	if invalid == nil {
		d.m.last.put(name, nil, nil, d.m.last.now())
	}
	return nil
}

// change begins a change of a domain's row: until done is called nobody else on
// this machine changes one, so what is read is still there when it is written.
func (d domains) change(ctx context.Context, name string) (_ context.Context, done func(), err error) {
	if place := d.m.policy.DomainPlace(name); d.m.policy.HasDomain(name) {
		return nil, nil, &ReadOnlyError{name, place}
	}
	if d.m.table == nil {
		return nil, nil, ErrNoTable
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	select {
	case d.m.writing <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, nil, fmt.Errorf("another change takes too long: %w", ctx.Err())
	}
	unlock, err := lockDirectory(ctx, d.m.directory())
	if err != nil {
		<-d.m.writing
		cancel()
		return nil, nil, err
	}
	return ctx, func() {
		unlock()
		<-d.m.writing
		cancel()
	}, nil
}

// check reports whether the changes name every setting, and refuses those that
// cannot be made.
func (c Changes) check() (whole bool, err error) {
	if len(c) == 0 {
		return false, &InvalidError{errors.New("nothing to change")}
	}
	var b policy.Block
	// In a fixed order, so that the same mistake always has the same text.
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] == "" {
			err = b.Clear(name)
		} else {
			err = b.Set(name, c[name])
		}
		if err != nil {
			return false, &InvalidError{err}
		}
	}
	return len(c) == len(policy.SettingNames()), nil
}

// apply makes changes that were checked.
func (c Changes) apply(b *policy.Block) {
	for name, value := range c {
		if value == "" {
			b.Clear(name)
			continue
		}
		b.Set(name, value)
	}
}
