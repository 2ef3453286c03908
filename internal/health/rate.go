package health

import (
	"net/netip"
	"time"
)

// How a limit follows what a host bears, additive increase and multiplicative
// decrease as of TCP (RFC 5681), with the same three thoughts behind it:
//
//   - A complaint halves what was in use, not what was allowed: with three
//     busy sessions, going from twenty to ten would change nothing. The limit
//     never falls below one. Complaints about places taken before the last
//     reduction say nothing new, so that a burst that is refused counts once.
//   - As many successes as the limit is make it one higher, up to just below
//     what was refused. Unlike a lost segment, a refusal may cost a message a
//     quarter of an hour in the queue, so that number is not tried again by
//     and by, but only when a Quiet has passed since the complaint.
//   - Each Quiet that passes makes the limit one higher in any case, and the
//     first one lifts the bound on what successes can do. This happens when the
//     host is next used; nothing runs meanwhile.

// trouble is what a host complained of; zero if its limit is whole.
type trouble struct {
	since     time.Time // of the last complaint, or the last Quiet counted since
	number    uint64    // event number of the last complaint
	refused   int       // so many were busy then; 0 after a Quiet
	successes int       // since the limit last changed
}

// Overloaded says that the host complained of too many connections or answered
// 421, and reduces its limit. It returns the limit that is now in force and
// whether this call changed it. Sessions that are busy stay so; as long as they
// are more than the limit, no place is given.
//
// A 421 to the first command of a session that was idle is the host ending an
// idle session, no complaint.
func (place *Place) Overloaded() (limit int, changed bool) {
	place.p.mu.Lock()
	defer place.p.mu.Unlock()
	return place.overloaded()
}

// overloaded is Overloaded; the caller holds the lock.
func (place *Place) overloaded() (limit int, changed bool) {
	p, h := place.p, place.h
	if h == nil {
		return 0, false
	}
	p.rest(h)
	if place.number < h.trouble.number {
		return h.limit, false
	}
	p.events++
	before, used := h.limit, min(h.limit, h.busy)
	h.limit = max(1, used/2)
	if h.limit < p.cfg.PerHost {
		if h.limit != before {
			c := PlaceChange{Event: HostReduced}
			if before == p.cfg.PerHost {
				c.Reduced = 1
			}
			p.changed(c)
		}
		h.trouble = trouble{since: p.cfg.Clock(), number: p.events, refused: used}
	}
	return h.limit, h.limit != before
}

// Refused says that an address of the host refused a connection (RST), and
// returns true if that was a complaint: sessions with the same address are busy on
// other places, so that somebody is there, and a packet filter or a full queue
// counts our connections. Then it is Overloaded too, and no failure of the address.
func (place *Place) Refused(by netip.Addr) (complaint bool) {
	place.p.mu.Lock()
	defer place.p.mu.Unlock()
	if place.h == nil {
		return false
	}
	by = by.Unmap()
	others := 0
	for _, s := range place.h.sessions {
		if s == by {
			others++
		}
	}
	if place.session == by {
		others--
	}
	if others == 0 {
		return false
	}
	place.overloaded()
	return true
}

// Succeeded says that the host took a message on this place. It may be called
// for each message.
func (place *Place) Succeeded() {
	p := place.p
	p.mu.Lock()
	defer p.mu.Unlock()
	h := place.h
	if h == nil {
		return
	}
	p.rest(h)
	t := &h.trouble
	switch {
	case h.limit >= p.cfg.PerHost:
		return
	case place.number < t.number: // it was not taken under this limit
		return
	case t.refused > 0 && h.limit+1 >= t.refused:
		return
	}
	if t.successes++; t.successes >= h.limit {
		p.raise(h, 1)
	}
}

// rest raises a reduced limit by the time that has passed in quiet; the caller
// holds the lock.
func (p *Places) rest(h *host) {
	if h.limit >= p.cfg.PerHost {
		return
	}
	t := &h.trouble
	if n := p.cfg.Clock().Sub(t.since) / p.cfg.Quiet; n > 0 {
		t.since = t.since.Add(n * p.cfg.Quiet)
		t.refused = 0
		p.raise(h, int(min(n, time.Duration(p.cfg.PerHost))))
	}
}

// raise makes a reduced limit higher, and admits who waits for that; the caller
// holds the lock.
func (p *Places) raise(h *host, by int) {
	h.trouble.successes = 0
	if h.limit += by; h.limit >= p.cfg.PerHost {
		h.limit, h.trouble = p.cfg.PerHost, trouble{}
		p.changed(PlaceChange{Reduced: -1})
	}
	p.admit(h)
}
