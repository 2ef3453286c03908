package delivery

import (
	"errors"
	"fmt"
	"time"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// recipient is one mailbox that the message goes to.
type recipient struct {
	Recipient
	handedIn []string // every string that stands for it
	done     bool     // has its status
}

// group is the recipients of one domain: what is known of the way there, and
// who still waits for a result.
type group struct {
	domain   string
	all      []*recipient
	open     []*recipient // those who wait for the next host
	settings *policy.Settings
	route    route.Route
	sts      mtasts.Result // what the domain publishes with MTA-STS
	stsErr   *mtasts.Error // why that is unknown, and mail goes on as if it were nothing
	lifted   bool          // the message lifts what recipients publish
	base     *tlsplan.Plan // for all hosts of the domain
	plan     *tlsplan.Plan // for the host that is being tried
	since    time.Time     // begin of the attempt
	tries    int           // addresses tried in vain
	hosts    []HostFailure
	worst    *Failure
	worstFor *tlsplan.Plan // the plan under which worst fell
	// last is the connection on which worst fell, nil if none was made.
	last *Connection
	loop *Failure // the host that was tried last is this server (ourselves.go)
	// expected is what the host that is being tried proved before, downgrade the
	// one that gave less, nil if none did (memory.go).
	expected  downgrade.Expectation
	downgrade *Downgrade

	sent        tlsplan.Protection    // the weakest under which any of the text left
	transaction smtpwire.Transaction  // under way
	envelope    [1]smtpwire.Recipient // room for most transactions
}

// concluded reports whether everybody has a status.
func (g *group) concluded() bool {
	for _, r := range g.all {
		if !r.done {
			return false
		}
	}
	return true
}

// gaveUp notes that a host, or one of its addresses, was given up.
func (g *group) gaveUp(h HostFailure, f *Failure, on *Connection) {
	g.hosts = append(g.hosts, h)
	g.blame(f, on)
}

// blame lets f speak for the domain if it is the worst so far.
func (g *group) blame(f *Failure, on *Connection) {
	if w := worse(g.worst, f); w != g.worst {
		g.worst, g.worstFor, g.last = w, g.plan, on
	}
}

// deliverGroup walks one domain through the rooms: settings, route, plan, then
// host by host until nobody waits or no host is left. The plan is settled by
// the sender's and our own word at first, so that every document has one, and
// again when it is known what the recipient publishes.
func (d *run) deliverGroup(g *group) {
	d.begin(g)
	if f := d.takeDest(g.domain); f != nil {
		d.fail([]*group{g}, f)
		return
	}
	defer d.releaseDest(g.domain)

	hosts, f := d.route(g)
	if f != nil {
		d.fail([]*group{g}, f)
		return
	}
	for _, h := range hosts {
		if g.spent() || g.loop != nil {
			break
		}
		d.tryHost(g, h)
		if len(g.open) == 0 {
			return
		}
		if err := d.over(); err != nil {
			d.concludeAll(g, outcome{failure: cancelled(err)})
			return
		}
	}
	g.exhausted()
	if g.worstFor != nil {
		g.plan = g.worstFor
	}
	d.concludeAll(g, outcome{failure: g.worst, connection: g.last})
}

// begin resolves the settings, and settles the plan as far as they go.
func (d *run) begin(g *group) {
	g.since = time.Now()
	settings := d.e.cfg.Policies.Decide(policy.Question{
		SendingDomain: d.parcel.FromDomain,
		Destination:   g.domain,
		Override:      d.parcel.override,
		Row:           d.row,
	})
	g.lifted = d.e.liftedBy(d.parcel.Message)
	g.settings, g.open = &settings, g.all
	d.decide(g)
}

// exhausted makes sure that there is a failure which speaks for the domain when
// no host is left to try.
func (g *group) exhausted() {
	if g.worst == nil {
		g.worst = failf(451, [3]int{4, 4, 2}, tlsplan.Timeout, nil, "The attempt took too long, what is left is tried later")
	}
}

// decide settles the plan for the domain.
func (d *run) decide(g *group) {
	plan := tlsplan.Decide(*g.settings, tlsplan.Floors{
		MinTLS:            d.e.cfg.MinTLS,
		MinMX:             d.e.cfg.MinMX,
		MTASTS:            g.enforced() && !g.lifted,
		REQUIRETLS:        d.parcel.Options.RequireTLS,
		RelaxedREQUIRETLS: d.e.cfg.RelaxedREQUIRETLS,
	})
	g.base, g.plan = &plan, &plan
}

// route looks up where the domain's mail goes, and meanwhile what it publishes
// about that, by which the plan is settled.
func (d *run) route(g *group) ([]route.Host, *Failure) {
	sts := d.askSTS(g.domain)
	rt, err := d.e.cfg.Routes.Route(d.ctx, g.domain)
	if err != nil {
		if ctxErr := d.over(); ctxErr != nil {
			return nil, cancelled(ctxErr)
		}
		return nil, routeFailure(err)
	}
	g.route = rt
	var f *Failure
	if g.sts, f = sts.wait(d, rt.Hosts[0]); f != nil {
		if g.sts.Err == nil { // or it would look as if there were none, to those who explain
			g.sts.Err = &mtasts.Error{Kind: mtasts.Internal, Domain: g.domain, Err: errors.New("not found out in time")}
		}
		return nil, f
	}
	if g.sts.Unread != nil && !g.lifted {
		return nil, failf(451, [3]int{4, 3, 0}, tlsplan.Internal, g.sts.Unread,
			"The MTA-STS policy of %s that is known here can be neither read nor fetched, try again later", g.domain)
	}
	if g.sts.Policy == nil {
		_ = errors.As(g.sts.Err, &g.stsErr)
	}
	if g.enforced() {
		d.decide(g)
	}
	hosts, loops := route.WithoutSelf(rt.Hosts, d.e.cfg.Hostname)
	if loops {
		return nil, loopFailure(g.domain, nil)
	}
	return hosts, nil
}

// addresses looks up where a host is, as far as that may be dialled. A host without
// addresses is given up.
func (d *run) addresses(g *group, h route.Host) (route.Addresses, bool) {
	addrs, err := d.e.cfg.Routes.Addresses(d.ctx, h.Name, d.e.cfg.IPv4Only)
	if err == nil && len(addrs.IPs) > 0 {
		return d.admitted(g, h, addrs)
	}
	f := routeFailure(err)
	var re *route.Error
	if !h.Implicit && errors.As(err, &re) && re.Kind == route.NotFound {
		// The domain exists and names this host: its DNS is being mended
		// more often than it is meant.
		f = failf(451, [3]int{4, 4, 4}, tlsplan.MXLookup, err, "The mail host %s has no address", h.Name)
	}
	d.troubled(f.Reason, true)
	g.gaveUp(HostFailure{Host: h.Name, Reason: f.Reason, Text: errText(f)}, f, nil)
	return route.Addresses{}, false
}

// takeDest takes the place of the domain in the limits.
func (d *run) takeDest(domain string) *Failure {
	if d.e.cfg.Limits == nil {
		return nil
	}
	if err := d.e.cfg.Limits.TakeDest(d.ctx, domain); err != nil {
		if ctxErr := d.over(); ctxErr != nil {
			return cancelled(ctxErr)
		}
		return failf(451, [3]int{4, 4, 5}, tlsplan.Limits, err, "High load, try again later")
	}
	return nil
}

func (d *run) releaseDest(domain string) {
	if d.e.cfg.Limits == nil {
		return
	}
	defer d.e.recovered("limits")
	d.e.cfg.Limits.ReleaseDest(domain)
}

// errText is what a document tells of a host that was given up: the remote
// side's words where there were any.
func errText(f *Failure) string {
	if f.Reply != nil {
		return f.Reply.Text
	}
	if f.Err != nil {
		return printable(fmt.Sprint(f.Err), maxStatusText)
	}
	return f.Message
}
