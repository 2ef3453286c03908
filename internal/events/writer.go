package events

import (
	"errors"
	"time"

	"tlscontrol/internal/events/journal"
)

// syncEvery is how long an event may wait for the disk after it was written: so
// much a power failure can cost.
const syncEvery = 200 * time.Millisecond

// reopenEvery is the time between two tries to open the journal.
const reopenEvery = 10 * time.Second

// maxSpare is the largest buffer that is kept for the next lines.
const maxSpare = 1 << 20

// writer brings what waits in memory into the journal. It is one goroutine.
type writer struct {
	*Store
	spare  []byte
	tried  time.Time   // when the journal could not be opened
	failed bool        // the journal did not take what came last
	syncAt *time.Timer // nil: everything is on the disk
}

func (w *writer) run() {
	defer close(w.writerDone)
	for w.step() {
	}
	w.drain()
	w.sync()
}

// step waits for something to do and does it. It returns false at the end.
func (w *writer) step() (more bool) {
	defer func() {
		if p := recover(); p != nil {
			w.panicked("writing events", p)
			more = w.pause(time.Second)
		}
	}()
	var due <-chan time.Time
	if w.syncAt != nil {
		due = w.syncAt.C
	}
	select {
	case <-w.queue.wake:
		w.drain()
	case <-due:
		w.sync()
	case <-w.stopWriter:
		return false
	}
	return true
}

// drain writes all that waits.
func (w *writer) drain() {
	lines, n := w.queue.take(w.spare)
	w.spare = nil
	if n == 0 {
		return
	}
	if w.append(lines, n) && w.syncAt == nil {
		w.syncAt = time.NewTimer(syncEvery)
	}
	select {
	case w.arrived <- struct{}{}:
	default:
	}
	if cap(lines) <= maxSpare {
		w.spare = lines
	}
	w.backlog()
}

// append writes lines with n documents and reports whether they are in the
// journal.
func (w *writer) append(lines []byte, n int) bool {
	if w.Store.journal.Load() == nil && time.Since(w.tried) >= reopenEvery {
		w.openJournal()
	}
	if j := w.Store.journal.Load(); j != nil {
		err := j.Append(lines)
		switch {
		case err == nil:
			w.recovered()
			return true
		case errors.Is(err, journal.ErrFull):
			w.failed = true
			w.lost(n, err.Error()+", and the database does not take them")
			return false
		}
		w.reporter.note("the journal cannot be written", err.Error())
	}
	w.failed = true
	w.past.Store(true)
	if !w.direct.putLines(lines, n) {
		w.lost(n, "the journal cannot be written, and the database does not take them")
	}
	return false
}

// recovered tells that a trouble that was told of is over.
func (w *writer) recovered() {
	if w.failed {
		w.reporter.note("the journal", "takes events again")
	}
	w.failed = false
	w.past.Store(false)
}

func (w *writer) openJournal() {
	j, err := journal.Open(w.cfg.Journal)
	if err != nil {
		w.tried = time.Now()
		w.reporter.note("the journal cannot be opened", err.Error())
		return
	}
	w.Store.journal.Store(j)
}

func (w *writer) sync() {
	w.syncAt = nil
	j := w.Store.journal.Load()
	if j == nil {
		return
	}
	if err := j.Sync(); err != nil {
		w.reporter.note("the journal cannot be synced", err.Error())
	}
}
