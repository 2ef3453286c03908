package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// Domains are the settings of sending domains, as the API and the command line
// show and change them. What is changed counts from the next message on.
//
// Errors are *InvalidError for what cannot be meant, *ReadOnlyError for a domain
// that the configuration decides, ErrNoTable and ErrReadOnlyTable for a table
// that is missing or cannot be changed, ErrNotWritable (in a *TableError) for one
// whose database refuses it, *NotFoundError, *ConflictError and
// *TableError.
type Domains interface {
	// Names returns the names of all domains that have a block or a row, sorted:
	// normalised domains, patterns (*.example.com), and keys of the table that
	// are never found as they are written. Beside ErrReadOnlyTable, of a table
	// that does not tell its keys, it returns those of the configuration.
	Names(ctx context.Context) ([]string, error)

	// List returns all domains of Names, each with its own error, if any, in
	// Err. It asks the table for each of them.
	List(ctx context.Context) ([]Domain, error)

	// Get returns one domain, or a pattern of the configuration. Domains that
	// nobody said anything about have settings too: see Domain.Known. Of a row
	// that cannot be read it returns the text beside the *TableError.
	Get(ctx context.Context, domain string) (Domain, error)

	// Set changes settings of the domain's row, which is made if there is none,
	// and removed if nothing is left in it. Changes that leave a setting as it is
	// cannot be made to a broken row: nobody knows what it was.
	Set(ctx context.Context, domain string, changes Changes) (Domain, error)

	// Unset removes the domain's row, a broken one too.
	Unset(ctx context.Context, domain string) error
}

// Domain is what is said about one sending domain.
type Domain struct {
	// Name is normalised, or the key of a row that is never found.
	Name string
	// Settings are those of a message that asks for nothing, to a destination
	// without a block, each with its source and place. They are empty if there is
	// an error.
	Settings policy.Settings
	// Block is file and line of the `domain` block that matches the domain best,
	// "" if none does. If there is one, the table is not asked.
	Block string
	// Before are the settings that a change has replaced, nil if nobody knows them.
	// Only Set sets it.
	Before *policy.Settings
	// Row is the domain's row in the table, nil if it has none.
	Row *DomainRow
	// Err is why the settings cannot be told. Only List sets it.
	Err error
}

// DomainRow is a row as it stands in the table.
type DomainRow struct {
	Key  string // other than the name if it is written in A-labels
	Text string // as written; "" if there are several values
}

// Known reports whether a block or a row says something about the domain.
func (d Domain) Known() bool { return d.Block != "" || d.Row != nil }

// Changes says what becomes of settings, by their names in the configuration: a
// value as in a row sets one, "" takes it out of the row. Those not named stay.
type Changes map[string]string

// Errors of a block whose `domains` directive does not admit what was asked.
var (
	ErrNoTable       = errors.New("the tls_policy block has no domains directive, so there is no table to write to")
	ErrReadOnlyTable = table.ErrReadOnly
	ErrNotWritable   = table.ErrNotWritable
)

// InvalidError reports a domain, a setting or a value that cannot be meant. Its
// text names the word and the choices.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// ReadOnlyError reports a domain about which the configuration decides.
type ReadOnlyError struct {
	Domain string
	Place  string // file:line of the block
}

func (e *ReadOnlyError) Error() string {
	return "domain " + policy.Quote(e.Domain) + " is set in the configuration, at " + e.Place + ", and can only be changed there"
}

// NotFoundError reports that a domain has no row.
type NotFoundError struct{ Domain string }

func (e *NotFoundError) Error() string {
	return "domain " + policy.Quote(e.Domain) + " has no row in the domains table"
}

// Domains returns the settings of the block's sending domains.
func (m *Module) Domains() Domains { return domains{m} }

type domains struct{ m *Module }

func (d domains) Names(ctx context.Context) ([]string, error) {
	names := d.m.policy.DomainPatterns()
	if d.m.table == nil {
		return names, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	keys, err := d.m.table.Keys(ctx)
	if errors.Is(err, ErrReadOnlyTable) {
		return names, err
	}
	if err != nil {
		return nil, fmt.Errorf("domains table: %w", err)
	}
	for _, key := range keys {
		if askedFor(key) {
			key = policy.Normalize(key)
		}
		names = append(names, key)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// askedFor reports whether a key of the table is one that is looked up.
func askedFor(key string) bool {
	name, err := policy.ParseDomain(key)
	return err == nil && slices.Contains(keysOf(name), key)
}

func (d domains) List(ctx context.Context) ([]Domain, error) {
	names, unlisted := d.Names(ctx)
	if unlisted != nil && !errors.Is(unlisted, ErrReadOnlyTable) {
		return nil, unlisted
	}
	list := make([]Domain, 0, len(names))
	for _, name := range names {
		domain, err := d.listed(ctx, name)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		domain.Err = err
		list = append(list, domain)
	}
	return list, unlisted
}

// listed is Get for a name of Names.
func (d domains) listed(ctx context.Context, name string) (Domain, error) {
	if askedFor(name) || slices.Contains(d.m.policy.DomainPatterns(), name) {
		return d.Get(ctx, name)
	}
	domain := Domain{Name: name, Row: &DomainRow{Key: name}}
	text, _, err := d.m.table.Lookup(ctx, name)
	if err != nil {
		return domain, &TableError{Key: name, Err: err}
	}
	domain.Row.Text = text
	return domain, &TableError{Key: name, Broken: true, Err: errors.New(neverFound(name))}
}

// neverFound says why no message finds a row.
func neverFound(key string) string {
	name, err := policy.ParseDomain(key)
	if err != nil {
		return "never found: its key is no domain name"
	}
	return "never found: its key would have to be " + policy.Quote(name)
}

func (d domains) Get(ctx context.Context, domain string) (Domain, error) {
	name, err := d.name(domain)
	if err != nil {
		return Domain{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	r, err := d.row(ctx, name, d.m.ask)
	return d.domain(name, r, err)
}

// name returns the normalised name of a domain, or of a pattern of the
// configuration.
func (d domains) name(domain string) (string, error) {
	if pattern := policy.Normalize(domain); strings.HasPrefix(pattern, "*.") &&
		slices.Contains(d.m.policy.DomainPatterns(), pattern) {
		return pattern, nil
	}
	name, err := policy.ParseDomain(domain)
	if err != nil {
		return "", &InvalidError{err}
	}
	return name, nil
}

// row returns the row that counts for the domain, nil if there is none or if the
// configuration decides. It is fetched by ask or, to change it, by fetchRow.
func (d domains) row(ctx context.Context, name string, fetch func(context.Context, string) (*row, *TableError)) (*row, error) {
	if d.m.table == nil || d.m.policy.HasDomain(name) {
		return nil, nil
	}
	r, err := fetch(ctx, name)
	if err != nil {
		return r, err
	}
	return r, nil
}

// domain describes a domain with its row, beside the error of fetching it.
func (d domains) domain(name string, r *row, err error) (Domain, error) {
	domain := Domain{Name: name, Block: d.m.policy.DomainPlace(name)}
	if r != nil {
		domain.Row = &DomainRow{Key: r.key, Text: r.text}
	}
	if err == nil {
		// In a pattern the * is a label that matches it, and no block but it.
		domain.Settings = d.m.policy.Resolve(policy.Question{SendingDomain: name, Row: r.block()})
	}
	return domain, err
}
