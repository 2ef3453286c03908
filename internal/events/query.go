package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxLimit is the largest page.
const MaxLimit = 300

// maxStory bounds what Message returns: a message of the API may have a thousand
// recipients, and each has an event more than attempts.
const maxStory = 5000

// maxAnswer is how many octets of documents are enough for an answer, which is in
// memory several times. Most have less than a KiB, those of hostile servers up to
// one MiB.
const maxAnswer = 8 << 20

// Cursor is a place between events: they are ordered by time, and where that is
// equal by id. An event that comes late has its place among the others.
type Cursor struct {
	Micros int64 // since 1970
	ID     string
}

// Query is a question for a page of events.
type Query struct {
	// Domains are the sending domains of which events may be seen, nil for all.
	// An empty list that is not nil is none. *.name stands for all below one.
	Domains []string
	Filter  Filter // nil for all
	// Begin and End bound the time, the first inclusive, the second exclusive;
	// zero times are no bounds.
	Begin, End time.Time
	Ascending  bool // oldest first
	Limit      int  // 1 to MaxLimit; anything else is MaxLimit
	// After is where the page begins, in the order of the page. Before is where
	// it ends: the page before another one. With both it lies between them.
	After, Before *Cursor
}

// Page is a part of the answer. It has fewer events than the limit if there are no
// more, or if they are large.
type Page struct {
	Items []json.RawMessage
	// First and Last are the places of the first and the last event. On an empty
	// page they are what After or Before was, so that a later question with them
	// finds what has come in since; nil if there was none.
	First, Last *Cursor
	// More says that the page is full, because of the limit or of large events:
	// there may be more in the direction in which it was read.
	More bool
}

// Query returns a page. Errors that wrap ErrFilter are the asker's.
func (s *Store) Query(ctx context.Context, q Query) (Page, error) {
	if q.Limit < 1 || q.Limit > MaxLimit {
		q.Limit = MaxLimit
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	// A page that ends at a place is read from there, against its order.
	backwards := q.Before != nil && q.After == nil
	rows, cut, err := s.read(ctx, &q, q.Ascending != backwards)
	if err == nil {
		err = s.tellSaid(ctx, rows)
	}
	if err != nil {
		return Page{}, err
	}
	if len(rows) == 0 {
		at := q.After
		if at == nil {
			at = q.Before
		}
		return Page{First: at, Last: at}, nil
	}
	if backwards {
		slices.Reverse(rows)
	}
	p := Page{First: &rows[0].at, Last: &rows[len(rows)-1].at, More: cut || len(rows) == q.Limit}
	for i := range rows {
		p.Items = append(p.Items, rows[i].document)
	}
	return p, nil
}

// columnsRead are what is read of events.
const columnsRead = "SELECT ts, id, event, message_id, sender_domain, document FROM "

// read reads the events that a question is for, as many as its limit says.
func (s *Store) read(ctx context.Context, q *Query, ascending bool) ([]row, bool, error) {
	b, err := s.page(q, ascending)
	if err != nil {
		return nil, false, err
	}
	return s.rows(ctx, b)
}

// page makes the statement for read.
func (s *Store) page(q *Query, ascending bool) (*builder, error) {
	b := s.ask(columnsRead)
	b.from(q.Filter, q.Domains)
	b.text(" WHERE ")
	if err := q.where(b, q.Ascending); err != nil {
		return nil, err
	}
	b.order(ascending, q.Limit)
	return b, nil
}

// where adds the conditions of the question.
func (q *Query) where(b *builder, ascending bool) error {
	if err := b.scope(q.Domains); err != nil {
		return err
	}
	b.text(" AND ")
	if err := b.filter(q.Filter, 0); err != nil {
		return err
	}
	b.between(q.Begin, q.End)
	above, below := q.After, q.Before
	if !ascending {
		above, below = below, above
	}
	// The time alone says nothing new, but every planner finds its index by it.
	if above != nil {
		b.text(" AND ts >= ")
		b.arg(above.Micros)
		b.text(" AND (ts, id) > ")
		b.cursor(above)
	}
	if below != nil {
		b.text(" AND ts <= ")
		b.arg(below.Micros)
		b.text(" AND (ts, id) < ")
		b.cursor(below)
	}
	return nil
}

func (b *builder) cursor(c *Cursor) {
	b.text("(")
	b.arg(c.Micros)
	b.text(", ")
	b.arg(fold1(c.ID, maxID))
	b.text(")")
}

func (b *builder) between(begin, end time.Time) {
	if !begin.IsZero() {
		b.text(" AND ts >= ")
		b.arg(begin.UnixMicro())
	}
	if !end.IsZero() {
		b.text(" AND ts < ")
		b.arg(end.UnixMicro())
	}
}

// Message returns everything that is known of a message, oldest first: all events
// with this queue id or, without angle brackets, message id, up to maxStory and
// maxAnswer.
func (s *Store) Message(ctx context.Context, id string, domains []string) ([]json.RawMessage, error) {
	if id == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	b, err := s.story(fold(id, maxText), domains)
	if err != nil {
		return nil, err
	}
	rows, _, err := s.rows(ctx, b)
	if err == nil {
		err = s.tellSaid(ctx, rows)
	}
	if err != nil {
		return nil, err
	}
	var story []json.RawMessage
	for i := range rows {
		story = append(story, rows[i].document)
	}
	return story, nil
}

// story makes the statement of Message.
func (s *Store) story(id string, domains []string) (*builder, error) {
	either := Or{Is{FieldQueueID, []string{id}}, Is{FieldMessageID, []string{id}}}
	b := s.ask(columnsRead)
	b.from(either, domains)
	b.text(" WHERE ")
	if err := b.scope(domains); err != nil {
		return nil, err
	}
	b.text(" AND ")
	if err := either.build(b, 0); err != nil {
		return nil, err
	}
	// The sum keeps planners from going by the index of times.
	b.text(" ORDER BY ts + 0, id LIMIT ")
	b.arg(int64(maxStory))
	return b, nil
}

// row is what is read of an event.
type row struct {
	at       Cursor
	event    string
	message  messageOf
	document []byte
}

// ask begins a statement.
func (s *Store) ask(sql string) *builder { return s.db.ask(sql) }

// errEnough ends an answer.
var errEnough = errors.New("enough")

// rows reads the answer, up to maxAnswer, and tells whether it was cut there.
func (s *Store) rows(ctx context.Context, b *builder) (all []row, cut bool, err error) {
	size := 0
	err = s.each(ctx, b, func(scan func(...any) error) error {
		var r row
		if err := scan(&r.at.Micros, &r.at.ID, &r.event, &r.message.id, &r.message.domain, &r.document); err != nil {
			return err
		}
		all = append(all, r)
		if size += len(r.document); size >= maxAnswer {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return all, true, nil
	}
	return all, false, err
}

// each runs the statement and gives every row to take. An answer has
// QueryTimeout to come.
func (s *Store) each(ctx context.Context, b *builder, take func(scan func(...any) error) error) error {
	if !s.db.ready.Load() {
		return s.db.unavailable()
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	if err := b.each(ctx, s.db.read, take); err != nil {
		return fmt.Errorf("event store: %w", err)
	}
	return nil
}
