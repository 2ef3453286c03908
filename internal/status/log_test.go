package status

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeOutput keeps what is written, and fails or hangs as it is told.
type fakeOutput struct {
	name string

	mu      sync.Mutex
	text    strings.Builder
	fail    error
	hang    chan struct{} // Write waits until it is closed
	deaf    bool          // not even Close ends a hanging Write
	closed  chan struct{}
	reopens int
}

func newFake(name string) *fakeOutput {
	return &fakeOutput{name: name, closed: make(chan struct{})}
}

func (f *fakeOutput) Write(p []byte) (int, error) {
	f.mu.Lock()
	hang, closed := f.hang, f.closed
	if f.deaf {
		closed = nil
	}
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-closed:
			return 0, errors.New("closed")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return 0, f.fail
	}
	f.text.Write(p)
	return len(p), nil
}

func (f *fakeOutput) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reopens++
	return f.fail
}

func (f *fakeOutput) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

func (f *fakeOutput) String() string { return f.name }

func (f *fakeOutput) set(fail error, hang chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail, f.hang = fail, hang
}

func (f *fakeOutput) lines() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Count(f.text.String(), "\n")
}

// witness collects what a Log tells about itself.
type witness struct {
	lost atomic.Int64
	mu   sync.Mutex
	msgs []string
}

func (w *witness) config(outputs ...Output) Config {
	return Config{
		Outputs: outputs,
		Headers: []string{"message-id"},
		OnError: func(n int) { w.lost.Add(int64(n)) },
		Report: func(msg string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.msgs = append(w.msgs, msg)
		},
	}
}

func (w *witness) reports() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.msgs...)
}

// TestWrittenBeforeReturn: what survives a crash right after Concluded is
// what was written when it returned.
func TestWrittenBeforeReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		one, two := newFake("one"), newFake("two")
		l := NewLog(w.config(one, two))
		defer l.Close()
		for i := 1; i <= 100; i++ {
			l.Concluded(deliveredVerified(), 0)
			if one.lines() != i || two.lines() != i {
				t.Fatalf("%d and %d lines written after %d calls", one.lines(), two.lines(), i)
			}
		}
	})
}

// TestLostIsCountedBeforeReturn: who reads the counter after a delivery finds what
// it has lost.
func TestLostIsCountedBeforeReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int64
		full := newFake("full")
		full.set(errors.New("no space left on device"), nil)
		l := NewLog(Config{Outputs: []Output{full}, OnError: func(n int) {
			time.Sleep(time.Millisecond) // the bubble's clock: all others have gone on
			lost.Add(int64(n))
		}})
		defer l.Close()
		l.Concluded(deliveredVerified(), 0)
		if n := lost.Load(); n != 1 {
			t.Errorf("%d lines counted as lost, want 1", n)
		}
	})
}

// TestStuckOutput: the first delivery waits a second, the next ones not at
// all, the other output gets every line, and the stuck one gets what was
// buffered as soon as it moves.
func TestStuckOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		hang := make(chan struct{})
		stuck, fine := newFake("stuck"), newFake("fine")
		stuck.set(nil, hang)
		l := NewLog(w.config(stuck, fine))
		start := time.Now() // the bubble's clock: it moves only when all wait
		for range 10 {
			l.Concluded(deliveredVerified(), 0)
		}
		if waited := time.Since(start); waited != maxPatience {
			t.Errorf("ten deliveries waited %v, want %v once", waited, maxPatience)
		}
		if got := fine.lines(); got != 10 {
			t.Errorf("the other output has %d lines of 10", got)
		}
		close(hang)
		synctest.Wait()
		if got := stuck.lines(); got != 10 {
			t.Errorf("the stuck output has %d lines of 10 now that it moves", got)
		}
		l.Concluded(deliveredVerified(), 0)
		if got := stuck.lines(); got != 11 {
			t.Errorf("%d lines, want 11: an output that moves again is waited for again", got)
		}
		if err := l.Close(); err != nil || w.lost.Load() != 0 || len(w.reports()) != 0 {
			t.Errorf("close %v, lost %d, reports %q", err, w.lost.Load(), w.reports())
		}
	})
}

// TestBufferIsBounded: what a stuck output does not take beyond the bound is
// counted, and each line is either written in the end or counted.
func TestBufferIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		hang := make(chan struct{})
		stuck := newFake("stuck")
		stuck.set(nil, hang)
		l := NewLog(w.config(stuck))
		line := bytes.Repeat([]byte("x"), 64<<10-1)
		line = append(line, '\n')
		const total = 100
		for range total {
			l.write(line)
		}
		// One is being written, maxPending are waiting.
		if got, want := w.lost.Load(), int64(total-1-maxPending/len(line)); got != want {
			t.Errorf("%d lines lost, want %d", got, want)
		}
		close(hang)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := int64(stuck.lines()) + w.lost.Load(); got != total {
			t.Errorf("%d lines accounted for, want %d", got, total)
		}
		for _, msg := range w.reports() {
			if !strings.HasSuffix(msg, errFull.Error()) {
				t.Errorf("report %q", msg)
			}
		}
		if len(w.reports()) == 0 {
			t.Error("no report")
		}
	})
}

