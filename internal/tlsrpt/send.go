package tlsrpt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/foxcpp/maddy/framework/exterrors"
)

const (
	// Reports begin some minutes after midnight, when the last counts are
	// written, and are spread over hours, so that no receiver gets those of all
	// the world at once (RFC 8460, section 4.1).
	firstReport = 5 * time.Minute
	spread      = 4 * time.Hour
	// Retrying goes on for a day (RFC 8460, section 5.5), ever more rarely.
	firstPause = 15 * time.Minute
	maxPause   = 4 * time.Hour
	giveUp     = 24 * time.Hour
	// keepDays is how long after its end a day can be looked at.
	keepDays = 3 * 24 * time.Hour

	stepEvery    = time.Minute
	maxReports   = 10_000 // taken in one day
	maxAtOnce    = 8      // domains worked on at a time
	reportWithin = 5 * time.Minute
)

// step does what is due: it sends reports and removes what is old. No report is
// begun once quit is closed.
func (r *Reporter) step(ctx context.Context, quit <-chan struct{}) {
	r.steps.Lock()
	defer r.steps.Unlock()
	if err := r.own(); err != nil {
		return // complained about where counts are written
	}
	for _, l := range r.ledgers() {
		var tasks []task
		now, err := l.now(ctx)
		if err == nil {
			tasks, err = l.due(ctx, now)
		}
		if err != nil {
			r.complainThat(waiting, err)
		}
		r.work(ctx, quit, l, tasks)
	}
}

// waiting is logged when a ledger fails.
const waiting = "TLS reports have to wait"

// endOf is the midnight that ends a day.
func endOf(name string) time.Time {
	begin, _ := time.Parse(dayForm, name) // what names a day has been parsed before
	return begin.Add(24 * time.Hour)
}

// work sends the reports that are due.
func (r *Reporter) work(ctx context.Context, quit <-chan struct{}, l ledger, tasks []task) {
	var running sync.WaitGroup
	places := make(chan struct{}, maxAtOnce)
	for _, t := range tasks {
		places <- struct{}{}
		if over(quit) {
			break
		}
		running.Go(func() {
			defer func() { <-places }()
			defer r.recovered("sending a TLS report")
			ctx, cancel := context.WithTimeout(ctx, reportWithin)
			defer cancel()
			if err := r.report(ctx, l, t); err != nil {
				r.complainThat(waiting, err)
			}
		})
	}
	running.Wait()
}

// dueFirst is when the first attempt for a domain may begin: as good as drawn at
// random, and the same after a restart.
func dueFirst(salt, day, domain string) time.Time {
	sum := sha256.Sum256([]byte(salt + "\x00" + day + "\x00" + domain))
	delay := time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(spread))
	return endOf(day).Add(firstReport + delay)
}

// pause is how long to wait after the nth attempt.
func pause(try int) time.Duration {
	return min(firstPause<<min(try-1, 8), maxPause)
}

// report makes one attempt to tell all endpoints of a domain. The error is that of
// the ledger.
func (r *Reporter) report(ctx context.Context, l ledger, t task) error {
	taken, err := l.taken(ctx, t.day)
	if err != nil {
		return err
	}
	// Not when it was listed: until its turn came hours may have gone by, and from
	// the time of the next attempt on other relays do not wait for this one.
	now, err := l.now(ctx)
	if err != nil {
		return err
	}
	done := ""
	switch {
	case t.try > 0 && now.After(t.first.Add(giveUp)):
		done = doneTooLate
	case taken >= maxReports:
		done = doneTooMany
	}
	if done == "" {
		// What cannot be written down is not begun: after a restart it would be
		// begun again.
		if ours, err := l.begin(ctx, t, now, now.Add(pause(t.try+1))); err != nil || !ours {
			return err
		}
		if done, err = r.attempt(ctx, l, t); err != nil {
			return err
		}
	}
	if done == "" {
		return nil
	}
	if done == doneTooLate || done == doneTooMany {
		r.cfg.Log.Warn("TLS report not sent", "domain", t.domain, "day", t.day, "reason", done)
		r.cfg.Count.Reported(GivenUp)
	}
	return l.note(ctx, t, progressLine{Done: done})
}

// attempt returns why there is nothing more to do, or nothing if there is.
func (r *Reporter) attempt(ctx context.Context, l ledger, t task) (done string, err error) {
	texts, err := r.cfg.Resolver.TXT(ctx, "_smtp._tls."+t.domain)
	if err != nil {
		if exterrors.IsTemporaryOrUnspec(err) {
			return "", nil
		}
		return doneNoRecord, nil
	}
	endpoints := r.usable(Endpoints(texts))
	if len(endpoints) == 0 {
		return doneNoRecord, nil
	}
	salt, counts, err := l.counts(ctx, t)
	if err != nil {
		return "", err
	}
	d, err := r.cfg.Sender.document(salt, t.day, t.domain, counts)
	if err != nil {
		return "", err
	}
	zipped, err := d.Gzip()
	if err != nil {
		return "", err
	}
	done = doneAll
	for _, e := range endpoints {
		if t.told[e.URI] != "" {
			continue
		}
		if !r.tell(ctx, l, t, d, zipped, e) {
			done = ""
		}
	}
	return done, nil
}

// usable leaves out endpoints that the operator does not want to serve.
func (r *Reporter) usable(all []Endpoint) []Endpoint {
	var usable []Endpoint
	for _, e := range all {
		if e.Address != "" && r.cfg.Mail || e.Address == "" && r.cfg.HTTPS {
			usable = append(usable, e)
		}
	}
	return usable
}

// tell sends the report to one endpoint, and reports whether that is done with.
func (r *Reporter) tell(ctx context.Context, l ledger, t task, d Document, zipped []byte, e Endpoint) bool {
	err := r.send(ctx, d, zipped, e)
	result := resultSent
	switch {
	case err == nil:
		r.cfg.Log.Info("TLS report "+Outcome(e.URI, result), "domain", d.Domain, "day", t.day, "to", e.URI, "report_id", d.ReportID)
		r.cfg.Count.Reported(Sent)
	case exterrors.IsTemporaryOrUnspec(err):
		r.cfg.Log.Warn("TLS report not sent, will be tried again", "error", err, "domain", d.Domain, "day", t.day, "to", e.URI)
		return false
	default:
		result = resultRefused
		r.cfg.Log.Warn("TLS report refused", "error", err, "domain", d.Domain, "day", t.day, "to", e.URI)
		r.cfg.Count.Reported(Refused)
	}
	if err := l.note(ctx, t, progressLine{To: e.URI, Result: result}); err != nil {
		r.complainThat("a TLS report may go out twice, with the same Report-ID: it cannot be noted as sent", err)
	}
	return true
}

func (r *Reporter) send(ctx context.Context, d Document, zipped []byte, e Endpoint) error {
	if e.Address == "" {
		return r.post(ctx, e.URI, zipped)
	}
	header, body, err := r.cfg.Sender.message(d, zipped, e.Address, r.cfg.Key, r.cfg.Now())
	if err != nil {
		return err
	}
	return r.mailer.Mail(ctx, r.cfg.Sender.From, e.Address, header, body)
}

// recovered is deferred where a panic must not go on; it logs it.
func (r *Reporter) recovered(where string) {
	if p := recover(); p != nil {
		r.cfg.Log.Error("panic in "+where, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}
