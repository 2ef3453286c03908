package delivery_test

import (
	"sync/atomic"
	"testing"
)

// TestLaterAttempts: a message that one of several hosts may have stays with
// that copy in later attempts too, whichever host is asked.
func TestLaterAttempts(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]func(*atomic.Int32) func(*peer){
		"silent": silent, "breaking": breaking,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var copies atomic.Int32
			w, raw := rawWorld(t, impatient, host(&copies), host(&copies), host(&copies))
			for range 3 {
				if f := w.sendOne(); f == nil || f.Code != 451 {
					t.Errorf("%s, want a temporary failure", code(f))
				}
			}
			w.eventually("the hosts are done", func() bool { _, open := raw.count(); return open == 0 })
			if n := copies.Load(); n != 1 {
				t.Errorf("%d copies after three attempts, want the one of the first flight", n)
			}
		})
	}
}
