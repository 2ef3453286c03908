package delivery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"tlscontrol/internal/health"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// attemptDelay is how long one address has the field to itself before the next
// one is dialled as well (RFC 8305, section 5).
const attemptDelay = 250 * time.Millisecond

// link is a connection on which nothing was said yet, unless it was a probe: then
// greeting and EHLO are over, and conn or err is what came of them.
type link struct {
	nc    net.Conn
	ip    netip.Addr
	since time.Time
	dial  *health.Dial

	greeted bool
	conn    *smtpwire.Conn
	err     error
}

// heard tells the breaker of the address how it went. Whoever said something
// is alive; who lets us wait until the time is over may as well not be there.
func (l *link) heard(err, cancelled error) {
	defer l.dial.End()
	var we *smtpwire.Error
	switch {
	case err == nil, errors.As(err, &we) && we.Reply != nil:
		l.dial.Succeeded()
	case cancelled == nil && we != nil && we.Timeout():
		l.dial.Failed(err)
	}
}

// drop gives up a connection that is not needed.
func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	_ = l.nc.Close()
	l.dial.End()
}

// reached is how dialling one address ended: a link, or a failure.
type reached struct {
	ip   netip.Addr
	link *link
	f    *Failure
}

// dial connects to one address, unless its breaker is open.
func (d *run) dial(ctx context.Context, host string, place *health.Place, ip netip.Addr) (r reached) {
	defer func() {
		if p := recover(); p != nil {
			r = reached{ip: ip, f: d.e.panicked("dialling", p)}
		}
	}()
	leave, open := d.e.breakers.Allow(netip.AddrPortFrom(ip, uint16(d.e.cfg.Port)))
	switch {
	case open != nil:
		return reached{ip: ip, f: leftAlone(host, open)}
	case leave.Probe() != nil:
		return d.probe(ctx, host, ip, leave)
	}
	since := time.Now()
	nc, err := d.dialTCP(ctx, ip)
	if err != nil {
		refused := errors.Is(err, syscall.ECONNREFUSED) && place.Refused(ip)
		if ctx.Err() == nil && !refused && !ourFault(err) {
			leave.Failed(err)
		}
		leave.End()
		return reached{ip: ip, f: dialFailure(host, err)}
	}
	return reached{ip: ip, link: &link{nc: nc, ip: ip, since: since, dial: leave}}
}

// ourFault reports whether a dial failed for want of something on our side, which
// says nothing of the other one: local_ip, a free port, a file descriptor.
func ourFault(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

func (d *run) dialTCP(ctx context.Context, ip netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.e.cfg.ConnectTimeout)
	defer cancel()
	return d.e.cfg.Dial(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(d.e.cfg.Port)))
}

// reach connects to the first of ips that answers: each one gets a head start
// over the next (RFC 8305). Addresses that failed are noted in g; left are
// those that the race was over for before they could fail. The link is nil if
// all failed or the delivery was cancelled.
func (d *run) reach(g *group, host string, place *health.Place, ips []netip.Addr) (won *link, left []netip.Addr) {
	if len(ips) == 1 {
		return d.finish(g, host, d.dial(d.ctx, host, place, ips[0])), nil
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	results := make(chan reached, len(ips))
	started, running := 0, 0
	start := func() {
		ip := ips[started]
		started++
		running++
		go func() { results <- d.dial(ctx, host, place, ip) }()
	}
	failed := make(map[netip.Addr]bool)
	delay := time.NewTimer(attemptDelay)
	defer delay.Stop()
	for start(); running > 0; {
		select {
		case r := <-results:
			running--
			if won = d.finish(g, host, r); won != nil {
				cancel()
				d.e.behind(func() { dropRest(results, running) })
				failed[won.ip] = true // it is not left for another try
				return won, without(ips, failed)
			}
			failed[r.ip] = true
		case <-delay.C:
		}
		if started < len(ips) && d.over() == nil {
			start()
			delay.Reset(attemptDelay)
		}
	}
	return nil, nil
}

// finish notes the failure of an address.
func (d *run) finish(g *group, host string, r reached) *link {
	if r.link != nil {
		return r.link
	}
	if err := d.over(); err != nil {
		r.f = cancelled(err)
	}
	d.troubled(r.f.Reason, true)
	g.tries++
	g.gaveUp(HostFailure{Host: host, IP: r.ip, Reason: r.f.Reason, Text: errText(r.f)}, r.f, nil)
	return nil
}

// dropRest closes the connections that lost the race.
func dropRest(results <-chan reached, n int) {
	for range n {
		if r := <-results; r.link != nil {
			r.link.drop()
		}
	}
}

func without(ips []netip.Addr, out map[netip.Addr]bool) (left []netip.Addr) {
	for _, ip := range ips {
		if !out[ip] {
			left = append(left, ip)
		}
	}
	return left
}

// dialFailure maps the errors of dialling.
func dialFailure(host string, err error) *Failure {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return failf(451, [3]int{4, 4, 1}, tlsplan.Timeout, err, "%s did not answer in time", host)
	}
	return failf(451, [3]int{4, 4, 1}, tlsplan.Connect, err, "%s cannot be reached", host)
}
