package events

import (
	"bytes"
	"context"
	"slices"
	"time"

	"tlscontrol/internal/events/journal"
)

// Sizes and times of batches. More rows in a transaction gain nothing; the time
// is what an event waits at most when there are few.
const (
	maxBatch      = 500
	maxBatchBytes = 4 << 20
	gather        = 200 * time.Millisecond
	storeTimeout  = 30 * time.Second
)

// Time between tries while the database is away: twice as long each time.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// shipper brings documents into the database. It is one goroutine.
type shipper struct {
	*Store
	reader  *journal.Reader // nil before there is a journal
	pending [][]byte        // documents that came past the journal
	away    bool            // the database was not there the last time
}

func (s *shipper) run() {
	defer close(s.shipperDone)
	// A database without events has to be ready for questions too.
	for s.step() {
	}
	if s.reader != nil {
		_ = s.reader.Close()
	}
	s.lost(len(s.pending), "neither the journal nor the database took them before the end")
}

// step ships one batch, or waits for one. It returns false at the end.
func (s *shipper) step() (more bool) {
	taken := 0
	defer func() {
		if p := recover(); p != nil {
			s.panicked("storing events", p)
			s.lost(taken, "a mistake in this program")
			more = s.pause(time.Second)
		}
	}()
	if !s.reachable() {
		return false
	}
	documents, past := s.next()
	if len(documents) == 0 {
		return s.wait(s.arrived, 0)
	}
	taken = len(documents)
	done := s.ship(documents)
	taken = 0
	switch {
	case done && past:
		s.pending = s.pending[len(documents):]
	case done:
		if err := s.reader.Commit(); err != nil {
			s.reporter.note("the journal cannot be shortened", err.Error())
		}
	}
	s.backlog()
	if !done {
		return false
	}
	if len(documents) == maxBatch {
		return true
	}
	return s.wait(nil, gather)
}

// wait waits for something to arrive, or for a while. When the store is being
// closed it does not wait, and goes on as long as something is left.
func (s *shipper) wait(arrived <-chan struct{}, while time.Duration) bool {
	var over <-chan time.Time
	if while > 0 {
		timer := time.NewTimer(while)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-arrived:
	case <-over:
	case <-s.stopShipper:
		// The writer has ended: what has not arrived now never will.
		select {
		case <-arrived:
		default:
			return arrived == nil
		}
	}
	return true
}

// next returns documents to ship, those of the journal first. past says that they
// come past the journal.
func (s *shipper) next() (documents [][]byte, past bool) {
	if j := s.journal.Load(); j != nil && s.reader == nil {
		s.reader = j.NewReader()
	}
	if s.reader != nil {
		documents, damaged, err := s.reader.Next(maxBatch, maxBatchBytes)
		s.lost(damaged, "lines in the journal are damaged")
		if err != nil {
			s.reporter.note("the journal cannot be read", err.Error())
		}
		if len(documents) > 0 {
			return documents, false
		}
	}
	if len(s.pending) == 0 {
		lines, _ := s.direct.take(nil)
		for line := range bytes.Lines(lines) {
			document, _ := journal.CutLine(bytes.TrimSuffix(line, []byte("\n")))
			s.pending = append(s.pending, document)
		}
	}
	return s.pending[:min(len(s.pending), maxBatch)], true
}

// ship inserts documents. It tries until it has done it, or returns false when
// the store is being closed.
func (s *shipper) ship(documents [][]byte) bool {
	rows := make([]columnsAndDocument, 0, len(documents))
	for _, d := range documents {
		c, err := parseColumns(d)
		if err != nil {
			s.lost(1, "not a document")
			continue
		}
		rows = append(rows, columnsAndDocument{c, d})
	}
	if len(rows) == 0 {
		return true
	}
	return s.retry(func() error {
		ctx, cancel := context.WithTimeout(s.ctx, storeTimeout)
		defer cancel()
		stored, err := s.db.store(ctx, rows)
		if err != nil && s.db.badDocument(err) {
			return s.oneByOne(ctx, &rows)
		}
		s.cfg.Counter.Stored(int(stored))
		return err
	})
}

// oneByOne inserts rows of which the database does not want one, and goes on
// without that one.
func (s *shipper) oneByOne(ctx context.Context, rows *[]columnsAndDocument) error {
	for len(*rows) > 0 {
		stored, err := s.db.store(ctx, (*rows)[:1])
		switch {
		case err == nil:
			s.cfg.Counter.Stored(int(stored))
		case s.db.badDocument(err):
			s.lost(1, "the database refuses them: "+err.Error())
		default:
			return err
		}
		*rows = slices.Delete(*rows, 0, 1)
	}
	return nil
}

// reachable waits until the database has its schema.
func (s *shipper) reachable() bool {
	if s.db.ready.Load() {
		return true
	}
	return s.retry(func() error { return s.db.prepare(s.ctx) })
}

// retry does something in the database until it is done. It returns false when
// the store is being closed meanwhile.
func (s *shipper) retry(do func() error) bool {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do()
		if err == nil {
			if s.away {
				s.reporter.note("the database", "is back")
			}
			s.away = false
			return true
		}
		s.away = true
		s.reporter.note("the database", "is away, events wait in the journal: "+err.Error())
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stopShipper:
			timer.Stop()
			return false
		}
	}
}
