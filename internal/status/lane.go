package status

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// maxPending bounds what waits in memory for one output: about three
// thousand documents, some seconds of a busy relay.
const maxPending = 4 << 20

// maxSpare is the size up to which a lane keeps a buffer after use.
const maxSpare = 256 << 10

var (
	errFull   = errors.New("the output does not keep up and the buffer is full")
	errClosed = errors.New("the log is closed")
)

// lane is an output and the goroutine that owns it.
type lane struct {
	out Output
	// lost is told of lines that were not written, failed of other problems.
	lost   func(o Output, n int, err error)
	failed func(o Output, what string, err error)

	ended chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	work   sync.Cond     // there is something to do
	next   batch         // what is written next
	spare  []byte        // a buffer for the batch after that
	late   bool          // somebody waited in vain since the last write began
	reopen chan struct{} // closed when a requested Reopen is done; nil if none is
	closed bool
}

// batch is some lines that are written together. All who wait for one share a
// channel: it is the only thing that is made anew for each batch.
type batch struct {
	lines []byte
	done  chan struct{} // closed when they are written, or lost
}

// ticket is what put gives to whoever hands in a line.
type ticket struct {
	done  chan struct{} // of the batch to wait for; nil if there is none
	taken bool          // the line is in the batch
	err   error         // why there is neither
}

func startLane(out Output, lost func(Output, int, error), failed func(Output, string, error)) *lane {
	l := &lane{out: out, lost: lost, failed: failed, ended: make(chan struct{})}
	l.work.L = &l.mu
	l.next.done = make(chan struct{})
	go l.run()
	return l
}

// put adds a line to what is written next. If there is no room, the ticket
// holds the batch after which there will be.
func (l *lane) put(line []byte) ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch full := len(l.next.lines)+len(line) > maxPending; {
	case l.closed:
		return ticket{err: errClosed}
	case full && l.late:
		return ticket{err: errFull}
	case full:
		return ticket{done: l.next.done}
	}
	l.next.lines = append(l.next.lines, line...)
	l.work.Signal()
	if l.late {
		return ticket{taken: true}
	}
	return ticket{done: l.next.done, taken: true}
}

// finish waits until the line of the ticket is written, as long as p lasts.
func (l *lane) finish(t ticket, line []byte, p *patience) {
	for t.done != nil {
		if !p.wait(t.done) {
			l.giveUp(t.done)
			break
		}
		if t.taken {
			return
		}
		t = l.put(line)
	}
	if t.taken {
		return
	}
	if t.err == nil {
		t.err = errFull
	}
	l.lost(l.out, 1, t.err)
}

// giveUp notes that the lane is late, unless the batch was written just now.
func (l *lane) giveUp(done <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-done:
	default:
		l.late = true
	}
}

// requestReopen asks for a Reopen between two writes. The result is closed
// when it is done.
func (l *lane) requestReopen() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.ended
	}
	if l.reopen == nil {
		l.reopen = make(chan struct{})
		l.work.Signal()
	}
	return l.reopen
}

// close lets the goroutine write what is waiting, and then end.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.work.Signal()
}

func (l *lane) run() {
	defer close(l.ended)
	for {
		b, reopen, closed := l.take()
		if len(b.lines) > 0 {
			l.write(b)
		}
		if reopen != nil {
			l.reopenOutput()
			close(reopen)
		}
		if closed && len(b.lines) == 0 {
			if err := protect(l.out.Close); err != nil && !errors.Is(err, os.ErrClosed) {
				l.failed(l.out, "cannot close", err)
			}
			return
		}
	}
}

// reopenOutput does so unless the end has come, which may have cut off a write that
// hung: to what is opened anew the rest would hang again.
func (l *lane) reopenOutput() {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return
	}
	if err := protect(l.out.Reopen); err != nil {
		l.failed(l.out, "cannot reopen, the old file stays in use", err)
	}
}

// take waits for something to do. When there is, it lets others run first: of
// deliveries that end side by side the first wakes the lane, and would have a
// write to itself while the others wait for the next one. With sixteen at a
// time this makes one write of eight, which costs half of the processor time,
// and whoever is alone does not notice.
func (l *lane) take() (b batch, reopen chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.next.lines) == 0 && l.reopen == nil && !l.closed {
		l.work.Wait()
	}
	l.mu.Unlock()
	runtime.Gosched()
	l.mu.Lock() // what there is to do may have become more, but not less
	if len(l.next.lines) > 0 {
		b = l.next
		l.next = batch{lines: l.spare, done: make(chan struct{})}
		l.spare = nil
	}
	reopen, l.reopen = l.reopen, nil
	return b, reopen, l.closed
}

func (l *lane) write(b batch) {
	var n int
	err := protect(func() (err error) {
		n, err = l.out.Write(b.lines)
		return err
	})
	if err != nil {
		rest := b.lines[min(max(n, 0), len(b.lines)):]
		if lost := bytes.Count(rest, []byte{'\n'}); lost > 0 {
			// Before those who wait go on: what they then read has counted it.
			l.lost(l.out, lost, err)
		}
	}

	l.mu.Lock()
	l.late = false
	if cap(b.lines) <= maxSpare {
		l.spare = b.lines[:0]
	}
	close(b.done)
	l.mu.Unlock()
}

// protect turns a panic of an output into an error.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}
