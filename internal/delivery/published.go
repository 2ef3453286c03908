package delivery

import (
	"context"
	"strings"

	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// STS looks up what domains publish with MTA-STS.
type STS interface {
	// Lookup finds the policy of a domain, given in A-labels, and ends when ctx
	// does. Whatever goes wrong is in the result.
	Lookup(ctx context.Context, domain string) mtasts.Result
	// Close is called by Engine.Close, when nothing is asked any more.
	Close()
}

// stsLookup is the lookup of a domain's policy on its way; nil without MTA-STS in
// the configuration.
type stsLookup chan stsAnswer

type stsAnswer struct {
	mtasts.Result
	f *Failure
}

// askSTS begins the lookup of a domain's policy and returns at once.
func (d *run) askSTS(domain string) stsLookup {
	if d.e.cfg.STS == nil {
		return nil
	}
	lookup := make(stsLookup, 1)
	d.beside(func() {
		var a stsAnswer
		defer func() {
			if p := recover(); p != nil {
				// It may be there, and demand more than we would do without it.
				a = stsAnswer{f: d.e.panicked("looking up an MTA-STS policy", p)}
			}
			lookup <- a
		}()
		if ascii, err := route.ASCII(domain); err == nil {
			a.Result = d.e.cfg.STS.Lookup(d.ctx, ascii)
		}
	})
	return lookup
}

// wait waits for the policy. A policy may have to be fetched from afar; what is
// asked about the first host next anyway is asked meanwhile.
func (l stsLookup) wait(d *run, first route.Host) (mtasts.Result, *Failure) {
	if l == nil {
		return mtasts.Result{}, nil
	}
	if len(l) == 0 {
		d.beside(func() {
			defer d.e.recovered("looking up a host")
			at, err := d.e.cfg.Routes.Addresses(d.ctx, first.Name, d.e.cfg.IPv4Only)
			if err == nil && d.e.cfg.DANE {
				_, _ = d.e.cfg.Routes.HostTLSA(d.ctx, first.Name, at, d.e.cfg.Port)
			}
		})
	}
	select {
	case a := <-l:
		return a.Result, a.f
	case <-d.ctx.Done():
		return mtasts.Result{}, cancelled(d.over())
	}
}

// beside runs a lookup in a goroutine that Close waits for. It must end with
// d.ctx and not panic.
func (d *run) beside(lookup func()) {
	d.e.active.Add(1) // We are inside a delivery, so it is not zero.
	go func() {
		defer d.e.active.Done()
		lookup()
	}()
}

// liftedBy reports whether the message lifts what recipients publish: it has one
// field TLS-Required, which says No (RFC 8689, section 5), and its sender did not
// ask for REQUIRETLS, which wins (section 4.1). Anything else in such a field, and
// a second one, lift nothing.
func (e *Engine) liftedBy(m *Message) bool {
	if !e.cfg.TLSRequiredOverride || m.Options.RequireTLS || !m.Header.Has("Tls-Required") {
		return false
	}
	said := m.Header.Values("Tls-Required")
	return len(said) == 1 && strings.EqualFold(strings.Trim(said[0], " \t\r\n"), "No")
}

// enforced reports whether the domain has an MTA-STS policy that is to be kept.
func (g *group) enforced() bool { return g.sts.Policy != nil && g.sts.Policy.Mode == mtasts.Enforce }

// settleHost makes the plan for one host out of the domain's: what MTA-STS says
// of it, and what it publishes itself. It returns the addresses of the host if it
// had to look them up. A host that may not be used is given up.
func (d *run) settleHost(g *group, h route.Host) (at route.Addresses, ok bool) {
	g.plan = g.base
	listed, f := d.listed(g, h.Name)
	if f != nil {
		d.refuse(g, h.Name, f, nil, nil)
		return at, false
	}
	if g.enforced() && !g.lifted && !listed {
		problem := notListed(g.domain)
		d.refuse(g, h.Name, tlsFailure(*g.plan, h.Name, problem), problem, nil)
		return at, false
	}
	by := g.mxLevel(listed)
	if j, problem := g.plan.JudgeMX(by); j != tlsplan.Accept {
		plan := *g.plan
		// REQUIRETLS fails for good, and is content with any proof; it may be
		// local_policy alone that wants a better one.
		plan.NeedAuthenticMX = plan.NeedAuthenticMX && by == tlsplan.MXUnproven
		d.refuse(g, h.Name, tlsFailure(plan, h.Name, problem), nil, nil)
		return at, false
	}
	if !d.e.cfg.DANE {
		return at, true
	}
	if at, ok = d.addresses(g, h); !ok {
		return at, false
	}
	return at, d.settleDANE(g, h, at)
}

// settleDANE looks up the TLSA records of a host. If that fails the host may not
// be used: who can make a lookup fail must not be able to take the records away
// (RFC 7672, section 2.1.2).
func (d *run) settleDANE(g *group, h route.Host, at route.Addresses) bool {
	found, err := d.e.cfg.Routes.HostTLSA(d.ctx, h.Name, at, d.e.cfg.Port)
	switch {
	case err != nil && g.lifted:
		return true
	case err != nil:
		problem := &tlsplan.Problem{Reason: tlsplan.DANELookup, Text: "the TLSA records of the host cannot be looked up"}
		f := failf(451, [3]int{4, 4, 3}, tlsplan.DANELookup, err, "The TLSA records of %s cannot be looked up, try again later", h.Name)
		if ctxErr := d.over(); ctxErr != nil {
			f = cancelled(ctxErr)
		}
		d.refuse(g, h.Name, f, problem, err)
		return false
	case len(found.Records) == 0:
		return true
	}
	names := []string{h.Name}
	if g.route.Authentic {
		// Whoever the MX records name securely may have a certificate for the
		// domain itself (RFC 7672, section 3.2.3).
		names = append(names, g.route.Domain, g.route.Name)
	}
	dane := tlsplan.NewDANE(found.Base, found.Records, names...)
	plan := g.base.ForHost(dane)
	if g.lifted {
		plan = g.base.Lifted(dane)
	}
	g.plan = &plan
	return true
}

// mxLevel is by what it is proven that a host serves the domain. A policy in mode
// testing proves nothing.
func (g *group) mxLevel(listed bool) tlsplan.MXLevel {
	switch {
	case g.route.Authentic:
		return tlsplan.MXByDNSSEC
	case g.enforced() && listed:
		return tlsplan.MXByMTASTS
	}
	return tlsplan.MXUnproven
}

// listed reports whether the domain's MTA-STS policy admits a host. A policy is a
// stranger's text: what panics over it fails for now.
func (d *run) listed(g *group, host string) (listed bool, f *Failure) {
	if g.sts.Policy == nil {
		return false, nil
	}
	defer func() {
		if p := recover(); p != nil {
			listed, f = false, d.e.panicked("matching an MTA-STS policy", p)
		}
	}()
	return g.sts.Policy.Matches(host), nil
}

func notListed(domain string) *tlsplan.Problem {
	return &tlsplan.Problem{Reason: tlsplan.MTASTSMismatch, Text: "the MTA-STS policy of " + domain + " does not list the host"}
}

// refuse gives a host up before it is dialled. Observers hear of the policy
// because of which that was, if it is a published one.
func (d *run) refuse(g *group, host string, f *Failure, problem *tlsplan.Problem, err error) {
	d.troubled(f.Reason, true)
	g.gaveUp(HostFailure{Host: host, Reason: f.Reason, Text: errText(f)}, f, nil)
	if problem != nil {
		d.tellSecured(g, &Secured{MXHost: host, Problem: problem, Err: err})
	}
}

// settled tells observers of a connection on which it is known whether there is
// TLS.
func (d *run) settled(g *group, a *opening, o tlsplan.Outcome) {
	if !o.TLS && o.Problem == nil {
		return // lost before that
	}
	s := &Secured{MXHost: a.host, MXIP: a.ip, LocalIP: a.local, Helo: a.helo, Outcome: o}
	listed, f := d.listed(g, a.host)
	inForce := g.sts.Policy != nil && g.sts.Policy.Mode != mtasts.None
	s.Problem = g.plan.Lacking(o, inForce)
	if inForce && !listed && f == nil && !g.plan.DANE.Usable() {
		s.Problem = notListed(g.domain)
	}
	d.tellSecured(g, s)
}

// tellSecured fills in what belongs to the domain and the plan.
func (d *run) tellSecured(g *group, s *Secured) {
	s.Domain, s.STS, s.STSErr = g.domain, g.sts.Policy, g.sts.Err
	s.Report = d.parcel.Header.Has("Tls-Report-Domain")
	if dane := g.plan.DANE; dane != nil {
		s.TLSA, s.TLSABase, s.TLSAUnusable = dane.Published(), dane.Base(), !dane.Usable()
	}
	d.e.observe(func(o Observer) { o.Secured(s) })
}
