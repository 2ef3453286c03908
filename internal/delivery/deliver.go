package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// maxParallel bounds how many domains of one message are served at once. It
// keeps one message to thousands of domains from taking all sockets.
const maxParallel = 64

// Report takes the status of one recipient, under the exact string that was
// handed in; err is nil or a *Failure. It is called once for each time that a
// recipient was handed in, from several goroutines; once more if it panics.
type Report func(recipient string, err error)

// Deliver makes one attempt for every recipient of m and returns when all
// statuses are reported. It never panics.
func (e *Engine) Deliver(ctx context.Context, m *Message, report Report) {
	d := &run{e: e, report: report, started: time.Now(), ctx: ctx}
	if err := e.enter(); err != nil {
		d.failAll(m, failf(451, [3]int{4, 3, 2}, tlsplan.Internal, err, "The server is shutting down, try again later"))
		return
	}
	defer e.active.Done()
	defer d.bound()()
	if f := d.prepare(m); f != nil {
		d.failAll(m, f)
		return
	}
	if f := d.fetchRow(); f != nil {
		d.fail(d.parcel.groups(), f)
		return
	}
	if f := d.takeLimits(m); f != nil {
		d.fail(d.parcel.groups(), f)
		return
	}
	defer d.releaseLimits(m)
	d.serve(d.parcel.groups())
}

// bound lets the end of the engine end the delivery too. A caller whose context
// has no end, as maddy's queue, gets the engine's own, which all sessions watch
// already.
func (d *run) bound() (release func()) {
	if d.ctx.Done() == nil {
		d.ctx = d.e.base
		return func() {}
	}
	ctx, cancel := context.WithCancel(d.ctx)
	stop := context.AfterFunc(d.e.base, cancel)
	d.ctx = ctx
	return func() { stop(); cancel() }
}

// over is why the delivery may not go on, nil if it may. The end of the engine
// reaches sessions, which watch it, and d.ctx in any order: what a session suffers
// from it must not pass for the host's doing.
func (d *run) over() error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	return d.e.base.Err()
}

// run is one call of Deliver.
type run struct {
	e       *Engine
	ctx     context.Context
	parcel  *parcel // &packed, nil before the message is packed
	packed  parcel
	row     *policy.Block // of the sending domain, nil if there is none
	report  Report
	started time.Time
	look    *look // set where nothing is sent, and what would be is told (explain.go)
}

// prepare packs the message; a panic over a hostile header is a failure.
func (d *run) prepare(m *Message) (f *Failure) {
	defer func() {
		if p := recover(); p != nil {
			f = d.e.panicked("preparing a message", p)
		}
	}()
	if err := d.e.pack(m, &d.packed); err != nil {
		return internalFailure(err)
	}
	d.parcel = &d.packed
	return nil
}

// fetchRow asks what the operator's table says of the sending domain.
func (d *run) fetchRow() (f *Failure) {
	defer func() {
		if p := recover(); p != nil {
			f = d.e.panicked("reading a policy", p)
		}
	}()
	row, err := d.e.cfg.Policies.Row(d.ctx, d.parcel.FromDomain)
	if ctxErr := d.over(); err != nil && ctxErr != nil {
		return cancelled(ctxErr)
	}
	if err != nil {
		return failf(451, [3]int{4, 3, 5}, tlsplan.Policy, err, "The TLS policy for this message cannot be read, try again later")
	}
	d.row = row
	return nil
}

// serve runs every group to its end, in parallel.
func (d *run) serve(groups []*group) {
	if len(groups) == 1 {
		d.serveGroup(groups[0])
		return
	}
	var (
		wg    sync.WaitGroup
		slots = make(chan struct{}, maxParallel)
	)
	for _, g := range groups {
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			d.serveGroup(g)
		}()
	}
	wg.Wait()
}

// serveGroup serves one domain and makes sure that each of its recipients gets
// a status, also when something panics on the way.
func (d *run) serveGroup(g *group) {
	defer func() {
		p := recover()
		if p == nil && g.concluded() {
			return
		}
		f := internalFailure(errNoResult)
		if p != nil {
			f = d.e.panicked("a delivery", p)
		}
		d.troubled(f.Reason, true)
		d.concludeAll(g, outcome{failure: f})
	}()
	d.deliverGroup(g)
}

// errNoResult would be the cause if a walk ended without a result.
var errNoResult = errors.New("the recipient was left without a result")

// fail concludes all recipients of groups with f.
func (d *run) fail(groups []*group, f *Failure) {
	for _, g := range groups {
		d.troubled(f.Reason, true)
		d.concludeAll(g, outcome{failure: f})
	}
}

// failAll concludes all recipients of a message that could not be packed or
// may not start.
func (d *run) failAll(m *Message, f *Failure) {
	if d.parcel == nil {
		d.parcel = &parcel{Message: m, queueID: policy.QueueID(m.ID)}
	}
	d.fail(d.parcel.groups(), f)
}

// takeLimits takes the place of the message in the limits.
func (d *run) takeLimits(m *Message) (f *Failure) {
	if d.e.cfg.Limits == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			f = d.e.panicked("limits", p)
		}
	}()
	if err := d.e.cfg.Limits.TakeMsg(d.ctx, m.ClientIP, m.FromDomain); err != nil {
		if ctxErr := d.over(); ctxErr != nil {
			return cancelled(ctxErr)
		}
		return failf(451, [3]int{4, 4, 5}, tlsplan.Limits, err, "High load, try again later")
	}
	return nil
}

func (d *run) releaseLimits(m *Message) {
	if d.e.cfg.Limits == nil {
		return
	}
	defer d.e.recovered("limits")
	d.e.cfg.Limits.ReleaseMsg(m.ClientIP, m.FromDomain)
}

// panicked logs a panic and makes a temporary failure of it.
func (e *Engine) panicked(where string, p any) *Failure {
	err := fmt.Errorf("panic in %s: %v", where, p)
	e.cfg.Log.Error("panic in "+where, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
	return internalFailure(err)
}

// troubled tells the observers that something went wrong.
func (d *run) troubled(r tlsplan.Reason, enforced bool) {
	d.e.observe(func(o Observer) { o.Troubled(Trouble{Reason: r, Enforced: enforced}) })
}
