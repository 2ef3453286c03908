package status

import (
	"fmt"
	"sync"
	"time"

	"tlscontrol/internal/bell"
)

// reportEvery is the least time between two reports of lost lines: a full
// disk must not fill the operator's log as well. noteEvery is that of everything
// else, some of which answers what the operator has just done (SIGUSR1).
const (
	reportEvery = time.Minute
	noteEvery   = time.Second
)

// reporter counts lost lines and tells the operator in words.
type reporter struct {
	onError func(n int)
	report  func(msg string)

	bell  *bell.Bell // of losses
	noted *bell.Bell

	mu     sync.Mutex
	losses []loss // since the last report, one for each output
	notes  []note // those that are not told yet
}

// loss sums up what one output lost.
type loss struct {
	out Output
	n   int
	err error // the latest
}

// note is what an output has to tell, and how often and since when it was so.
type note struct {
	out   Output
	what  string
	times int
	since time.Time
}

// maxNotes bounds the notes of one output that wait for a report that hangs.
const maxNotes = 16

func startReporter(onError func(int), report func(string)) *reporter {
	r := &reporter{onError: onError, report: report}
	r.bell = bell.New(reportEvery, r.flush)
	r.noted = bell.New(noteEvery, r.flushNotes)
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

// note notes what an output has to tell. It is told within noteEvery, what is the
// same once.
func (r *reporter) note(out Output, what string) {
	r.mu.Lock()
	r.addNote(out, what)
	r.mu.Unlock()
	r.noted.Ring()
}

func (r *reporter) addNote(out Output, what string) {
	others := 0
	for i := range r.notes {
		n := &r.notes[i]
		switch {
		case n.out != out:
		case n.what == what:
			n.times++
			return
		default:
			others++
		}
	}
	if others < maxNotes {
		r.notes = append(r.notes, note{out, what, 1, time.Now()})
	}
}

// String has the time, as that of the operator's log is when it was told.
func (n note) String() string {
	when := "at"
	if n.times > 1 {
		when = fmt.Sprintf("%d times since", n.times)
	}
	return fmt.Sprintf("output %v: %s (%s %s)", n.out, n.what, when, n.since.UTC().Format(time.RFC3339))
}

func (r *reporter) flushNotes() {
	r.mu.Lock()
	notes := r.notes
	r.notes = nil
	r.mu.Unlock()
	for _, n := range notes {
		r.say(n.String())
	}
}

// flush reports the lines that were lost.
func (r *reporter) flush() {
	r.mu.Lock()
	losses := r.losses
	r.losses = nil
	r.mu.Unlock()
	for _, l := range losses {
		noun := "documents"
		if l.n == 1 {
			noun = "document"
		}
		r.say(fmt.Sprintf("output %v: %d %s lost: %v", l.out, l.n, noun, l.err))
	}
}

func (r *reporter) say(msg string) {
	if r.report != nil {
		_ = protect(func() error { r.report(msg); return nil })
	}
}

// close reports what is left. It does not wait for ever for a Report that
// hangs.
func (r *reporter) close() {
	end := time.Now().Add(maxPatience)
	r.noted.Close(maxPatience)
	r.bell.Close(time.Until(end))
}
