package events

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"tlscontrol/internal/events/journal"
)

// Sizes and times of batches. A document waits for others until the time is over
// or there is enough to do; after a burst or an outage batches are larger,
// because rows that are inserted together share pages of the indexes.
const (
	gather        = 200 * time.Millisecond
	enough        = 500 << 10 // octets, of some 500 documents
	maxBatch      = 5000
	maxBatchBytes = 8 << 20
	storeTimeout  = 30 * time.Second
	lookEvery     = 10 * time.Second
)

// Time between tries while the database is away: twice as long each time.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// shipper brings documents into the database. It is one goroutine, and another
// that reads ahead while the database works.
type shipper struct {
	*Store
	reader  *journal.Reader // nil before there is a journal
	pending [][]byte        // documents that came past the journal
	ahead   chan batch      // what is being read ahead, nil if nothing is
}

// batch is what one transaction stores.
type batch struct {
	rows []columnsAndDocument
	n    int              // documents; more than rows if some are none
	end  journal.Position // what the journal may forget then
	past bool             // they came past the journal
}

func (s *shipper) run() {
	defer close(s.shipperDone)
	for s.step() {
	}
	if s.ahead != nil {
		s.giveUp(<-s.ahead)
	}
	s.giveUp(batch{n: len(s.pending), past: true})
	if s.reader != nil {
		_ = s.reader.Close()
	}
}

// giveUp counts what is in no journal and will not be stored.
func (s *shipper) giveUp(b batch) {
	if b.past {
		s.lost(b.n, "neither the journal nor the database took them before the end")
	}
}

// step ships one batch, or waits for one. It returns false at the end.
func (s *shipper) step() (more bool) {
	var b batch
	defer func() {
		if p := recover(); p != nil {
			s.panicked("storing events", p)
			s.lost(b.n, "a mistake in this program")
			more = s.pause(time.Second)
		}
	}()
	if !s.reachable() {
		return false
	}
	if b = s.next(); b.n == 0 {
		s.backlog()
		return s.wait()
	}
	if b.n == maxBatch {
		s.readAhead()
	}
	if !s.ship(b) {
		s.giveUp(b)
		return false
	}
	if !b.past {
		if err := s.reader.Commit(b.end); err != nil {
			s.reporter.note("the journal cannot be shortened", err.Error())
		}
	}
	s.gather()
	return true
}

// wait waits for something to arrive, and looks by itself now and then: a journal
// that could not be read may be readable again. It returns false when the store
// is being closed.
func (s *shipper) wait() bool {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-s.arrived:
		return true
	case <-timer.C:
		return true
	case <-s.stopShipper:
	}
	// The writer has ended: what has not arrived now never will.
	select {
	case <-s.arrived:
		return true
	default:
		return false
	}
}

// gather gives documents time to become a batch.
func (s *shipper) gather() {
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for s.ahead == nil && len(s.pending) == 0 && s.backlog() < enough {
		select {
		case <-s.arrived:
		case <-timer.C:
			return
		case <-s.stopShipper:
			return
		}
	}
}

// next returns what to ship: what was read ahead, else what is there now.
func (s *shipper) next() batch {
	if s.ahead == nil {
		return s.read()
	}
	b := <-s.ahead
	s.ahead = nil
	return b
}

// readAhead reads the next batch. Nobody else reads until next has it.
func (s *shipper) readAhead() {
	ahead := make(chan batch, 1)
	s.ahead = ahead
	go func() {
		var b batch
		defer func() {
			if p := recover(); p != nil {
				s.panicked("reading events", p)
			}
			ahead <- b
		}()
		b = s.read()
	}()
}

// read takes documents out of the journal, or, if it has none, of what came past
// it.
func (s *shipper) read() batch {
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
			return s.parse(batch{n: len(documents), end: s.reader.Position()}, documents)
		}
	}
	if len(s.pending) == 0 {
		lines, _ := s.direct.take(nil)
		for line := range bytes.Lines(lines) {
			document, _ := journal.CutLine(bytes.TrimSuffix(line, []byte("\n")))
			s.pending = append(s.pending, document)
		}
	}
	n := min(len(s.pending), maxBatch)
	documents := s.pending[:n]
	s.pending = s.pending[n:]
	return s.parse(batch{n: n, past: true}, documents)
}

// parse makes the rows of a batch.
func (s *shipper) parse(b batch, documents [][]byte) batch {
	b.rows = make([]columnsAndDocument, 0, len(documents))
	for _, d := range documents {
		if c, err := parseColumns(d); err == nil {
			b.rows = append(b.rows, columnsAndDocument{c, d})
		}
	}
	s.lost(b.n-len(b.rows), "not a document")
	return b
}

// ship inserts a batch. It tries until it has done it, or returns false when the
// store is being closed. What takes the database too long is tried in smaller
// pieces: else nothing would ever be stored any more.
func (s *shipper) ship(b batch) bool {
	rows, most := b.rows, len(b.rows)
	for len(rows) > 0 {
		if !s.retry(func() error {
			ctx, cancel := context.WithTimeout(s.ctx, cmp.Or(s.cfg.storeTimeout, storeTimeout))
			defer cancel()
			if err := s.prepare(ctx); err != nil {
				return err
			}
			n := min(most, len(rows))
			stored, err := s.db.store(ctx, rows[:n])
			s.cfg.Counter.Stored(int(stored))
			switch {
			case err == nil:
				rows = rows[n:]
			case s.db.badDocument(err):
				return s.oneByOne(ctx, &rows, n)
			case ctx.Err() != nil:
				most = max(1, n/2)
			}
			return err
		}) {
			return false
		}
	}
	return true
}

// oneByOne inserts the first n rows, of which the database does not want one, and
// goes on without that one.
func (s *shipper) oneByOne(ctx context.Context, rows *[]columnsAndDocument, n int) error {
	for range n {
		stored, err := s.db.store(ctx, (*rows)[:1])
		switch {
		case err == nil:
			s.cfg.Counter.Stored(int(stored))
		case s.db.badDocument(err):
			s.lost(1, "the database refuses them")
			s.reporter.note("a document that the database refuses", err.Error())
		default:
			return err
		}
		*rows = (*rows)[1:]
	}
	return nil
}

// reachable waits until the database has its schema.
func (s *shipper) reachable() bool {
	return s.retry(func() error { return s.prepare(s.ctx) })
}

func (s *shipper) prepare(ctx context.Context) error {
	if s.db.moved() {
		s.reporter.note("the database file", "was removed or replaced, what comes from now on goes to "+s.db.path)
	}
	return s.db.prepare(ctx)
}

// retry does something in the database until it is done. It returns false when
// the store is being closed meanwhile.
func (s *shipper) retry(do func() error) bool {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		begin := time.Now()
		err := do()
		if err == nil {
			s.reporter.database.back()
			return true
		}
		s.reporter.database.away(begin, s.waiting()+": "+s.db.damaged(err).Error())
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.stopShipper:
			timer.Stop()
			return false
		}
	}
}
