package tlsrpt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
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

// step does what is due: it sends reports and removes old files. No report is
// begun once quit is closed.
func (r *Reporter) step(ctx context.Context, quit <-chan struct{}) {
	r.steps.Lock()
	defer r.steps.Unlock()
	if err := r.own(); err != nil {
		return // complained about where counts are written
	}
	now := r.cfg.Now().UTC()
	for _, name := range r.days() {
		end := endOf(name)
		switch {
		case now.Before(end.Add(firstReport)):
		case now.After(end.Add(keepDays)):
			r.forget(name)
		default:
			r.work(ctx, quit, name, now)
		}
	}
}

// endOf is the midnight that ends a day.
func endOf(name string) time.Time {
	begin, _ := time.Parse(dayForm, name) // days only lists what parses
	return begin.Add(24 * time.Hour)
}

// days lists the days that have a file of counts.
func (r *Reporter) days() []string {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".jsonl")
		if _, err := time.Parse(dayForm, name); ok && err == nil {
			names = append(names, name)
		}
	}
	return names
}

// forget removes the files of a day.
func (r *Reporter) forget(name string) {
	delete(r.batches, name)
	progress, counts := progressPath(r.cfg.Dir, name), countsPath(r.cfg.Dir, name)
	// Counts last: without them nothing would remove the others.
	for _, path := range []string{progress + asideSuffix, progress, counts + asideSuffix, counts + newSuffix, counts} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.cfg.Log.Error("cannot remove old TLS report data", "error", err)
			return
		}
	}
}

// work sends the reports of one day that are due.
func (r *Reporter) work(ctx context.Context, quit <-chan struct{}, name string, now time.Time) {
	b, err := r.batch(name)
	if err != nil {
		r.complain(err)
		return
	}
	if b == nil {
		return
	}
	var running sync.WaitGroup
	places := make(chan struct{}, maxAtOnce)
	left := false
	for domain, t := range b.day.domains {
		p := b.snapshot(domain)
		if p.done != "" {
			continue
		}
		left = true
		if now.Before(r.due(name, domain, p)) {
			continue
		}
		places <- struct{}{}
		if over(quit) {
			break
		}
		running.Go(func() {
			defer func() { <-places }()
			defer r.recovered("sending a TLS report")
			ctx, cancel := context.WithTimeout(ctx, reportWithin)
			defer cancel()
			r.report(ctx, b, domain, t, p, now)
		})
	}
	running.Wait()
	if !left {
		r.batches[name] = nil // nothing to do any more, and nothing to keep in memory
	}
}

// batch loads a day once. It is nil if all has been done.
func (r *Reporter) batch(name string) (*batch, error) {
	if b, loaded := r.batches[name]; loaded {
		return b, nil
	}
	r.files.Lock()
	defer r.files.Unlock()
	b, err := loadBatch(r.cfg.Dir, name)
	if errors.Is(err, errForeign) {
		// One of the two is not ours. Without counts there is nothing to send;
		// without progress everything may be sent again, under the same IDs.
		r.setAsideForeign(name)
		b, err = loadBatch(r.cfg.Dir, name)
	}
	if err != nil {
		return nil, err
	}
	if b.day.bad > 0 {
		r.cfg.Log.Warn("TLS report data has lines that cannot be read", "day", name, "lines", b.day.bad)
	}
	if b.day.lost > 0 {
		r.cfg.Log.Warn("TLS reports leave sessions out: too many different domains, or policies of one", "day", name, "sessions", b.day.lost)
	}
	r.batches[name] = b
	return b, nil
}

func (r *Reporter) setAsideForeign(name string) {
	for path, head := range map[string]header{
		countsPath(r.cfg.Dir, name):   countsHeader(name),
		progressPath(r.cfg.Dir, name): progressHeader(name),
	} {
		if !errors.Is(checkHeader(path, head), errForeign) {
			continue
		}
		err := setAside(path)
		r.cfg.Log.Error("TLS report data is damaged, the file is renamed aside", "error", errors.Join(errForeign, err), "path", path)
	}
}

