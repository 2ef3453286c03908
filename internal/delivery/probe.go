package delivery

import (
	"context"
	"net/netip"
	"time"

	"tlscontrol/internal/health"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// probePatience is how long a delivery waits for the dial that finds out whether
// an address that was left alone is back: a SYN that was lost twice is made up for
// by then. There may be hundreds of such addresses, each of them probed every ten
// minutes, and a queue has sixteen slots; no slot is held for connect_timeout, or
// for the five minutes that a greeting may take, to find a dead host still dead.
const probePatience = 3 * time.Second

// probe dials an address that was left alone and gets through greeting and EHLO.
// A delivery that loses patience fails like those that come meanwhile, and the
// probe goes on without it, so that a slow host is believed the next time.
func (d *run) probe(ctx context.Context, host string, ip netip.Addr, leave *health.Dial) reached {
	probing, stop := context.WithCancel(d.e.base)
	results, gone := make(chan reached), make(chan func() bool, 1)
	d.e.behind(func() {
		defer stop()
		defer leave.End()
		r := d.greetProbe(probing, host, ip, leave)
		select {
		case results <- r:
		case unhook := <-gone:
			unhook()
			if r.link != nil && r.link.conn != nil {
				quit(r.link.conn)
			}
		}
	})
	patience := time.NewTimer(d.e.cfg.ProbePatience)
	defer patience.Stop()
	select {
	case r := <-results:
		return r
	case <-patience.C:
		// Close gives deliveries time, but waits for no probe.
		gone <- context.AfterFunc(d.e.probes, stop)
	case <-ctx.Done():
		// Nothing is learned, and the next delivery may try at once.
		stop()
		leave.End()
		gone <- func() bool { return true }
	}
	return reached{ip: ip, f: leftAlone(host, leave.Probe())}
}

// greetProbe is what a probe does. Its link has been greeted.
func (d *run) greetProbe(ctx context.Context, host string, ip netip.Addr, leave *health.Dial) (r reached) {
	defer func() {
		if p := recover(); p != nil {
			r = reached{ip: ip, f: d.e.panicked("dialling", p)}
		}
	}()
	l := &link{ip: ip, since: time.Now(), dial: leave, greeted: true}
	var err error
	if l.nc, err = d.dialTCP(ctx, ip); err != nil {
		if ctx.Err() == nil && !ourFault(err) {
			leave.Failed(err)
		}
		return reached{ip: ip, f: dialFailure(host, err)}
	}
	l.conn, l.err = smtpwire.New(ctx, l.nc, d.e.cfg.Wire)
	l.heard(l.err, ctx.Err())
	return reached{ip: ip, link: l}
}

// leftAlone is the failure of a delivery that may not dial.
func leftAlone(host string, err error) *Failure {
	return failf(451, [3]int{4, 4, 1}, tlsplan.Connect, err, "%s does not answer and is left alone for a while", host)
}

// quit ends a connection politely.
func quit(conn *smtpwire.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), quitTimeout)
	defer cancel()
	conn.Quit(ctx)
}
