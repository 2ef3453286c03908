package delivery

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// outcome is how the attempt ended for one recipient: delivered if failure is
// nil, with the reply of the server that took it.
type outcome struct {
	failure    *Failure
	connection *Connection
	reply      *smtpwire.Reply
	utf8       bool
}

// attemptKey names what attempts are counted for.
type attemptKey struct{ queueID, recipient string }

// concludeAll concludes everybody in g who has no status yet.
func (d *run) concludeAll(g *group, o outcome) {
	for _, r := range g.all {
		d.conclude(g, r, o)
	}
	g.open = nil
}

// conclude ends the attempt for one recipient: the observers are told the whole
// story, then the caller gets the status under every string it handed in. A
// recipient that has its status keeps it.
func (d *run) conclude(g *group, r *recipient, o outcome) {
	if r.done {
		return
	}
	r.done = true
	if o.failure == nil && o.reply == nil {
		// Delivered is only what a server said it took.
		o.failure = internalFailure(errNoResult)
	}
	d.tellObservers(g, r, o)
	var status error
	if o.failure != nil {
		status = o.failure
	}
	for _, s := range r.handedIn {
		if d.tell(s, status) {
			continue
		}
		// A recipient without a status counts as delivered to maddy's queue. So
		// the caller is told once more: what is true if it was delivered, and else
		// a plain failure, since what it cannot cope with may be in this one.
		again := status
		if again != nil {
			again = internalFailure(errNoResult)
		}
		d.tell(s, again)
	}
}

// tellObservers gives the attempt to the observers. A recipient gets its status
// also when the story of it cannot be told.
func (d *run) tellObservers(g *group, r *recipient, o outcome) {
	defer d.e.recovered("telling what happened")
	a := d.attempt(g, r, o)
	seconds := time.Since(d.started).Seconds()
	d.e.observe(func(obs Observer) { obs.Concluded(a, seconds) })
}

// tell reports one status and returns false if the caller panicked.
func (d *run) tell(recipient string, status error) (told bool) {
	defer d.e.recovered("taking a status")
	d.report(recipient, status)
	return true
}

// attempt tells the whole story of one recipient.
func (d *run) attempt(g *group, r *recipient, o outcome) *Attempt {
	p := d.parcel
	a := &Attempt{
		ID:         newID(),
		Module:     d.e.cfg.Module,
		Hostname:   d.e.cfg.Hostname,
		MessageID:  p.ID,
		QueueID:    p.queueID,
		Sender:     p.From,
		Recipient:  r.Address,
		Domain:     g.domain,
		Size:       p.size,
		Header:     p.Header,
		Concluded:  time.Now(),
		Settings:   g.settings,
		Plan:       g.plan,
		Connection: o.connection,
		Hosts:      g.hosts,
		Downgrade:  g.downgrade,
		UTF8:       o.utf8,

		ContentSent: g.sent,
		Lifted:      g.lifted,
		STSErr:      g.stsErr,
	}
	if o.failure == nil {
		a.Result = Delivered
		a.Code, a.Enhanced, a.Message = o.reply.Code, o.reply.Enhanced, o.reply.Text
		if lack := g.plan.Shortfall(o.connection.Outcome); lack != nil {
			a.Fallback = lack.Reason
			a.Description = "delivered with less than was wanted: " + lack.String()
		}
	} else {
		a.failed(o.failure)
	}
	a.Number = d.e.count(attemptKey{p.queueID, r.Address}, a.Result)
	return a
}

// newID draws from math/rand/v2, which the kernel seeds for each process: two
// equal ids are as unlikely as with crypto/rand, and they are no secret.
func newID() (id [16]byte) {
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

func (a *Attempt) failed(f *Failure) {
	a.Result = Permanent
	if f.Temporary() {
		a.Result = Temporary
	}
	a.Reason = f.Reason
	a.Code, a.Enhanced, a.Message = f.Code, f.Enhanced, f.Message
	a.Description = f.Message
	if f.Reply != nil {
		a.Code, a.Enhanced, a.Message = f.Reply.Code, f.Reply.Enhanced, f.Reply.Text
	} else if f.Err != nil {
		a.Description = f.Message + ": " + printable(fmt.Sprint(f.Err), maxStatusText)
	}
}

// count returns the number of this attempt, starting with 1. What ended well or
// for good is forgotten.
func (e *Engine) count(k attemptKey, r Result) int {
	n, _ := e.attempts.Get(k)
	n++
	if r == Temporary {
		e.attempts.Add(k, n)
	} else {
		e.attempts.Remove(k)
	}
	return n
}

// Refuse concludes a recipient that a target does not let in: no attempt is
// made, but the log has its line. It returns the failure for the caller.
func (e *Engine) Refuse(m *Message, r Recipient, code int, enhanced [3]int, reason tlsplan.Reason, text string) error {
	f := failf(code, enhanced, reason, nil, "%s", text)
	d := &run{e: e, started: time.Now(), parcel: &parcel{Message: m, queueID: policy.QueueID(m.ID)}, report: func(string, error) {}}
	g := &group{domain: r.Domain, all: []*recipient{{Recipient: r}}}
	d.fail([]*group{g}, f)
	return f
}
