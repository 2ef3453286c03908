package events

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Events that are too old are removed every now and then, some at a time, with
// a pause between, so that new ones need not wait.
const (
	keepEvery   = 10 * time.Minute
	keepSoon    = 10 * time.Second // after the start, and while the database is away
	keepBatch   = 500
	keepPause   = 20 * time.Millisecond
	keepTimeout = 30 * time.Second
)

// clocksApart is how far the clocks of this machine and of the database may be
// from each other before the operator is told.
const clocksApart = 5 * time.Minute

// keep removes what is too old until the store is closed. It is one goroutine.
func (s *Store) keep() {
	defer close(s.keeperDone)
	for s.pause(keepSoon) {
		if !s.db.ready.Load() {
			continue
		}
		s.keepOnce()
		if !s.pause(keepEvery) {
			return
		}
	}
}

func (s *Store) keepOnce() {
	defer func() {
		if p := recover(); p != nil {
			s.panicked("removing old events", p)
		}
	}()
	if s.cfg.Keep > 0 {
		now, err := s.earlier(time.Now())
		if err == nil {
			_, err = s.expire(now.Add(-s.cfg.Keep))
		}
		s.notKept("removing old events", "old events cannot be removed", err)
	}
	for _, sql := range s.db.upkeep {
		if err := s.exec(sql); err != nil {
			s.notKept("looking after the database", "the database cannot be looked after", err)
			return
		}
	}
}

// notKept tells of an error, if it is one: what took too long, or what cannot be done.
// To who ends the store nothing of this is new.
func (s *Store) notKept(doing, problem string, err error) {
	switch {
	case err == nil || s.ctx.Err() != nil:
	case errors.Is(err, errLate):
		s.reporter.note(doing, fmt.Sprintf("did not end within %v, it goes on in %v", s.keepTimeout(), keepEvery))
	default:
		s.reporter.note(problem, err.Error())
	}
}

func (s *Store) keepTimeout() time.Duration { return cmp.Or(s.cfg.keepTimeout, keepTimeout) }

// errLate is what a statement ends with whose time is over. The drivers have their own
// words for that: to PostgreSQL, somebody wanted it to end.
var errLate = errors.New("it took too long")

// late is errLate for an error that comes from the end of the context's time.
func late(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errLate
	}
	return err
}

// earlier returns now, or what the database takes for now if that is earlier: a
// relay whose clock is ahead must not remove what the others have stored.
func (s *Store) earlier(now time.Time) (time.Time, error) {
	if s.db.clock == "" {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.keepTimeout())
	defer cancel()
	var micros int64
	if err := s.db.write.QueryRowContext(ctx, s.db.clock).Scan(&micros); err != nil {
		return time.Time{}, late(ctx, err)
	}
	theirs := time.UnixMicro(micros)
	if ahead := now.Sub(theirs); ahead.Abs() > clocksApart {
		way := "ahead of"
		if ahead < 0 {
			way = "behind"
		}
		s.reporter.note("the clock", fmt.Sprintf("of this machine is %s %s the database's, old events are removed by the one that is behind",
			ahead.Abs().Round(time.Second), way))
	}
	if theirs.Before(now) {
		return theirs, nil
	}
	return now, nil
}

// expire removes the events before a time and returns how many there were.
func (s *Store) expire(before time.Time) (removed int64, err error) {
	for {
		n, err := s.expireSome(before)
		removed += n
		if err != nil || n < keepBatch || !s.pause(keepPause) {
			return removed, err
		}
	}
}

func (s *Store) expireSome(before time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.keepTimeout())
	defer cancel()
	b := s.ask("DELETE FROM events WHERE (ts, id) IN (SELECT ts, id FROM events WHERE ts < ")
	b.arg(before.UnixMicro())
	b.text(" ORDER BY ts LIMIT ")
	b.arg(int64(keepBatch))
	b.text(")")
	res, err := s.db.write.ExecContext(ctx, b.sql.String(), b.args...)
	if err != nil {
		return 0, late(ctx, err)
	}
	return res.RowsAffected()
}

func (s *Store) exec(sql string) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.keepTimeout())
	defer cancel()
	_, err := s.db.write.ExecContext(ctx, sql)
	return late(ctx, err)
}

// pause waits and returns false when the store is being closed.
func (s *Store) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
