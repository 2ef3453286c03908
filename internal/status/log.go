package status

import (
	"fmt"
	"io"
	"sync"
	"time"

	"tlscontrol/internal/delivery"
)

// maxPatience is how long a delivery waits for its document to be written. A
// healthy disk needs well under a millisecond, a busy one some ten; a second
// is lost in what a delivery takes, and bounds what a stuck output can cost.
const maxPatience = time.Second

// maxDrain is how long Close waits for outputs to take what is left.
const maxDrain = 3 * time.Second

// Config is what a Log is made of.
type Config struct {
	Outputs []Output // become the Log's, which closes them
	Headers []string // header fields to copy into documents
	// OnError is told how many lines were lost, once for each output that
	// lost them. May be nil; called from several goroutines.
	OnError func(n int)
	// Report is told in words what went wrong, for the operator's log: within a
	// second, but for lost lines, which are summed up and reported once a minute.
	// May be nil; called from several goroutines.
	Report func(msg string)
	Rand   io.Reader // see Options
}

// Log writes a document for each attempt that is concluded. It is a
// delivery.Observer.
type Log struct {
	opts     Options
	lanes    []*lane
	reporter *reporter
	patience sync.Pool // of *patience

	close    sync.Once
	closeErr error
}

var _ delivery.Observer = (*Log)(nil)

// NewLog starts a log. Close ends it.
func NewLog(c Config) *Log {
	l := &Log{
		opts:     Options{Headers: HeaderNames(c.Headers...), Rand: c.Rand},
		reporter: startReporter(c.OnError, c.Report),
	}
	l.patience.New = func() any { return &patience{limit: maxPatience} }
	for _, out := range c.Outputs {
		if o, ok := out.(telling); ok {
			o.tellTo(func(what string) { l.reporter.note(out, what) })
		}
		l.lanes = append(l.lanes, startLane(out, l.reporter.lost, l.reporter.failed))
	}
	return l
}

// lines holds buffers for lines on their way to the lanes.
var lines = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the size up to which such a buffer is kept; a usual line has one
// to two KiB.
const maxKept = 64 << 10

// Concluded writes the document of a to all outputs. It returns when they
// have it, or after a second if one of them does not take it.
func (l *Log) Concluded(a *delivery.Attempt, _ float64) {
	if len(l.lanes) == 0 {
		return
	}
	buf := lines.Get().(*[]byte)
	line := Append((*buf)[:0], a, l.opts)
	l.write(line)
	if cap(line) <= maxKept {
		*buf = line
		lines.Put(buf)
	}
}

// write hands the line to all lanes before it waits for the first, so that
// they work side by side and a stuck one does not keep it from the others.
func (l *Log) write(line []byte) {
	var few [4]ticket // enough for most, without allocating
	tickets := few[:0]
	for _, lane := range l.lanes {
		tickets = append(tickets, lane.put(line))
	}
	p := l.patience.Get().(*patience)
	for i, lane := range l.lanes {
		lane.finish(tickets[i], line, p)
	}
	p.stop()
	l.patience.Put(p)
}

// Connected, Troubled and PoolChanged make Log a delivery.Observer; a
// document is about results alone.
func (l *Log) Connected(delivery.Connected) {}

// Troubled does nothing.
func (l *Log) Troubled(delivery.Trouble) {}

// Secured does nothing.
func (l *Log) Secured(*delivery.Secured) {}

// PoolChanged does nothing.
func (l *Log) PoolChanged(idle, busy int) {}

// Reopen makes every file output start a fresh file, after log rotation. What
// is concluded after Reopen has returned goes to the new files, unless an
// output was stuck; Reopen does not wait for those.
func (l *Log) Reopen() {
	var done []<-chan struct{}
	for _, lane := range l.lanes {
		done = append(done, lane.requestReopen())
	}
	p := patience{limit: maxPatience}
	defer p.stop()
	for _, d := range done {
		p.wait(d)
	}
}

// Close writes what is waiting, closes the outputs and ends all goroutines.
// Lines that are concluded later are lost, and counted. An output that is
// stuck is interrupted after some seconds; the error names those that could
// not be.
func (l *Log) Close() error {
	l.close.Do(func() { l.closeErr = l.closeOnce() })
	return l.closeErr
}

func (l *Log) closeOnce() error {
	for _, lane := range l.lanes {
		lane.close()
	}
	drain := patience{limit: maxDrain}
	defer drain.stop()
	var stuck []*lane
	for _, lane := range l.lanes {
		if !drain.wait(lane.ended) {
			stuck = append(stuck, lane)
			// A failed close is told by the goroutine that is waiting for it.
			_ = protect(lane.out.Close)
		}
	}
	last := patience{limit: maxPatience}
	defer last.stop()
	var err error
	for _, lane := range stuck {
		if !last.wait(lane.ended) {
			err = fmt.Errorf("output %v is stuck", lane.out)
		}
	}
	l.reporter.close()
	return err
}

// patience is a time limit shared by several waits. It begins with the first
// of them that is not over at once. After stop it can be used again.
type patience struct {
	limit   time.Duration
	timer   *time.Timer // kept for the next time
	running bool
	over    bool
}

// wait reports whether done was closed in time.
func (p *patience) wait(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	if p.over {
		return false
	}
	p.start()
	select {
	case <-done:
		return true
	case <-p.timer.C:
		p.over = true
		return false
	}
}

func (p *patience) start() {
	switch {
	case p.running:
	case p.timer == nil:
		p.timer = time.NewTimer(p.limit)
	default:
		p.timer.Reset(p.limit)
	}
	p.running = true
}

// stop ends the limit. No tick of it is left for whoever uses p next: since Go
// 1.23 a timer that is stopped or reset delivers none.
func (p *patience) stop() {
	if p.running {
		p.timer.Stop()
	}
	p.running, p.over = false, false
}
