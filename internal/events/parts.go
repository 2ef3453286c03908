package events

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strings"
)

// SQLite writes whole pages. A row goes to the end of the table and of the index
// of times, but anywhere into an index of recipients. Among a million events such
// an index has more pages than a batch has rows, so that each row costs one to
// read, one to write to the log and one to the file, and that four times.
//
// So time is cut into parts, and these indexes begin with the part. What comes now
// is nearly always in the last one and goes to the few pages that its entries
// have; what retention removes is in the first. A question that goes by such an
// index looks into one part after the other, in the order of time, and stops when
// the page is full. A look takes microseconds; there is one for each 100,000
// events.
//
// An event is in the part of its time, whenever it comes. PostgreSQL writes what
// changed of a page, and does without.

// partSize is how many events come to a part until the next one begins.
const partSize = 100_000

// part is a part of the time, in the table events_parts.
type part struct {
	begins int64 // microseconds; the first has all time before it, too
	number int64
	fresh  int64 // events that came since it was cut
}

// parts are all of them, in order.
type parts []part

// readParts reads them: the file may be another one than it was for the last
// batch.
func readParts(ctx context.Context, tx *sql.Tx) (parts, error) {
	rows, err := tx.QueryContext(ctx, "SELECT begins, number, fresh FROM events_parts ORDER BY begins")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all parts
	for rows.Next() {
		var p part
		if err := rows.Scan(&p.begins, &p.number, &p.fresh); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("the table events_parts is empty")
	}
	return all, nil
}

// of returns the index of the part that a time belongs to.
func (ps parts) of(ts int64) int {
	i, found := slices.BinarySearchFunc(ps, ts, func(p part, ts int64) int { return cmp.Compare(p.begins, ts) })
	if !found && i > 0 {
		i--
	}
	return i
}

// end is where part i ends.
func (ps parts) end(i int) int64 {
	if i+1 < len(ps) {
		return ps[i+1].begins
	}
	return math.MaxInt64
}

// save writes what has changed since before, and begins a new part where size
// events have come to one.
func (ps parts) save(ctx context.Context, tx *sql.Tx, before parts, size int64) error {
	for i, p := range ps {
		if p.fresh == before[i].fresh {
			continue
		}
		if p.fresh >= size {
			if err := ps.cut(ctx, tx, i, size/100); err != nil {
				return err
			}
			p.fresh = 0
		}
		if _, err := tx.ExecContext(ctx, "UPDATE events_parts SET fresh = ? WHERE begins = ?", p.fresh, p.begins); err != nil {
			return err
		}
	}
	return nil
}

// cut ends part i and begins another one with its last few events. Without these,
// one event with a time in the future, from a machine whose clock was wrong, would
// be in the new part alone, and all others go on to fill the old one.
func (ps parts) cut(ctx context.Context, tx *sql.Tx, i int, few int64) error {
	var last int64 // in the old part
	err := tx.QueryRowContext(ctx, "SELECT ts FROM events WHERE ts >= ? AND ts < ? ORDER BY ts DESC LIMIT 1 OFFSET ?",
		ps[i].begins, ps.end(i), few).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil || last+1 >= ps.end(i) {
		return err
	}
	// Not of ps: the batch may have cut another one.
	var number int64
	err = tx.QueryRowContext(ctx, "INSERT INTO events_parts SELECT ?, max(number) + 1, 0 FROM events_parts RETURNING number", last+1).Scan(&number)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE events SET part = ? WHERE ts > ? AND ts < ?", number, last, ps.end(i))
	return err
}

// removeParts removes the parts before that of the oldest event.
const removeParts = "DELETE FROM events_parts WHERE begins < " +
	"(SELECT max(begins) FROM events_parts WHERE begins <= (SELECT min(ts) FROM events))"

// from says where events are read that a filter lets through. A keyed statement
// goes through the parts, from one end to the other, and in each by an index that
// begins with the part. CROSS JOIN keeps the planner from turning that loop inside
// out.
func (b *builder) from(f Filter, domains []string) {
	b.confined = confined(domains)
	b.keyed = b.parted && keyed(f, b.confined)
	if b.keyed {
		b.text("events_parts CROSS JOIN ")
	}
	b.text("events")
}

// confined reports whether a question is about one sending domain. Then all that
// is read must be found by that domain: how long an answer takes would tell of the
// others' events.
func confined(domains []string) bool {
	return len(domains) == 1 && !strings.HasPrefix(domains[0], "*.")
}

// keyed reports whether a filter asks for values of columns whose index begins
// with the part. Every way to fulfil it goes through such a condition.
func keyed(f Filter, confined bool) bool {
	switch f := f.(type) {
	case Is:
		return len(f.Values) > 0 && partKey(f.Field, confined)
	case And:
		return slices.ContainsFunc(f, func(f Filter) bool { return keyed(f, confined) })
	case Or:
		return len(f) > 0 && !slices.ContainsFunc(f, func(f Filter) bool { return !keyed(f, confined) })
	}
	return false
}

// partKey reports whether an index of the field begins with the part, and goes on
// with the sending domain in a question that is confined to one.
func partKey(f Field, confined bool) bool {
	switch f {
	case FieldRecipient, FieldMessageID, FieldQueueID:
		return true
	case FieldRecipientDomain:
		return !confined
	}
	return false
}

// inPart returns what stands around the condition of a field: where its index
// begins with the part, so does the condition. Said once for the whole statement,
// it would let the planner find "all of the part" a good way to several columns.
func (b *builder) inPart(f Field) (begin, end string) {
	if !b.keyed || !partKey(f, b.confined) {
		return "", ""
	}
	return "(part = number AND ", ")"
}
