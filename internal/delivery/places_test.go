package delivery_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/health"
	"tlscontrol/internal/tlsplan"
)

// counter sees how many transactions a host has under way at once.
type counter struct {
	mu   sync.Mutex
	now  int
	most int
	// full is closed when so many have been under way at once as are expected;
	// until then they wait for each other.
	expected int
	full     chan struct{}
}

// expect begins anew: the next transactions wait until n are under way.
func (c *counter) expect(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.expected, c.full = 0, n, make(chan struct{})
}

func (c *counter) enter() (full <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
	if c.now == c.expected {
		close(c.full)
		c.expected = -1
	}
	return c.full
}

// meet enters and waits until as many are there as are expected.
func (c *counter) meet(p *peer) {
	select {
	case <-c.enter():
	case <-p.w.Context().Done():
	}
}

func (c *counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

func (c *counter) highest() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// host is a host that takes all messages and counts them.
func (c *counter) host(p *peer) {
	p.hello("PIPELINING", "CHUNKING")
	c.serve(p)
}

func (c *counter) serve(p *peer) {
	for p.message(nil) {
		c.meet(p)
		// A host takes its time, so that one too many meets another.
		time.Sleep(5 * time.Millisecond)
		c.leave()
		p.taken()
	}
}

// sendMany sends n messages at once and returns their statuses.
func (w *world) sendMany(n int) map[string]int {
	var (
		mu  sync.Mutex
		got = make(map[string]int)
		all sync.WaitGroup
	)
	for range n {
		all.Go(func() {
			f := w.sendOne()
			mu.Lock()
			defer mu.Unlock()
			got[code(f)]++
		})
	}
	all.Wait()
	return got
}

func places(cfg health.PlacesConfig) func(*delivery.Config) {
	return func(c *delivery.Config) { c.Places, c.ReuseLimit = cfg, 100 }
}

// TestPlaces: a host never has more messages to deal with at once than it has
// places, and all get through.
func TestPlaces(t *testing.T) {
	t.Parallel()
	var c counter
	c.expect(2)
	w, raw := rawWorld(t, places(health.PlacesConfig{PerHost: 2, MaxWait: hang}), c.host)
	if got := w.sendMany(12); got["delivered"] != 12 {
		t.Errorf("statuses %v", got)
	}
	if total, _ := raw.count(); total != 2 || c.highest() != 2 {
		t.Errorf("%d connections, %d messages under way at once, want two of each", total, c.highest())
	}
	w.settled()
}

// TestComplaint: a host that says that we are too many has fewer places
// afterwards, until a while has passed in quiet.
func TestComplaint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		refuse func(p *peer, text string)
		text   string
		status string
		less   bool
	}{
		{"421 greeting", (*peer).sayOnce, "421 4.3.2 busy", "421 4.3.2 connect", true},
		{"554 greeting, in words", (*peer).sayOnce, "554 5.7.0 Too many concurrent SMTP connections", "554 5.7.0 connect", true},
		{"451 to MAIL, in words", (*peer).refuseMAIL, "451 4.7.0 too many sessions from you", "451 4.7.0 mail-rejected", true},
		{"451 to RCPT, in words", (*peer).refuseRCPT, "451 4.7.0 Too many connections from your network", "451 4.7.0 rcpt-rejected", true},
		{"451 to RCPT", (*peer).refuseRCPT, "451 4.7.0 too many messages", "451 4.7.0 rcpt-rejected", false},
		{"421 to the message", (*peer).refuseMessage, "421 4.3.2 busy", "421 4.3.2 data-rejected", true},
		{"421 to MAIL", (*peer).refuseMAIL, "421 4.7.0 wait", "421 4.7.0 mail-rejected", true},
		{"554 greeting", (*peer).sayOnce, "554 5.7.1 go away", "554 5.7.1 connect", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c counter
			c.expect(2)
			now := newClock()
			w, raw := rawWorld(t, places(health.PlacesConfig{PerHost: 2, MaxWait: hang, Quiet: time.Minute, Clock: now.Now}), func(p *peer) {
				if p.number > 2 {
					c.host(p)
					return
				}
				c.meet(p) // two at once
				c.leave()
				tt.refuse(p, tt.text)
			})
			if got := w.sendMany(2); got[tt.status] != 2 {
				t.Fatalf("statuses %v, want %s", got, tt.status)
			}
			want := 2
			if tt.less {
				want = 1
			}
			c.expect(want)
			if got := w.sendMany(8); got["delivered"] != 8 || c.highest() != want {
				t.Errorf("afterwards: %v, %d at once, want %d", got, c.highest(), want)
			}
			now.pass(time.Minute)
			c.expect(2)
			if got := w.sendMany(8); got["delivered"] != 8 || c.highest() != 2 {
				t.Errorf("after a minute: %v, %d at once, want two again", got, c.highest())
			}
			if total, _ := raw.count(); total != 4 {
				t.Errorf("%d connections", total)
			}
		})
	}
}

