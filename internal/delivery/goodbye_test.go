package delivery_test

import "testing"

// TestCloseSaysGoodbye: sessions that are idle when the engine is closed end as
// they would have ended later, with QUIT (RFC 5321, section 4.1.1.10).
func TestCloseSaysGoodbye(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, good())
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}
	w.eventually("the session is idle", func() bool { return w.rec.idleNow() == 1 })
	w.Engine.Close()
	w.eventually("the host sees the end", func() bool { return w.mx[0].Sessions()[0].Closed })
	commands := w.mx[0].Sessions()[0].Commands
	if last := commands[len(commands)-1]; last != "T: QUIT" {
		t.Errorf("left with %q", last)
	}
}