// due is when the next attempt for a domain may begin.
func (r *Reporter) due(name, domain string, p progress) time.Time {
	if p.try > 0 {
		return p.next
	}
	// As good as drawn at random, and the same after a restart.
	sum := sha256.Sum256([]byte(r.salt + "\x00" + name + "\x00" + domain))
	delay := time.Duration(binary.BigEndian.Uint64(sum[:8]) % uint64(spread))
	return endOf(name).Add(firstReport + delay)
}

// pause is how long to wait after the nth attempt.
func pause(try int) time.Duration {
	return min(firstPause<<min(try-1, 8), maxPause)
}

// report makes one attempt to tell all endpoints of a domain.
func (r *Reporter) report(ctx context.Context, b *batch, domain string, t *tally, p progress, now time.Time) {
	done := ""
	switch {
	case p.try > 0 && now.After(p.first.Add(giveUp)):
		done = doneTooLate
	case b.total() >= maxReports:
		done = doneTooMany
	}
	if done == "" {
		next := progressLine{Domain: domain, Try: p.try + 1, At: now, Next: now.Add(pause(p.try + 1))}
		// What cannot be written down is not begun: after a restart it would be
		// begun again.
		if err := b.note(next); err != nil {
			r.complain(err)
			return
		}
		done = r.attempt(ctx, b, domain, t, p)
	}
	if done == "" {
		return
	}
	if done == doneTooLate || done == doneTooMany {
		r.cfg.Log.Warn("TLS report not sent", "domain", domain, "day", b.day.name, "reason", done)
	}
	if err := b.note(progressLine{Domain: domain, Done: done}); err != nil {
		r.complain(err)
	}
}

// attempt returns why there is nothing more to do, or nothing if there is.
func (r *Reporter) attempt(ctx context.Context, b *batch, domain string, t *tally, p progress) (done string) {
	texts, err := r.cfg.Resolver.TXT(ctx, "_smtp._tls."+domain)
	if err != nil {
		if exterrors.IsTemporaryOrUnspec(err) {
			return ""
		}
		return doneNoRecord
	}
	endpoints := r.usable(Endpoints(texts))
	if len(endpoints) == 0 {
		return doneNoRecord
	}
	d, err := r.cfg.Sender.document(r.salt, b.day.name, domain, t)
	if err != nil {
		r.cfg.Log.Error("cannot make a TLS report", "error", err, "domain", domain)
		return ""
	}
	zipped, err := d.Gzip()
	if err != nil {
		r.cfg.Log.Error("cannot make a TLS report", "error", err, "domain", domain)
		return ""
	}
	done = doneAll
	for _, e := range endpoints {
		if p.told[e.URI] != "" {
			continue
		}
		if !r.tell(ctx, b, d, zipped, e) {
			done = ""
		}
	}
	return done
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
func (r *Reporter) tell(ctx context.Context, b *batch, d Document, zipped []byte, e Endpoint) bool {
	err := r.send(ctx, d, zipped, e)
	result := resultSent
	switch {
	case err == nil:
		r.cfg.Log.Info("TLS report sent", "domain", d.Domain, "day", b.day.name, "to", e.URI, "report_id", d.ReportID)
	case exterrors.IsTemporaryOrUnspec(err):
		r.cfg.Log.Warn("TLS report not sent, will be tried again", "error", err, "domain", d.Domain, "day", b.day.name, "to", e.URI)
		return false
	default:
		result = resultRefused
		r.cfg.Log.Warn("TLS report refused", "error", err, "domain", d.Domain, "day", b.day.name, "to", e.URI)
	}
	if err := b.note(progressLine{Domain: d.Domain, To: e.URI, Result: result}); err != nil {
		r.complain(err)
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