// sayOnce says one thing and waits for the client to go.
func (p *peer) sayOnce(text string) {
	p.say(text)
	p.message(nil)
}

// refuseMAIL takes in a message in one flight and answers it so.
func (p *peer) refuseMAIL(text string) {
	p.hello("PIPELINING", "CHUNKING")
	p.message(nil)
	p.say(text, "503 5.5.1 no MAIL", "503 5.5.1 no MAIL")
	p.message(nil)
}

// refuseRCPT is refuseMAIL one reply later.
func (p *peer) refuseRCPT(text string) {
	p.hello("PIPELINING", "CHUNKING")
	p.message(nil)
	p.say("250 2.1.0 ok", text, "503 5.5.1 no RCPT")
	p.message(nil)
}

// refuseMessage is refuseMAIL two replies later.
func (p *peer) refuseMessage(text string) {
	p.hello("PIPELINING", "CHUNKING")
	p.message(nil)
	p.say("250 2.1.0 ok", "250 2.1.5 ok", text)
	p.message(nil)
}

// TestPlaceIsGivenBack after a panic: the only one is there for the next message.
func TestPlaceIsGivenBack(t *testing.T) {
	t.Parallel()
	var c counter
	c.expect(1)
	w, _ := rawWorld(t, places(health.PlacesConfig{PerHost: 1, MaxWait: time.Second}), c.host)
	for range 3 {
		m := message("b@example.net")
		u := &unstable{}
		u.left.Store(1)
		m.Body = u
		if got := code(failure(t, w.send(context.Background(), m)["b@example.net"])); got != "451 4.3.0 internal" {
			t.Errorf("a body that panics: %s", got)
		}
		if got := code(w.sendOne()); got != "delivered" {
			t.Errorf("the next message: %s", got)
		}
	}
	w.settled()
}

// TestWaitingForAPlace ends with the context and with the patience for it, and
// takes nothing from those who wait on.
func TestWaitingForAPlace(t *testing.T) {
	t.Parallel()
	var c counter
	c.expect(2) // the first message waits until there is a second one
	w, raw := rawWorld(t, places(health.PlacesConfig{PerHost: 1, MaxWait: 200 * time.Millisecond}), c.host)
	first := make(chan *delivery.Failure, 1)
	go func() { first <- w.sendOne() }()
	w.eventually("the place is taken", func() bool { return c.highest() == 1 })

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	f := failure(t, w.send(ctx, message("b@example.net"))["b@example.net"])
	if got := code(f); got != "451 4.4.2 timeout" || w.last().Hosts[0].Reason != tlsplan.Timeout {
		t.Errorf("time is over: %s, hosts %+v", got, w.last().Hosts)
	}
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	f = failure(t, w.send(ctx, message("b@example.net"))["b@example.net"])
	if got := code(f); got != "451 4.3.2 internal" || w.last().Hosts[0].Reason != tlsplan.Internal {
		t.Errorf("cancelled: %s, hosts %+v", got, w.last().Hosts)
	}
	if got := code(w.sendOne()); got != "451 4.4.5 limits" {
		t.Errorf("out of patience: %s", got)
	}
	if a := w.last(); len(a.Hosts) != 1 || a.Hosts[0].Text != "none of the 1 sessions allowed with mx1.test became free within 200ms" {
		t.Errorf("hosts %+v", a.Hosts)
	}
	c.enter() // stands for a second message
	if got := code(<-first); got != "delivered" {
		t.Errorf("the one that had the place: %s", got)
	}
	if got := code(w.sendOne()); got != "delivered" {
		t.Errorf("the next one: %s", got)
	}
	if total, _ := raw.count(); total != 1 {
		t.Errorf("%d connections", total)
	}
}
