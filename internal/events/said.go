package events

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
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

// fillTags gives events that follow on the acceptance of a message what its form
// said.
func (db *database) fillTags(ctx context.Context, rows []columnsAndDocument) error {
	said := make(map[messageOf]string)
	for i := range rows {
		if m, ok := rows[i].message(); ok && said[m] == "" {
			said[m] = rows[i].saidItself()
		}
	}
	if err := db.readTags(ctx, said); err != nil {
		return err
	}
	for i := range rows {
		if m, ok := rows[i].message(); ok && rows[i].tags == "" {
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

// anySaid asks whether any form said anything.
const anySaid = "SELECT EXISTS (SELECT 1 FROM events WHERE event = 'accepted' AND tags <> '')"

// lookups is how many messages one statement asks for.
const lookups = 1000

// readTags finds what was said about messages of which that is not known.
func (db *database) readTags(ctx context.Context, said map[messageOf]string) error {
	var ids []string
	for m, tags := range said {
		if tags == "" {
			ids = append(ids, m.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var some bool // most relays know no forms
	if err := db.write.QueryRowContext(ctx, anySaid).Scan(&some); err != nil || !some {
		return err
	}
	for some := range slices.Chunk(ids, lookups) {
		err := db.tagsOf(some).each(ctx, db.write, func(scan func(...any) error) error {
			var m messageOf
			var tags string
			if err := scan(&m.id, &m.domain, &tags); err != nil {
				return err
			}
			if known, asked := said[m]; asked && known == "" {
				said[m] = tags
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tagsOf makes the statement of readTags.
func (db *database) tagsOf(ids []string) *builder {
	b := db.ask("SELECT message_id, sender_domain, max(tags) FROM events WHERE event = 'accepted' AND tags <> '' AND ")
	b.among("message_id", ids)
	b.text(" GROUP BY message_id, sender_domain")
	return b
}

// tagAllEarlier gives events what the form of their message said, that were stored
// before its acceptance: a delivery may be over before the API has told that it took
// the message.
func (db *database) tagAllEarlier(ctx context.Context, tx *sql.Tx, rows []columnsAndDocument) error {
	said := make(map[messageOf]string)
	for i := range rows {
		if m, ok := rows[i].message(); ok && rows[i].saidItself() != "" {
			said[m] = rows[i].tags
		}
	}
	ids := make([]string, 0, len(said))
	for m := range said {
		ids = append(ids, m.id)
	}
	var earlier []messageOf
	for some := range slices.Chunk(ids, lookups) {
		err := db.untagged(some).each(ctx, tx, func(scan func(...any) error) error {
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
		b := db.tagEarlier(m, said[m])
		if _, err := tx.ExecContext(ctx, b.sql.String(), b.args...); err != nil {
			return err
		}
	}
	return nil
}

// untagged asks which messages have events that do not say what their form said.
func (db *database) untagged(ids []string) *builder {
	b := db.ask("SELECT message_id, sender_domain FROM ")
	if db.parted {
		b.text("events_parts CROSS JOIN events WHERE part = number AND ")
	} else {
		b.text("events WHERE ")
	}
	b.among("message_id", ids)
	b.text(" AND tags = '' AND event <> 'accepted'")
	return b
}

// tagEarlier makes the statement of tagAllEarlier for one message.
func (db *database) tagEarlier(m messageOf, tags string) *builder {
	b := db.ask("UPDATE events SET tags = ")
	b.arg(tags)
	b.text(" WHERE tags = '' AND event <> 'accepted' AND message_id = ")
	b.arg(m.id)
	b.text(" AND sender_domain = ")
	b.arg(m.domain)
	if db.parted {
		b.text(" AND part IN (SELECT number FROM events_parts)")
	}
	return b
}

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
	b.text("SELECT column1, column2, (SELECT document FROM events WHERE event = 'accepted' AND tags <> '' AND message_id = column1 AND sender_domain = column2 LIMIT 1) " +
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
