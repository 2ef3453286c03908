package events

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// What a sender's form says about a message (tags, variables, names of attachments)
// is in its accepted events: a delivery knows nothing of it. Clients ask for
// deliveries by it, and want to read it there, so the two are brought together when
// they ask: by message ID and sending domain, because a message ID is anybody's to
// choose. Documents are stored as they came.

// asksSaid reports whether a filter asks for what a form says.
func asksSaid(f Filter) bool {
	switch f := f.(type) {
	case And:
		return slices.ContainsFunc(f, asksSaid)
	case Or:
		return slices.ContainsFunc(f, asksSaid)
	case Not:
		return asksSaid(f.Filter)
	case Is:
		return f.Field == FieldTags || f.Field == FieldAttachment
	}
	return false
}

// saidTags is the column of tags where joinSaid was called: the event's own, or
// that of the message.
const saidTags = "CASE WHEN tags <> '' THEN tags ELSE coalesce(said_tags, '') END"

// joinSaid adds the tags of messages. If the events in question are few it asks for
// their messages first, so that one of a thousand recipients is looked at once
// and not a thousand times; else it goes through all accepted events.
func (b *builder) joinSaid(q *Query, few bool) error {
	b.text(" LEFT JOIN (SELECT message_id AS said_id, sender_domain AS said_domain, max(tags) AS said_tags FROM events WHERE ")
	if err := b.scope(q.Domains); err != nil {
		return err
	}
	b.text(" AND event = 'accepted' AND tags <> '' AND message_id <> ''")
	if few {
		about := *q
		about.Filter = withoutSaid(q.Filter)
		keyed := b.keyed
		b.text(" AND message_id IN (SELECT message_id FROM ")
		b.from(about.Filter, about.Domains)
		defer func() { b.keyed = keyed }()
		b.text(" WHERE ")
		if err := about.where(b, q.Ascending); err != nil {
			return err
		}
		b.text(" AND event <> 'accepted')")
	}
	b.text(" GROUP BY message_id, sender_domain) AS said ON said_id = message_id AND said_domain = sender_domain")
	b.tagsOf = saidTags
	return nil
}

// withoutSaid is a filter that lets through all that the other does, and asks for
// nothing that a form says.
func withoutSaid(f Filter) Filter {
	all, ok := f.(And)
	if !ok {
		return nil
	}
	others := And{}
	for _, one := range all {
		if !asksSaid(one) {
			others = append(others, one)
		}
	}
	return others
}

// narrow reports whether a filter lets through few events, which an index finds.
func narrow(f Filter) bool {
	switch f := f.(type) {
	case And:
		return slices.ContainsFunc(f, narrow)
	case Is:
		return f.Field == FieldRecipient || f.Field == FieldMessageID || f.Field == FieldQueueID
	}
	return false
}

// steps are how many events are looked at first for what a form says, and then. A
// page that many events are for is full soon; the rest is looked at as a whole.
var steps = []int{2_000, 20_000}

// find reads the events that a page is made of, in the direction of reading.
func (s *Store) find(ctx context.Context, q Query, ascending bool) (all []row, cut bool, err error) {
	few := narrow(q.Filter)
	if asksSaid(q.Filter) && !few {
		for _, n := range steps {
			edge, there, err := s.edge(ctx, &q, ascending, n)
			if err != nil {
				return nil, false, err
			}
			if few = !there; few {
				break
			}
			part := q
			if ascending {
				edge = edge.Add(time.Microsecond)
				part.End, q.Begin = edge, edge
			} else {
				part.Begin, q.End = edge, edge
			}
			some, cut, err := s.read(ctx, &part, ascending, true)
			all = append(all, some...)
			if err != nil || cut || len(some) == q.Limit {
				return all, cut, err
			}
			q.Limit -= len(some)
		}
	}
	some, cut, err := s.read(ctx, &q, ascending, few)
	return append(all, some...), cut, err
}

// edge is the time of the n-th event in question, whatever is asked about it.
func (s *Store) edge(ctx context.Context, q *Query, ascending bool, n int) (at time.Time, there bool, err error) {
	b := s.ask("SELECT ts FROM events WHERE ")
	all := *q
	all.Filter = nil
	if err := all.where(b, q.Ascending); err != nil {
		return at, false, err
	}
	b.order(ascending, 1)
	b.text(" OFFSET ")
	b.arg(int64(n))
	err = s.each(ctx, b, func(scan func(...any) error) error {
		var ts int64
		err := scan(&ts)
		at, there = time.UnixMicro(ts), true
		return err
	})
	return at, there, err
}

// messageOf is what events of a message have in common.
type messageOf struct{ id, domain string }

// form is what a form said, as it stands in an accepted event.
type form struct {
	Tags      json.RawMessage `json:"tags"`
	Variables json.RawMessage `json:"user-variables"`
}

// tellSaid adds tags and variables to the documents of deliveries.
func (s *Store) tellSaid(ctx context.Context, rows []row) error {
	forms := make(map[messageOf]*form)
	for i := range rows {
		if m := rows[i].message; rows[i].event != EventAccepted && m.id != "" {
			forms[m] = nil
		}
	}
	if len(forms) == 0 {
		return nil
	}
	if err := s.forms(ctx, forms); err != nil {
		return err
	}
	for i := range rows {
		if form := forms[rows[i].message]; form != nil && rows[i].event != EventAccepted {
			rows[i].document = form.into(rows[i].document)
		}
	}
	return nil
}

// forms finds what was said about messages. One of the accepted events of a message
// will do.
func (s *Store) forms(ctx context.Context, found map[messageOf]*form) error {
	b := s.ask("")
	b.formsOf(found)
	return s.each(ctx, b, func(scan func(...any) error) error {
		var m messageOf
		var document []byte
		if err := scan(&m.id, &m.domain, &document); err != nil {
			return err
		}
		var one form
		if err := json.Unmarshal(document, &one); err == nil && (one.Tags != nil || one.Variables != nil) {
			found[m] = &one
		}
		return nil
	})
}

// formsOf asks for an accepted event of each message. They are looked for by message
// ID and domain at once: it would take longer the more others have sent with the
// same ID, and tell how much that is.
func (b *builder) formsOf(messages map[messageOf]*form) {
	b.text("SELECT column1, column2, (SELECT document FROM events WHERE event = 'accepted' AND message_id = column1 AND sender_domain = column2 LIMIT 1) " +
		"FROM (VALUES ")
	first := true
	for m := range messages {
		if !first {
			b.text(",")
		}
		first = false
		b.text("(")
		b.arg(m.id)
		b.text(",")
		b.arg(m.domain)
		b.text(")")
	}
	b.text(") AS asked")
}

// into adds to a document what it does not say itself.
func (f *form) into(document []byte) []byte {
	var has form
	end := bytes.LastIndexByte(document, '}')
	if json.Unmarshal(document, &has) != nil || end < 0 {
		return document
	}
	more := document[:end:end]
	if has.Tags == nil && f.Tags != nil {
		more = append(append(more, `,"tags":`...), f.Tags...)
	}
	if has.Variables == nil && f.Variables != nil {
		more = append(append(more, `,"user-variables":`...), f.Variables...)
	}
	return append(more, '}')
}
