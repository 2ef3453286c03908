package delivery

import (
	"context"
	"fmt"
	"log/slog"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// Question asks what would become of a message.
type Question struct {
	// Message has one recipient; ID and Body do not matter.
	Message *Message
	// Admitted reads the override fields as check.tls_override does for a client
	// that it admits. Otherwise they are a stranger's, and can only tighten.
	Admitted bool
	// Probe dials the hosts too: greeting, EHLO, STARTTLS, and QUIT.
	Probe bool
}

// Explanation is what would become of a message, and why: the walk of package
// delivery with everything that was decided on the way.
type Explanation struct {
	Domain   string // of the recipient, normalised (U-labels)
	Override policy.Override
	Settings *policy.Settings // nil if they cannot be resolved
	// Lifted is true if the message lifts what recipients publish (RFC 8689).
	Lifted bool

	// MTASTS and DANE are whether the configuration wants them looked up.
	MTASTS, DANE bool
	STS          mtasts.Result
	Route        route.Route // without hosts if it was not found out

	// Base is the plan for the domain, nil without Settings.
	Base *tlsplan.Plan
	// Strict is what Base would be with require_tls yes, nil where it is on.
	Strict *tlsplan.Plan
	// Memory is what is done about hosts that give less than they proved.
	Memory downgrade.Action
	Hosts  []ExplainedHost // as delivery would try them

	// Via is the host that would take the message, as an index of Hosts; -1 if
	// none would. Without Probe it is the first that would be dialled.
	Via int
	// Failure is what the recipient would get, nil if there is a Via.
	Failure *Failure
}

// ExplainedHost is what would become of the message at one host, if it came to
// that. Of hosts that are passed over, Ours or Beyond, nothing else is known.
type ExplainedHost struct {
	route.Host
	// Ours is true if the host is this one, or one that is not preferred over it:
	// mail that went there could come back (RFC 5321, section 5.1).
	Ours bool
	// Beyond is true if an attempt would end before it came to this host, or the
	// context of the question did.
	Beyond bool

	Addresses route.Addresses // without IPs if they were not found out or not needed
	MXLevel   tlsplan.MXLevel // by what the MX record is proven
	Listed    bool            // in the domain's MTA-STS policy
	Plan      tlsplan.Plan    // with what the host proved before, where that counts
	Expected  downgrade.Expectation
	// Strict is what Plan would be with require_tls yes, nil where it is on;
	// StrictRefused is why the host would then be refused before it is dialled.
	Strict        *tlsplan.Plan
	StrictRefused *Failure

	// Failure is why delivery would go on to the next host, nil if it would not.
	Failure *Failure
	GaveUp  []HostFailure // the host, or addresses of it
	Probed  []Probed      // addresses that answered, in order
}

// Explain tells what would become of a message now. It walks the way of Deliver,
// with the same code, and sends nothing. Observers, limits, idle connections, and
// what is known of hosts in trouble have no part in it. The error is a
// *policy.FieldError where an admitted client's message would be refused because
// of its override fields.
func (e *Engine) Explain(ctx context.Context, q Question) (*Explanation, error) {
	if len(q.Message.Recipients) != 1 {
		return nil, fmt.Errorf("%d recipients, expected one", len(q.Message.Recipients))
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.active.Done()
	s := e.aside()
	defer s.pool.Close()
	defer s.active.Wait()
	d := &run{e: s, ctx: ctx, look: &look{dials: q.Probe}}
	defer d.bound()()
	d.packed = parcel{Message: q.Message}
	d.parcel = &d.packed
	if q.Admitted {
		var err error
		values := func(name string) []string { return q.Message.Header.Values(name) }
		if d.packed.override, err = e.cfg.Fields.Read(values); err != nil {
			return nil, err
		}
	} else {
		d.packed.override = s.override(q.Message)
	}
	x := &Explanation{
		Domain: q.Message.Recipients[0].Domain, Override: d.packed.override,
		MTASTS: e.cfg.STS != nil, DANE: e.cfg.DANE, Memory: e.memory.Action(), Via: -1,
	}
	d.explain(x)
	return x, nil
}

// aside is an engine with the same configuration and what is shared by all: DNS,
// policies, what hosts proved. It keeps nothing else in common with e, tells
// nobody anything, and ends with it.
func (e *Engine) aside() *Engine {
	s := &Engine{cfg: e.cfg, ours: e.ours, memory: e.memory, base: e.base, stop: e.stop, probes: e.probes, unask: e.unask}
	s.cfg.Observers, s.cfg.Limits, s.cfg.Log = nil, nil, slog.New(slog.DiscardHandler)
	s.begin()
	return s
}

// explain walks the way of deliverGroup.
func (d *run) explain(x *Explanation) {
	defer func() {
		if p := recover(); p != nil {
			x.Via, x.Failure = -1, d.e.panicked("explaining", p)
		}
	}()
	if x.Failure = d.fetchRow(); x.Failure != nil {
		return
	}
	g := d.parcel.groups()[0]
	d.begin(g)
	x.Settings, x.Lifted = g.settings, g.lifted
	hosts, f := d.route(g)
	strict := d.strictly(g)
	x.Route, x.STS, x.Base = g.route, g.sts, g.base
	if strict != nil {
		x.Strict = strict.base
	}
	for i, h := range hosts {
		if g.loop != nil {
			x.Hosts = append(x.Hosts, ExplainedHost{Host: h, Ours: true})
			continue
		}
		if x.Via < 0 && g.spent() || d.ctx.Err() != nil {
			x.Hosts = append(x.Hosts, ExplainedHost{Host: h, Beyond: true})
			continue
		}
		x.Hosts = append(x.Hosts, ExplainedHost{Host: h})
		at := d.explainHost(g, strict, &x.Hosts[i])
		err := d.ctx.Err()
		g.loop = at.loop
		switch {
		case x.Via >= 0:
		case err != nil:
			f = cancelled(err)
		case at.loop != nil && at.worst == at.loop:
			g.worst = at.loop
		case at.loop == nil && at.worst == nil || len(at.open) == 0:
			x.Via = i
		default:
			g.worst, g.tries = worse(g.worst, at.worst), at.tries
		}
	}
	if kept, _ := route.WithoutSelf(g.route.Hosts, d.e.cfg.Hostname); len(x.Hosts) == len(kept) {
		for _, h := range g.route.Hosts[len(kept):] {
			x.Hosts = append(x.Hosts, ExplainedHost{Host: h, Ours: true})
		}
	}
	if x.Via < 0 {
		if x.Failure = f; f == nil {
			g.exhausted()
			x.Failure = g.worst
		}
	}
}

// strictly is g with require_tls yes, nil if it has that already.
func (d *run) strictly(g *group) *group {
	if g.settings.RequireTLS {
		return nil
	}
	strict, settings := *g, *g.settings
	settings.RequireTLS = true
	strict.settings = &settings
	d.decide(&strict)
	return &strict
}

// explainHost walks the way of tryHost, and returns the group as it is then: with
// nobody open if the host would take the message.
func (d *run) explainHost(g, strict *group, x *ExplainedHost) *group {
	at := g.afresh()
	addrs, ok := d.settleHost(at, x.Host)
	x.Listed, _ = d.listed(at, x.Name)
	x.MXLevel = at.mxLevel(x.Listed)
	x.Plan = d.expecting(at, x.Name)
	x.Expected = at.expected
	if strict != nil {
		st := strict.afresh()
		d.settleHost(st, x.Host)
		x.Strict, x.StrictRefused = st.plan, st.worst
	}
	if ok && addrs.IPs == nil {
		addrs, ok = d.addresses(at, x.Host)
	}
	x.Addresses = addrs
	if ok && d.look.dials {
		d.dialAll(at, x)
	}
	x.GaveUp, x.Probed = at.hosts, d.look.taken()
	if d.look.dials && len(at.open) > 0 && at.worst == nil && at.loop == nil {
		at.exhausted()
	}
	if !d.look.dials || len(at.open) > 0 {
		x.Failure = at.worst
	}
	if at.loop != nil {
		x.Failure = at.loop
	}
	return at
}

// afresh is the group as it is before it comes to its first host.
func (g *group) afresh() *group {
	at := *g
	at.hosts, at.worst, at.worstFor, at.last, at.downgrade = nil, nil, nil, nil, nil
	return &at
}

// dialAll goes on as tryHost does, until an address would take the message.
func (d *run) dialAll(at *group, x *ExplainedHost) {
	place, err := d.e.places.Acquire(d.ctx, x.Name)
	if err != nil {
		at.worst = cancelled(err)
		return
	}
	defer place.Release()
	d.tryAddresses(at, x.Host, x.Plan, x.Addresses.IPs, place)
}