// TestFullBufferOfHealthyOutput: lines that find the buffer full while the
// output is merely busy wait for room.
func TestFullBufferOfHealthyOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		hang := make(chan struct{})
		out := newFake("slow")
		out.set(nil, hang)
		l := NewLog(w.config(out))
		line := append(bytes.Repeat([]byte("x"), 1<<20-1), '\n')
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { l.write(line) })
		}
		synctest.Wait()
		close(hang)
		all.Wait()
		if out.lines() != 20 || w.lost.Load() != 0 {
			t.Errorf("%d lines written, %d lost", out.lines(), w.lost.Load())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestReportOnceAMinute: the first loss is told at once, the sum of the
// others after a minute, and the rest at Close.
func TestReportOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		full := newFake("full")
		full.set(errors.New("no space left on device"), nil)
		l := NewLog(w.config(full))
		conclude := func(n int) {
			for range n {
				l.Concluded(deliveredVerified(), 0)
			}
			synctest.Wait()
		}
		conclude(1)
		conclude(20)
		time.Sleep(reportEvery - time.Nanosecond)
		conclude(4)
		want := []string{"output full: 1 document lost: no space left on device"}
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("within the first minute (-want +got):\n%s", diff)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want = append(want, "output full: 24 documents lost: no space left on device")
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("after a minute (-want +got):\n%s", diff)
		}
		conclude(2)
		full.set(nil, nil)
		conclude(5)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		want = append(want, "output full: 2 documents lost: no space left on device")
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("after Close (-want +got):\n%s", diff)
		}
		if w.lost.Load() != 27 || full.lines() != 5 {
			t.Errorf("lost %d, written %d", w.lost.Load(), full.lines())
		}
	})
}

// TestPatienceAgain: a limit that is used again lasts as long as a new one,
// whatever became of it before.
func TestPatienceAgain(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	close(done)
	for _, c := range []struct {
		name   string
		before func(p *patience)
	}{
		{"it ran out", func(p *patience) { p.wait(make(chan struct{})) }},
		{"it ran out unseen", func(p *patience) { p.start(); time.Sleep(2 * maxPatience) }},
		{"it had begun", func(p *patience) { p.start(); time.Sleep(maxPatience / 2) }},
		{"it had not begun", func(p *patience) { p.wait(done) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &patience{limit: maxPatience}
			c.before(p)
			p.stop()
			start := time.Now()
			if p.wait(make(chan struct{})) || time.Since(start) != maxPatience {
				t.Errorf("%s: waited %v, want %v", c.name, time.Since(start), maxPatience)
			}
			if !p.wait(done) {
				t.Errorf("%s: what is done counts as late", c.name)
			}
		})
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		hang := make(chan struct{})
		a, b := newFake("a"), newFake("b")
		l := NewLog(w.config(a, b))
		l.Reopen()
		if a.reopens != 1 || b.reopens != 1 {
			t.Errorf("%d and %d reopens", a.reopens, b.reopens)
		}
		b.set(errors.New("permission denied"), nil)
		l.Reopen()
		synctest.Wait()
		want := []string{"output b: cannot reopen, the old file stays in use: permission denied (at 2000-01-01T00:00:00Z)"}
		if diff := cmp.Diff(want, w.reports()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// A stuck output reopens when it moves again; Reopen returns before.
		a.set(nil, hang)
		b.set(nil, nil)
		l.Concluded(deliveredVerified(), 0)
		l.Reopen()
		close(hang)
		synctest.Wait()
		if a.reopens != 3 || a.lines() != 1 {
			t.Errorf("%d reopens, %d lines", a.reopens, a.lines())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.Reopen()
		if a.reopens != 3 {
			t.Error("reopened after Close")
		}

		// One that hangs until Close cuts it off is not opened again.
		c := newFake("c")
		c.set(nil, make(chan struct{}))
		l = NewLog(w.config(c))
		l.Concluded(deliveredVerified(), 0)
		l.Reopen()
		if err := l.Close(); err != nil || c.reopens != 0 {
			t.Errorf("%d reopens while it was closed, %v", c.reopens, err)
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		deaf bool
		want string
	}{
		{"an interruptible output is interrupted", false, "<nil>"},
		{"a deaf one is named", true, "output stuck is stuck"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w witness
				hang := make(chan struct{})
				stuck := newFake("stuck")
				stuck.deaf = c.deaf
				stuck.set(nil, hang)
				l := NewLog(w.config(stuck))
				l.Concluded(deliveredVerified(), 0)
				if got := fmt.Sprint(l.Close()); got != c.want {
					t.Errorf("Close: %s, want %s", got, c.want)
				}
				if got := fmt.Sprint(l.Close()); got != c.want {
					t.Errorf("second Close: %s, want %s", got, c.want)
				}
				lost := w.lost.Load()
				l.Concluded(deliveredVerified(), 0)
				if w.lost.Load() != lost+1 {
					t.Error("a document after Close is not counted as lost")
				}
				close(hang) // and the bubble fails if a goroutine is left
			})
		})
	}
}

// TestPanics: neither an output nor a callback that panics reaches a delivery.
func TestPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int64
		l := NewLog(Config{
			Outputs: []Output{panicking{}},
			OnError: func(n int) { lost.Add(int64(n)); panic("count") },
			Report:  func(string) { panic("report") },
		})
		l.Concluded(deliveredVerified(), 0)
		l.Concluded(deliveredVerified(), 0)
		l.Reopen()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if lost.Load() != 2 {
			t.Errorf("lost %d, want 2", lost.Load())
		}
	})
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("write") }
func (panicking) Reopen() error             { panic("reopen") }
func (panicking) Close() error              { panic("close") }
func (panicking) String() string            { return "panicking" }
