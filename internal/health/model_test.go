package health

import (
	"container/list"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// modelHost is a host as the comments of this package tell of it, with nothing
// done for speed or memory. Guests are known by number.
type modelHost struct {
	limit, perHost int

	busy, queue []int       // guests; those in queue in the order of coming
	entered     map[int]int // guest to the event at which it got its place

	complaint, refused, successes int
	since                         time.Time
}

// touch is done whenever the host is used.
func (m *modelHost) touch(now time.Time, quiet time.Duration, event func() int) {
	for m.limit < m.perHost && !m.since.Add(quiet).After(now) {
		m.since = m.since.Add(quiet)
		m.limit++
		m.refused, m.successes = 0, 0
	}
	m.admit(event)
}

// admit is done whenever a place may be free.
func (m *modelHost) admit(event func() int) {
	if m.limit == m.perHost {
		m.complaint, m.refused, m.successes = 0, 0, 0
	}
	for len(m.queue) > 0 && len(m.busy) < m.limit {
		m.enter(m.queue[0], event())
		m.queue = m.queue[1:]
	}
}

func (m *modelHost) enter(guest, event int) {
	m.busy = append(m.busy, guest)
	m.entered[guest] = event
}

func (m *modelHost) overloaded(guest, event int, now time.Time) {
	if m.entered[guest] < m.complaint {
		return
	}
	m.refused = min(m.limit, len(m.busy))
	m.limit = max(1, m.refused/2)
	m.complaint, m.successes, m.since = event, 0, now
}

func (m *modelHost) succeeded(guest int) {
	if m.limit == m.perHost || m.entered[guest] < m.complaint || m.refused != 0 && m.limit >= m.refused-1 {
		return
	}
	if m.successes++; m.successes == m.limit {
		m.limit, m.successes = m.limit+1, 0
	}
}

func without(list []int, guest int) []int {
	return slices.DeleteFunc(list, func(g int) bool { return g == guest })
}

// guest is somebody inside Acquire, or with a place.
type guest struct {
	number int
	name   string
	h      *host
	turn   *list.Element // nil once it holds its place
	place  *Place
}

// got is the guest's place, also if it did not notice yet that it has it.
func (g *guest) got() *Place {
	if g.place == nil && g.turn != nil {
		return g.turn.Value.(*waiter).place
	}
	return g.place
}

// walk does random things to Places and to the model of them.
type walk struct {
	*clock
	*Places
	t      *testing.T
	rnd    *rand.Rand
	model  map[string]*modelHost
	guests []*guest
	events int
	last   int // number of the last guest
}

func (w *walk) event() int { w.events++; return w.events }

// step does one random thing and says what.
func (w *walk) step(cfg PlacesConfig) string {
	if w.rnd.IntN(10) == 0 {
		d := time.Duration(w.rnd.IntN(int(cfg.Quiet * 3 / 2)))
		w.pass(d)
		return fmt.Sprint("pass ", d)
	}
	if len(w.guests) == 0 || w.rnd.IntN(5) < 2 {
		return w.arrive(cfg)
	}
	i := w.rnd.IntN(len(w.guests))
	g, m := w.guests[i], w.model[w.guests[i].name]
	place := g.got()
	if g.turn != nil {
		if place != nil && w.rnd.IntN(2) == 0 {
			g.place, g.turn = place, nil
			return fmt.Sprint("notice ", g.number)
		}
		w.guests = slices.Delete(w.guests, i, i+1)
		return w.giveUp(g, m, place != nil)
	}
	m.touch(w.now, cfg.Quiet, w.event)
	defer m.admit(w.event)
	if w.rnd.IntN(3) == 0 {
		place.Connected(addr.Addr())
	}
	switch w.rnd.IntN(8) {
	case 0:
		place.Overloaded()
		m.overloaded(g.number, w.event(), w.now)
		return fmt.Sprint("overloaded ", g.number)
	case 1, 2, 3, 4:
		place.Succeeded()
		m.succeeded(g.number)
		return fmt.Sprint("succeeded ", g.number)
	}
	w.guests = slices.Delete(w.guests, i, i+1)
	place.Release()
	place.Release()
	m.busy = without(m.busy, g.number)
	return fmt.Sprint("release ", g.number)
}

func (w *walk) arrive(cfg PlacesConfig) string {
	name := string(rune('a' + w.rnd.IntN(3)))
	w.last++
	g := &guest{number: w.last, name: name}
	m := w.model[name]
	m.touch(w.now, cfg.Quiet, w.event)
	var err error
	g.place, g.h, g.turn, err = w.enter(name)
	switch {
	case len(m.busy) < m.limit:
		m.enter(g.number, w.event())
	case len(m.queue) < cfg.MaxWaiters:
		m.queue = append(m.queue, g.number)
	default:
		if err == nil {
			w.t.Fatal("one more waits than may")
		}
		return fmt.Sprint("turned away ", g.number)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.guests = append(w.guests, g)
	return fmt.Sprintf("arrive %s %d", name, g.number)
}

// giveUp ends a wait, by time or by context.
func (w *walk) giveUp(g *guest, m *modelHost, placed bool) string {
	ctx, cancel := context.WithCancel(context.Background())
	if w.rnd.IntN(2) == 0 {
		cancel()
	}
	defer cancel()
	place, err := w.leave(ctx, g.h, g.turn)
	if kept := placed && ctx.Err() == nil; kept != (place != nil) || kept != (err == nil) {
		w.t.Fatalf("guest %d, placed %v, context %v: %v, %v", g.number, placed, ctx.Err(), place != nil, err)
	}
	m.queue = without(m.queue, g.number)
	if !placed {
		return fmt.Sprint("give up ", g.number)
	}
	if place != nil {
		place.Release()
	}
	m.busy = without(m.busy, g.number)
	m.touch(w.now, w.cfg.Quiet, w.event)
	return fmt.Sprint("give up, but placed ", g.number)
}

// compare says where Places and model differ.
func (w *walk) compare() error {
	var busy, queue int
	for name, m := range w.model {
		h, parked := w.hosts[name], false
		if h == nil {
			h, parked = w.reduced.Peek(name)
		}
		if h == nil { // forgotten, which only a whole limit is
			m.touch(w.now, w.cfg.Quiet, w.event)
			h = &host{limit: w.cfg.PerHost}
		}
		busy, queue = busy+len(m.busy), queue+len(m.queue)
		switch {
		case h.busy != len(m.busy) || h.waiting.Len() != len(m.queue):
			return fmt.Errorf("%s: %d busy, %d wait; want %d, %d", name, h.busy, h.waiting.Len(), len(m.busy), len(m.queue))
		case !parked && h.limit != m.limit:
			return fmt.Errorf("%s: limit %d, want %d", name, h.limit, m.limit)
		case h.limit < 1 || h.limit > w.cfg.PerHost || h.busy < h.limit && h.waiting.Len() > 0:
			return fmt.Errorf("%s: %d busy, %d wait, limit %d", name, h.busy, h.waiting.Len(), h.limit)
		case parked && (h.busy > 0 || h.limit == w.cfg.PerHost):
			return fmt.Errorf("%s: put away with %d busy, limit %d", name, h.busy, h.limit)
		}
	}
	for _, g := range w.guests {
		if placed := slices.Contains(w.model[g.name].busy, g.number); placed != (g.got() != nil) {
			return fmt.Errorf("guest %d of %s: has a place %v, want %v", g.number, g.name, !placed, placed)
		}
	}
	if busy+queue != len(w.guests) {
		return fmt.Errorf("%d guests, of which %d busy and %d wait", len(w.guests), busy, queue)
	}
	for _, h := range w.spare {
		if h.busy != 0 || h.waiting.Len() != 0 || h.trouble != (trouble{}) || len(h.sessions) != 0 {
			return fmt.Errorf("a host for reuse is not empty: %d busy, %d wait", h.busy, h.waiting.Len())
		}
	}
	return nil
}

func TestPlacesFollowTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		c := newClock()
		rnd := rand.New(rand.NewPCG(seed, 3))
		cfg := PlacesConfig{PerHost: 1 + rnd.IntN(8), MaxWaiters: 1 + rnd.IntN(6), Quiet: time.Minute, Clock: c.Now}
		w := &walk{clock: c, Places: NewPlaces(cfg), t: t, rnd: rnd, model: map[string]*modelHost{}}
		for _, name := range []string{"a", "b", "c"} {
			w.model[name] = &modelHost{limit: cfg.PerHost, perHost: cfg.PerHost, entered: map[int]int{}}
		}
		var steps []string
		for range 500 {
			steps = append(steps, w.step(cfg))
			if err := w.compare(); err != nil {
				t.Fatalf("seed %d: %v\nafter %q", seed, err, steps[max(0, len(steps)-20):])
			}
		}
	}
}
