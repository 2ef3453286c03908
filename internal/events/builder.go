package events

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"
)

// builder makes a statement. What a question says goes into args and nowhere
// else; text gets constants only.
type builder struct {
	*database
	sql    strings.Builder
	args   []any
	values int // of conditions

	keyed    bool // the statement goes by an index that begins with the part
	confined bool // it is about one sending domain
}

// ask begins a statement.
func (db *database) ask(sql string) *builder {
	b := &builder{database: db}
	b.text(sql)
	return b
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each runs the statement and gives every row to take.
func (b *builder) each(ctx context.Context, on querier, take func(scan func(...any) error) error) error {
	rows, err := on.QueryContext(ctx, b.sql.String(), b.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := take(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (b *builder) text(constant string) { b.sql.WriteString(constant) }

func (b *builder) arg(value any) {
	b.args = append(b.args, value)
	if b.numbered {
		b.sql.WriteString("$" + strconv.Itoa(len(b.args)))
	} else {
		b.sql.WriteByte('?')
	}
}

// count bounds what a question holds.
func (b *builder) count(n int) error {
	if b.values += n; b.values > maxValues {
		return fmt.Errorf("%w: more than %d values", ErrFilter, maxValues)
	}
	return nil
}

// order adds order and number of the events.
func (b *builder) order(ascending bool, limit int) {
	direction := ""
	if !ascending {
		direction = " DESC"
	}
	b.text(" ORDER BY ")
	if b.keyed { // no part is looked into when those before it fill the page
		b.text("begins" + direction + ", ")
	}
	b.text("ts" + direction + ", id" + direction + " LIMIT ")
	b.arg(int64(limit))
}

func (b *builder) filter(f Filter, depth int) error {
	if f == nil {
		b.text("1=1")
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: more than %d conditions inside each other", ErrFilter, maxDepth)
	}
	return f.build(b, depth)
}

func (b *builder) list(all []Filter, between, none string, depth int) error {
	if len(all) == 0 {
		b.text(none)
		return nil
	}
	if err := b.count(len(all)); err != nil {
		return err
	}
	b.text("(")
	for i, f := range all {
		if i > 0 {
			b.text(between)
		}
		if err := b.filter(f, depth+1); err != nil {
			return err
		}
	}
	b.text(")")
	return nil
}

// among is the condition that a column is one of many values, which PostgreSQL plans
// quickly as an array alone.
func (b *builder) among(column string, values []string) {
	if b.numbered {
		b.text(column + " = ANY(")
		b.arg(pq.Array(values))
		b.text(")")
		return
	}
	b.text(column + " IN (")
	for i, v := range values {
		if i > 0 {
			b.text(",")
		}
		b.arg(v)
	}
	b.text(")")
}

// tags looks for tags between their marks, or for attachments between theirs. Where
// there must be one, that is said apart: there is an index of events that have any.
func (b *builder) tags(mark string, values []string) error {
	if !slices.Contains(values, "") {
		b.text("(tags <> '' AND ")
		defer b.text(")")
	}
	b.text("(")
	for i, v := range values {
		if i > 0 {
			b.text(" OR ")
		}
		b.text(b.indexOf + "(tags, ")
		if v == "" {
			b.arg(mark)
			b.text(") = 0")
			continue
		}
		b.arg(mark + foldTag(v) + mark)
		b.text(") > 0")
	}
	b.text(")")
	return b.count(len(values))
}

// maxScope bounds the sending domains of a question: SQLite has at most 32766
// parameters.
const maxScope = 20_000

// scope restricts the statement to sending domains, with *.name for all below
// one; nil are all.
func (b *builder) scope(domains []string) error {
	if domains == nil {
		b.text("1=1")
		return nil
	}
	if len(domains) == 0 {
		b.text("1=0")
		return nil
	}
	if len(domains) > maxScope {
		return fmt.Errorf("%w: more than %d domains", ErrFilter, maxScope)
	}
	exact := make([]string, 0, len(domains))
	var below []string
	for _, d := range domains {
		if name, ok := strings.CutPrefix(d, "*."); ok {
			below = append(below, name)
		} else {
			exact = append(exact, d)
		}
	}
	if len(below) > 0 {
		b.below(exact, below)
		return nil
	}
	if len(domains) > 1 && !b.numbered {
		// To SQLite the sign says that no index of the column is to be used: it would
		// read and sort all events of all domains for the first page of them. Going
		// by time it stops when the page is full, and sees the domain in that index.
		b.text("+")
	}
	b.domains(exact)
	return nil
}

func (b *builder) domains(names []string) {
	b.text("sender_domain IN (")
	for i, d := range names {
		if i > 0 {
			b.text(",")
		}
		b.arg(normalize(d))
	}
	b.text(")")
}

// alternatives is how many conditions stand in one pair of parentheses: SQLite takes a
// chain of them for as many inside each other, and a thousand at most.
const alternatives = 500

// below is scope with domains of which those below count.
func (b *builder) below(exact, below []string) {
	b.text("((")
	for i, d := range below {
		switch {
		case i > 0 && i%alternatives == 0:
			b.text(") OR (")
		case i > 0:
			b.text(" OR ")
		}
		b.text(`sender_domain LIKE `)
		b.arg("%." + likeEscape.Replace(normalize(d)))
		b.text(` ESCAPE '!'`)
	}
	b.text(")")
	if len(exact) > 0 {
		b.text(" OR ")
		b.domains(exact)
	}
	b.text(")")
}

// likeEscape takes their meaning from the signs that LIKE has.
var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// fold1 is fold for what keeps its letter case. It cuts before, so that the work
// is bounded, and after, because a replacement is longer than what it replaces.
func fold1(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(cut(s, limit), "\ufffd"), "\x00", "\ufffd")
	return cut(s, limit)
}
