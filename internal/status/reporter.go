package status

import (
	"fmt"
	"sync"
	"time"

	"tlscontrol/internal/bell"
)

// reportEvery is the least time between two reports of lost lines: a full
// disk must not fill the operator's log as well.
const reportEvery = time.Minute

// reporter counts lost lines and tells the operator in words.
type reporter struct {
	onError func(n int)
	report  func(msg string)

	bell *bell.Bell

	mu     sync.Mutex
	losses []loss // since the last report, one for each output
	notes  []string
}

// loss sums up what one output lost.
type loss struct {
	out Output
	n   int
	err error // the latest
}

// maxNotes bounds the notes that wait for a report that hangs.
const maxNotes = 16

func startReporter(onError func(int), report func(string)) *reporter {
	r := &reporter{onError: onError, report: report}
	r.bell = bell.New(reportEvery, r.flush)
	return r
}

// lost counts n lines that out did not get because of err.
func (r *reporter) lost(out Output, n int, err error) {
	if r.onError != nil {
		_ = protect(func() error { r.onError(n); return nil })
	}
	r.mu.Lock()
	r.add(loss{out, n, err})
	r.mu.Unlock()
	r.bell.Ring()
}

func (r *reporter) add(l loss) {
	for i := range r.losses {
		if r.losses[i].out == l.out {
			r.losses[i].n += l.n
			r.losses[i].err = l.err
			return
		}
	}
	r.losses = append(r.losses, l)
}

// failed notes a problem that cost no line.
func (r *reporter) failed(out Output, what string, err error) {
	r.note(out, what+": "+err.Error())
}

// note notes what an output has to tell.
func (r *reporter) note(out Output, what string) {
	r.mu.Lock()
	if len(r.notes) < maxNotes {
		r.notes = append(r.notes, fmt.Sprintf("output %v: %s", out, what))
	}
	r.mu.Unlock()
	r.bell.Ring()
}

// flush reports what has gathered.
func (r *reporter) flush() {
	r.mu.Lock()
	msgs, losses := r.notes, r.losses
	r.notes, r.losses = nil, nil
	r.mu.Unlock()
	for _, l := range losses {
		noun := "documents"
		if l.n == 1 {
			noun = "document"
		}
		msgs = append(msgs, fmt.Sprintf("output %v: %d %s lost: %v", l.out, l.n, noun, l.err))
	}
	if r.report == nil {
		return
	}
	for _, m := range msgs {
		_ = protect(func() error { r.report(m); return nil })
	}
}

// close reports what is left. It does not wait for ever for a Report that
// hangs.
func (r *reporter) close() { r.bell.Close(maxPatience) }
