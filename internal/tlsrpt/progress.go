package tlsrpt

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxProgressBytes bounds what is read of a progress file: some hundred octets
// for each try of each report.
const maxProgressBytes = 64 << 20

// progressLine is one line of a progress file: what became of a report.
type progressLine struct {
	Domain string `json:"domain"`
	// Try announces an attempt, the first being 1.
	Try  int       `json:"try,omitempty"`
	At   time.Time `json:"at,omitzero"`
	Next time.Time `json:"next,omitzero"` // when the next one is due if this one fails
	// To is an endpoint that is done with; it took the report or refused it.
	// Mail is taken by whoever delivers it; see Outcome.
	To     string `json:"to,omitempty"`
	Result string `json:"result,omitempty"`
	// Done says why there is nothing more to do for the domain.
	Done string `json:"done,omitempty"`
}

// Words of Result and Done.
const (
	resultSent    = "sent"
	resultRefused = "refused"

	doneAll      = "all told"
	doneNoRecord = "no record asks for reports"
	doneTooLate  = "given up after a day"
	doneTooMany  = "too many reports for one day"
)

// queued is said of mail that was taken on its way.
const queued = "queued"

// Outcome says in a word what became of a report that is noted with a result for an
// endpoint. A mailed report that counts as sent was taken by whoever delivers our
// mail, mostly a queue, and not by the receiver, of whom nothing is known here.
func Outcome(endpoint, result string) string {
	if result == resultSent && strings.HasPrefix(endpoint, "mailto:") {
		return queued
	}
	return result
}

// batch is a day that is over, with what has been sent of it.
type batch struct {
	dir string
	day *day

	mu      sync.Mutex
	domains map[string]*progress
	sent    int // reports that were taken
}

// progress is how far the reports about one domain have come.
type progress struct {
	done  string
	told  map[string]string // endpoints that are done with, and the result
	try   int
	first time.Time // the first attempt
	next  time.Time
}

func progressPath(dir, name string) string { return filepath.Join(dir, name+".sent") }

func progressHeader(name string) header {
	return header{Kind: kindProgress, Version: version, Day: name}
}

// loadBatch reads counts and progress of a day.
func loadBatch(dir, name string) (*batch, error) {
	d, err := loadDay(dir, name)
	if err != nil {
		return nil, err
	}
	b := newBatch(dir, d)
	_, err = readJournal(progressPath(dir, name), progressHeader(name), maxProgressBytes, b.take)
	return b, err
}

func newBatch(dir string, d *day) *batch {
	return &batch{dir: dir, day: d, domains: make(map[string]*progress)}
}

func (b *batch) take(text []byte) error {
	var l progressLine
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if b.day.domains[l.Domain] == nil {
		return errLine // not counted, so there is nothing to tell
	}
	b.apply(l)
	return nil
}

// of returns the progress of a domain.
func (b *batch) of(domain string) *progress {
	p := b.domains[domain]
	if p == nil {
		p = &progress{told: make(map[string]string)}
		b.domains[domain] = p
	}
	return p
}

func (b *batch) apply(l progressLine) {
	p := b.of(l.Domain)
	if l.Try > 0 {
		p.try, p.next = l.Try, l.Next
		if p.first.IsZero() {
			p.first = l.At
		}
	}
	if l.To != "" && len(p.told) < 2*maxEndpoints {
		p.told[l.To] = l.Result
	}
	if l.Result == resultSent {
		b.sent++
	}
	if l.Done != "" {
		p.done = l.Done
	}
}

// note writes a line down and then believes it. If it cannot be written, it is
// believed all the same: this process will not send a report twice.
func (b *batch) note(l progressLine) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.apply(l)
	line := append([]byte(encode(l)), '\n')
	return appendJournal(progressPath(b.dir, b.day.name), progressHeader(b.day.name), line)
}

// snapshot is a copy of a domain's progress.
func (b *batch) snapshot(domain string) progress {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := *b.of(domain)
	p.told = maps.Clone(p.told)
	return p
}

// total is how many reports of the day were taken.
func (b *batch) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}
