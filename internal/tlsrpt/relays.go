package tlsrpt

import (
	"cmp"
	"context"
	"crypto/rand"
	"time"
)

// A report waits until every relay has told what it counted on the day. Each says
// in a row of its own how far it has come; who has no row owes nothing.

const (
	// settled is how long after midnight the day before can still be written to.
	settled = time.Minute
	// lateAfter is how long after its end a day waits for relays that have not told
	// everything. Reports have to be out within a day.
	lateAfter = 12 * time.Hour
	// relaysFor is how long a relay that was lost is waited for each day.
	relaysFor = 24 * time.Hour
)

// complete reports whether all relays have told what they counted on a day, or
// have been waited for long enough.
func (s *shared) complete(ctx context.Context, day string, now time.Time) (bool, error) {
	behind, err := column[string](s.db.QueryContext(ctx, "SELECT name FROM tlsrpt_relays "+
		"WHERE submitter = $1 AND through < $2 AND seen >= $3 ORDER BY name LIMIT 10",
		s.submitter, day, endOf(day).Add(-24*time.Hour-relaysFor)))
	if err != nil || len(behind) == 0 {
		return err == nil, err
	}
	late := now.After(endOf(day).Add(lateAfter))
	if key := day + map[bool]string{true: " late"}[late]; !s.waits[key] {
		s.waits[key] = true
		if late {
			s.cfg.Log.Warn("TLS reports go out without what some relays have counted", "day", day, "relays", behind)
		} else {
			s.cfg.Log.Info("TLS reports wait for what other relays have counted", "day", day, "relays", behind)
		}
	}
	return late, nil
}

// sign says of this relay how far it has come. One that leaves owes nothing.
func (s *shared) sign(ctx context.Context, now time.Time, leaving bool) error {
	// The row of this relay's id is its own at the first time, whoever wrote it: that
	// was before its start.
	relay, takeOver := cmp.Or(s.relay, s.id), s.relay == ""
	if leaving {
		_, err := s.db.ExecContext(ctx, "DELETE FROM tlsrpt_relays WHERE submitter = $1 AND relay = $2 AND ($3 OR process = $4)",
			s.submitter, relay, takeOver, s.process)
		return err
	}
	free, err := s.signAs(ctx, relay, takeOver, now)
	if err != nil {
		return err
	}
	if free {
		s.relay = relay
		return nil
	}
	// A copied machine: each of the two would speak for both.
	s.cfg.Log.Error("another relay counts TLS reports under the id of this one; remove the file id from one of the two directories",
		"directory", s.cfg.Dir)
	s.relay = rand.Text()
	_, err = s.signAs(ctx, s.relay, true, now)
	return err
}

// signAs writes the row of a relay. It is not free if another process wrote it
// last, unless it is to be taken over.
func (s *shared) signAs(ctx context.Context, relay string, takeOver bool, now time.Time) (free bool, err error) {
	through := now.Add(-settled).AddDate(0, 0, -1).Format(dayForm)
	res, err := s.db.ExecContext(ctx, "INSERT INTO tlsrpt_relays AS old (submitter, relay, name, process, seen, through) VALUES ($1, $2, $3, $4, $5, $6) "+
		"ON CONFLICT (submitter, relay) DO UPDATE SET name = excluded.name, process = excluded.process, seen = excluded.seen, through = excluded.through "+
		"WHERE $7 OR old.process = excluded.process",
		s.submitter, relay, clean(s.cfg.Relay, maxText), s.process, now, through, takeOver)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}
