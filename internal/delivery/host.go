package delivery

import (
	"errors"
	"net/netip"
	"regexp"
	"time"

	"tlscontrol/internal/health"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// tryHost delivers to one host, if the plan for it can be settled: over an idle
// session if there is one that meets the plan, else over a fresh one, address by
// address. Recipients without a result afterwards stay open for the next host.
func (d *run) tryHost(g *group, h route.Host) {
	addrs, ok := d.settleHost(g, h)
	if !ok {
		return
	}
	since := time.Now()
	place, err := d.e.places.Acquire(d.ctx, h.Name)
	if err != nil {
		f := failf(451, [3]int{4, 4, 5}, tlsplan.Limits, err, "Too many messages for %s at once, try again later", h.Name)
		if ctxErr := d.over(); ctxErr != nil {
			f = cancelled(ctxErr)
		}
		d.troubled(f.Reason, true)
		g.gaveUp(HostFailure{Host: h.Name, Reason: f.Reason, Text: errText(f)}, f, nil)
		return
	}
	defer place.Release()

	plan := d.expecting(g, h.Name)
	if s, ok := d.e.pool.Take(h.Name, plan); ok {
		d.e.acquired(s, since, true)
		d.use(g, s, place)
		if len(g.open) == 0 || d.over() != nil {
			return
		}
	}
	if addrs.IPs == nil {
		if addrs, ok = d.addresses(g, h); !ok {
			return
		}
	}
	d.tryAddresses(g, h, plan, addrs.IPs, place)
}

// tryAddresses delivers to a host over fresh sessions, address by address.
func (d *run) tryAddresses(g *group, h route.Host, plan tlsplan.Plan, left []netip.Addr, place *health.Place) {
	for len(left) > 0 && !g.spent() {
		var l *link
		if l, left = d.reach(g, h.Name, place, left); l == nil {
			return
		}
		s, on, f := d.open(g, plan, h.Name, l)
		switch {
		case f != nil && !f.Temporary() && errors.Is(f, errOurselves):
			g.metOurselves(h, HostFailure{Host: h.Name, IP: l.ip, Reason: f.Reason, Text: errText(f)}, f, on)
			return
		case f != nil:
			d.refusedByMemory(g, on, f)
			complained(place, f.Reply)
			g.gaveUp(HostFailure{Host: h.Name, IP: l.ip, Reason: f.Reason, Text: errText(f)}, f, on)
			g.tries++
		case d.look != nil:
			d.look.end(d, s)
			g.open = nil
		case d.use(g, s, place):
			// The host serves; it only wants more connections for it.
			left = append([]netip.Addr{l.ip}, left...)
		default:
			g.tries++
		}
		if len(g.open) == 0 || d.over() != nil {
			return
		}
	}
}

// What one attempt may cost. A domain can name a hundred hosts of sixteen
// addresses that all let us wait as long as we are willing to; the queue has
// few places. What is not tried now is tried another time, in another order
// where preferences are equal.
const (
	maxTries  = 20               // addresses tried in vain for one domain
	noMoreTry = 15 * time.Minute // no further one is begun after so long
)

// spent reports whether the attempt may not begin another try.
func (g *group) spent() bool {
	return g.tries >= maxTries || time.Since(g.since) > noMoreTry
}

// tooMany is how servers say that we have too many connections where they do
// not say 421.
var tooMany = regexp.MustCompile(`(?i)too many (concurrent |simultaneous |open )?(smtp )?(connections|sessions)`)

// complained takes note if a reply says that we are too many.
func complained(place *health.Place, r *smtpwire.Reply) bool {
	if r == nil || r.Code != 421 && (r.Code < 400 || !tooMany.MatchString(r.Text)) {
		return false
	}
	place.Overloaded()
	return true
}
