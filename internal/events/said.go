package events

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// What a sender's form says about a message (tags, variables, names of attachments)
// is in its accepted events: a delivery knows nothing of it. Clients ask for
// deliveries by it, and want to read it there. So the column of tags is filled for
// all events of a message when they are stored, and documents, which are stored as
// they came, are completed when they are read: by message ID and sending domain,
// because a message ID is anybody's to choose.

// messageOf is what events of a message have in common.
type messageOf struct{ id, domain string }

func (m messageOf) compare(o messageOf) int {
	return cmp.Or(strings.Compare(m.id, o.id), strings.Compare(m.domain, o.domain))
}

// message returns what a row has in common with others; ok is false if there is
// nothing.
func (c *columns) message() (m messageOf, ok bool) {
	return messageOf{c.messageID, c.senderDomain}, c.messageID != ""
}

// fillTags gives deliveries what the form of their message said. Of several forms
// with one message ID the latest counts, here and wherever they are looked up.
func (db *database) fillTags(ctx context.Context, rows []columnsAndDocument) error {
	said := make(map[messageOf]string)
	for i := range rows {
		if m, ok := rows[i].message(); ok {
			said[m] = cmp.Or(rows[i].saidItself(), said[m])
		}
	}
	if err := db.readTags(ctx, said); err != nil {
		return err
	}
	for i := range rows {
		if m, ok := rows[i].message(); ok && rows[i].event != EventAccepted && rows[i].tags == "" {
			rows[i].tags = said[m]
		}
	}
	return nil
}

// saidItself is what the form said, in an accepted event.
func (c *columns) saidItself() string {
	if c.event != EventAccepted {
		return ""
	}
	return c.tags
}

// lookups is how many messages one statement asks for.
const lookups = 1000

// anySaid asks for a form that said anything; by its order it goes through the index
// of those alone.
const anySaid = "SELECT message_id FROM events WHERE event = 'accepted' AND tags <> '' ORDER BY message_id, sender_domain, ts LIMIT 1"

// readTags finds what was said about messages of which that is not known.
func (db *database) readTags(ctx context.Context, said map[messageOf]string) error {
	var unknown []messageOf
	for m, tags := range said {
		if tags == "" {
			unknown = append(unknown, m)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	var one string
	err := db.write.QueryRowContext(ctx, anySaid).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // most relays know no forms
	}
	if err != nil {
		return err
	}
	for some := range slices.Chunk(unknown, lookups) {
		err := db.latestOf("tags", some).each(ctx, db.write, func(scan func(...any) error) error {
			var m messageOf
			var tags sql.NullString
			err := scan(&m.id, &m.domain, &tags)
			said[m] = tags.String
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// latestOf asks for a column of the latest accepted event of each message whose form
// said anything. They are looked for by message ID and domain at once, and one is
// enough: it would take longer the more others have sent with the same ID, and tell
// how much that is.
func (db *database) latestOf(column string, messages []messageOf) *builder {
	b := db.ask("SELECT column1, column2, (SELECT " + column + " FROM events WHERE event = 'accepted' AND tags <> '' " +
		"AND message_id = column1 AND sender_domain = column2 ORDER BY ts DESC LIMIT 1) FROM (VALUES ")
	for i, m := range messages {
		if i > 0 {
			b.text(",")
		}
		b.text("(")
		b.arg(m.id)
		b.text(",")
		b.arg(m.domain)
		b.text(")")
	}
	b.text(") AS asked")
	return b
}

// overtaken is how long before its acceptance a delivery can be over: moments. Events
// from before are about something else that has the same message ID.
const overtaken = time.Hour

// tagAllEarlier gives deliveries what the form of their message said, that were
// stored before its acceptance: they may be over before the API has told that it took
// the message.
func (db *database) tagAllEarlier(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) error {
	said := make(map[messageOf]string)
	since := int64(math.MaxInt64)
	for i := range rows {
		if m, ok := rows[i].message(); ok && rows[i].saidItself() != "" {
			said[m] = rows[i].tags
			since = min(since, rows[i].ts-overtaken.Microseconds())
		}
	}
	ids := make([]string, 0, len(said))
	for m := range said {
		ids = append(ids, m.id)
	}
	var earlier []messageOf
	for some := range slices.Chunk(ids, lookups) {
		err := db.untagged(some, since).each(ctx, tx, func(scan func(...any) error) error {
			var m messageOf
			err := scan(&m.id, &m.domain)
			if said[m] != "" {
				earlier = append(earlier, m)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	// In order: two transactions may do this at a time.
	slices.SortFunc(earlier, messageOf.compare)
	for _, m := range slices.Compact(earlier) {
		b := db.tagEarlier(m, said[m], since)
		if _, err := tx.ExecContext(ctx, b.sql.String(), b.args...); err != nil {
			return err
		}
	}
	return nil
}

// untagged asks which messages have deliveries since a time that do not say what
// their form said.
func (db *database) untagged(ids []string, since int64) *builder {
	b := db.ask("SELECT message_id, sender_domain FROM events WHERE ")
	b.among("message_id", ids)
	b.since(since)
	b.text(" AND tags = '' AND event <> 'accepted'")
	return b
}

// tagEarlier makes the statement of tagAllEarlier for one message.
func (db *database) tagEarlier(m messageOf, tags string, since int64) *builder {
	b := db.ask("UPDATE events SET tags = ")
	b.arg(tags)
	b.text(" WHERE tags = '' AND event <> 'accepted' AND message_id = ")
	b.arg(m.id)
	b.text(" AND sender_domain = ")
	b.arg(m.domain)
	b.since(since)
	return b
}

// since restricts a statement that goes by an index of messages to events since a
// time.
func (b *builder) since(micros int64) {
	b.text(" AND ts >= ")
	b.arg(micros)
	if b.parted {
		// The first part has all time before it, too.
		b.text(" AND part IN (SELECT number FROM events_parts WHERE begins >= " +
			"coalesce((SELECT max(begins) FROM events_parts WHERE begins <= ")
		b.arg(micros)
		b.text("), begins))")
	}
}

// form is what a form said, as it stands in an accepted event.
type form struct {
	Tags      json.RawMessage `json:"tags"`
	Variables json.RawMessage `json:"user-variables"`
}

// maxTold is how many octets of documents are enough to add to: those of a message to
// many repeat what its form said once for each.
const maxTold = 2 * maxAnswer

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
	size := 0
	for i := range rows {
		if form := forms[rows[i].message]; form != nil && rows[i].event != EventAccepted && size < maxTold {
			rows[i].document = form.into(rows[i].document)
		}
		size += len(rows[i].document)
	}
	return nil
}

// forms finds what was said about messages. One of the accepted events of a message
// will do.
func (s *Store) forms(ctx context.Context, found map[messageOf]*form) error {
	return s.each(ctx, s.db.latestOf("document", slices.Collect(maps.Keys(found))), func(scan func(...any) error) error {
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
