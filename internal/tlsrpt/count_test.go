package tlsrpt

import (
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"

	"github.com/foxcpp/maddy/framework/exterrors"

	"tlscontrol/internal/mailtest"
)

// watch is a Counter to look at.
type watch struct {
	mu      sync.Mutex
	results map[Result]int
	lost    int64
}

func (w *watch) Reported(r Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results[r]++
}

func (w *watch) Lost(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost += n
}

// watched is a world with a watch.
func watched(t *testing.T) (*world, *watch) {
	t.Helper()
	w, c := newWorld(t), &watch{results: make(map[Result]int)}
	w.cfg.Count = c
	w.open()
	return w, c
}

// Each receiver counts once, when it is done with; one that is tried again does not.
func TestReportsAreCounted(t *testing.T) {
	t.Parallel()
	w, c := watched(t)
	h := w.serve(mailtest.Good)
	w.dns.TXT("_smtp._tls.both.example", record+","+h.uri())
	w.dns.TXT("_smtp._tls.silent.example", record)
	for _, domain := range []string{"both.example", "silent.example", "norecord.example"} {
		w.r.Record(session(domain, ""))
	}
	w.office.setFail(exterrors.WithTemporary(fmt.Errorf("later"), true))
	w.step(allDue)
	if want := map[Result]int{Sent: 1}; !maps.Equal(c.results, want) {
		t.Errorf("%v, want %v", c.results, want)
	}
	w.office.setFail(exterrors.WithTemporary(fmt.Errorf("never"), false))
	w.dns.Remove("_smtp._tls.silent.example")
	w.dns.Fail("_smtp._tls.silent.example", 2)
	w.step(allDue.Add(firstPause))
	w.step(allDue.Add(giveUp + firstPause))
	if want := map[Result]int{Sent: 1, Refused: 1, GivenUp: 1}; !maps.Equal(c.results, want) {
		t.Errorf("%v, want %v", c.results, want)
	}
	if c.lost != 0 {
		t.Errorf("%d sessions lost", c.lost)
	}
}

// What finds no room and what cannot be written is counted as lost.
func TestLostSessionsAreCounted(t *testing.T) {
	t.Parallel()
	w, c := watched(t)
	w.r.flushing.stop()
	for i := range maxPending + 5 {
		w.r.Record(session(fmt.Sprintf("d%d.example", i), ""))
	}
	w.r.flush()
	if c.lost != 5 {
		t.Errorf("%d sessions lost, want 5", c.lost)
	}
	path := countsPath(w.cfg.Dir, theDay)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // nothing can be appended to it, by root either
		t.Fatal(err)
	}
	for range 3 {
		w.r.Record(session("example.net", ""))
	}
	w.r.flush()
	if c.lost != 8 {
		t.Errorf("%d sessions lost, want 8", c.lost)
	}
}
