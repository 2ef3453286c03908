package tlsrpt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"
)

const (
	// flushEvery is how much report data a crash can cost.
	flushEvery = 2 * time.Second
	// maxPending bounds what waits in memory to be written: different counts, not
	// sessions. A relay sees as many of them in two seconds only under attack.
	maxPending      = 20_000
	maxPendingBytes = 16 << 20
	// complainEvery is the least time between two log lines with one message.
	complainEvery = 10 * time.Minute
)

// pending is what has been counted since the last flush. The Reporter's mutex
// guards it.
type pending struct {
	counts map[key]int64
	bytes  int
	lost   int64 // sessions that found no room
}

func newPending() pending { return pending{counts: make(map[key]int64)} }

// Record counts a session. It only changes memory, and may be called by many
// goroutines; after Close it does nothing.
func (r *Reporter) Record(s Session) {
	keys := s.keys(r.today())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	p := &r.pending
	for _, k := range keys {
		size := len(k.domain) + len(k.policy) + len(k.failure)
		if _, known := p.counts[k]; !known {
			if len(p.counts) == maxPending || p.bytes+size > maxPendingBytes {
				p.lost++
				continue
			}
			p.bytes += size
		}
		p.counts[k]++
	}
}

// today is the current UTC day.
func (r *Reporter) today() string { return r.cfg.Now().UTC().Format(dayForm) }

// flush writes what has been counted. What cannot be written is lost, and
// complained about.
func (r *Reporter) flush() {
	r.files.Lock()
	defer r.files.Unlock()
	r.mu.Lock()
	p := r.pending
	r.pending = newPending()
	r.mu.Unlock()

	days, sessions := make(map[string][]byte), make(map[string]int64)
	for k, n := range p.counts {
		days[k.day] = k.appendLine(days[k.day], n)
		sessions[k.day] += n
	}
	if p.lost > 0 {
		r.cfg.Count.Lost(p.lost)
		r.complain(fmt.Errorf("%d sessions were not counted: too many different ones at once", p.lost))
	}
	for day, lines := range days {
		if err := r.write(day, lines); err != nil {
			r.cfg.Count.Lost(sessions[day])
			r.complain(err)
		}
	}
}

// appendLine writes a countsLine around the JSON that the key holds.
func (k key) appendLine(b []byte, n int64) []byte {
	b = append(b, `{"domain":"`...)
	b = append(b, k.domain...) // isDomain: nothing in it to escape
	b = append(b, `","policy":`...)
	b = append(b, k.policy...)
	if k.failure != "" {
		b = append(b, `,"failure":`...)
		b = append(b, k.failure...)
	}
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, '}', '\n')
}

var errDayFull = errors.New("the file of the day is full, sessions are not counted before tomorrow")

// write appends to the file of a day. One that grows too long is written anew
// with its counts added up; if that does not help, the day is full.
func (r *Reporter) write(day string, lines []byte) error {
	if err := r.ownLocked(); err != nil {
		return err
	}
	if r.full == day {
		return errDayFull
	}
	// Somebody may have removed it since.
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return err
	}
	path := countsPath(r.cfg.Dir, day)
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && info.Size()+int64(len(lines)) > r.maxDayBytes {
		if err := r.compact(day, int64(len(lines))); err != nil {
			return err
		}
	}
	return appendJournal(path, countsHeader(day), lines)
}

// compact makes room for more octets in the file of a day.
func (r *Reporter) compact(name string, more int64) error {
	d, err := loadDay(r.cfg.Dir, name)
	if errors.Is(err, errForeign) {
		return nil // appending renames it aside
	}
	if err != nil {
		return err
	}
	if d.lost > 0 {
		r.cfg.Count.Lost(d.lost)
		r.complain(fmt.Errorf("%d sessions were not counted: too many different domains, or policies of one", d.lost))
	}
	lines := d.lines()
	// With less than a quarter free it would soon be compacted all the time.
	if int64(len(lines))+more > r.maxDayBytes/4*3 {
		r.full = name
		return errDayFull
	}
	return replaceJournal(countsPath(r.cfg.Dir, name), countsHeader(name), lines)
}

// complain tells the operator that report data is lost, once in a while.
func (r *Reporter) complain(err error) {
	r.complainThat("TLS report data is lost; mail is not concerned", err)
}

// complainThat logs each message once in a while.
func (r *Reporter) complainThat(message string, err error) {
	if r.mayComplain(message, time.Now()) {
		r.cfg.Log.Error(message, "error", err)
	}
}

func (r *Reporter) mayComplain(message string, now time.Time) bool {
	r.mu.Lock() // not held while the log is written, which may take its time
	defer r.mu.Unlock()
	if last, before := r.complained[message]; before && now.Sub(last) < complainEvery {
		return false
	}
	r.complained[message] = now
	return true
}
