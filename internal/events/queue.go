package events

import (
	"context"
	"sync"

	"tlscontrol/internal/events/journal"
)

// queue holds lines of the journal in memory, up to a number of octets.
type queue struct {
	max  int
	wake chan struct{} // something is there

	mu     sync.Mutex
	lines  []byte
	n      int // documents in lines
	closed bool
	taken  chan struct{} // closed by take; nil: nobody waits for that
}

func newQueue(maxBytes int) *queue {
	return &queue{max: maxBytes, wake: make(chan struct{}, 1)}
}

// put adds a document and returns false if there is no room. It never waits.
func (q *queue) put(document []byte) bool {
	q.mu.Lock()
	ok := !q.closed && len(q.lines)+len(document) <= q.max
	if ok {
		q.lines = journal.AppendLine(q.lines, document)
		q.n++
	}
	q.mu.Unlock()
	if ok {
		q.ring()
	}
	return ok
}

// putPatiently adds a document for somebody who can wait for room, until the context
// ends. Half of the queue is for those who cannot.
func (q *queue) putPatiently(ctx context.Context, document []byte) bool {
	for {
		q.mu.Lock()
		if q.closed || len(q.lines)+len(document) <= q.max/2 {
			q.mu.Unlock()
			return q.put(document)
		}
		if q.taken == nil {
			q.taken = make(chan struct{})
		}
		taken := q.taken
		q.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return false
		}
	}
}

// putLines adds lines with n documents and returns false if there is no room.
func (q *queue) putLines(lines []byte, n int) bool {
	q.mu.Lock()
	ok := len(q.lines)+len(lines) <= q.max
	if ok {
		q.lines = append(q.lines, lines...)
		q.n += n
	}
	q.mu.Unlock()
	if ok {
		q.ring()
	}
	return ok
}

// take empties the queue. The memory of spare is used for what comes next.
func (q *queue) take(spare []byte) (lines []byte, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, n = q.lines, q.n
	q.lines, q.n = spare[:0], 0
	if q.taken != nil {
		close(q.taken)
		q.taken = nil
	}
	return lines, n
}

// size returns the octets that wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines)
}

// close makes put refuse everything.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.taken != nil {
		close(q.taken)
		q.taken = nil
	}
}

func (q *queue) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
