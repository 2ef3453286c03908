package status

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// noted runs a test with a log to one output and a clock of its own. What was reported
// begins with the second in which it was.
func noted(t *testing.T, run func(t *testing.T, l *Log, out *fakeOutput, said func() []string)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w witness
		begin := time.Now()
		out := newFake("b")
		c := w.config(out)
		report := c.Report
		c.Report = func(msg string) { report(fmt.Sprint(int(time.Since(begin).Seconds()), " ", msg)) }
		l := NewLog(c)
		defer l.Close()
		run(t, l, out, func() []string {
			synctest.Wait()
			return w.reports()
		})
	})
}

// TestFailedReopenIsToldAtOnce: whoever rotates hears of a failure whatever else was
// told within the minute, and lines that are lost are summed up all the same.
func TestFailedReopenIsToldAtOnce(t *testing.T) {
	noted(t, func(t *testing.T, l *Log, out *fakeOutput, said func() []string) {
		out.set(errors.New("full"), nil)
		l.Concluded(deliveredVerified(), 0)
		for range 2 {
			time.Sleep(10 * time.Second)
			l.Concluded(deliveredVerified(), 0)
			l.Reopen()
		}
		time.Sleep(time.Minute)
		want := []string{
			"0 output b: 1 document lost: full",
			"10 output b: cannot reopen, the old file stays in use: full (at 2000-01-01T00:00:10Z)",
			"20 output b: cannot reopen, the old file stays in use: full (at 2000-01-01T00:00:20Z)",
			"60 output b: 2 documents lost: full",
		}
		if diff := cmp.Diff(want, said()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestManyFailedReopens: those within a second are one, of each kind.
func TestManyFailedReopens(t *testing.T) {
	noted(t, func(t *testing.T, l *Log, out *fakeOutput, said func() []string) {
		for _, why := range []string{"denied", "gone"} {
			out.set(errors.New(why), nil)
			for range 6 {
				l.Reopen()
				time.Sleep(110 * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		want := []string{
			"0 output b: cannot reopen, the old file stays in use: denied (at 2000-01-01T00:00:00Z)",
			"1 output b: cannot reopen, the old file stays in use: denied (5 times since 2000-01-01T00:00:00Z)",
			"1 output b: cannot reopen, the old file stays in use: gone (4 times since 2000-01-01T00:00:00Z)",
			"2 output b: cannot reopen, the old file stays in use: gone (2 times since 2000-01-01T00:00:01Z)",
		}
		if diff := cmp.Diff(want, said()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestOperatorsLogHangs: no delivery and no reopening waits for it, and what waits is
// bounded.
func TestOperatorsLogHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		out := newFake("b")
		l := NewLog(Config{Outputs: []Output{out}, Report: func(string) { <-hang }})
		begin := time.Now()
		for n := range 10 * maxNotes {
			out.set(fmt.Errorf("reason %d", n), nil)
			l.Concluded(deliveredVerified(), 0)
			l.Reopen()
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("somebody waited for %v", waited)
		}
		synctest.Wait()
		if n := len(l.reporter.notes); n > maxNotes {
			t.Errorf("%d notes wait", n)
		}
		out.set(nil, nil)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		close(hang)
	})
}
