package tlsrpt

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// local is the ledger of a relay that reports for itself: a file of counts for
// each day, and one with what has been sent.
type local struct {
	*Reporter
	batches map[string]*batch // days that are over; nil where all is done
}

// now implements ledger.
func (l *local) now(context.Context) (time.Time, error) { return l.cfg.Now().UTC(), nil }

// due implements ledger. It also removes what is too old.
func (l *local) due(_ context.Context, now time.Time) ([]task, error) {
	l.forget(now)
	var tasks []task
	var failed error
	for _, name := range l.days() {
		if now.Before(endOf(name).Add(firstReport)) || tooOld(name, now) || l.shared != nil && !l.begun(name) {
			continue
		}
		b, err := l.batch(name)
		failed = errors.Join(failed, err)
		if b != nil {
			tasks = append(tasks, l.dueOf(b, now)...)
		}
	}
	return tasks, failed
}

// dueOf lists the reports about one day.
func (l *local) dueOf(b *batch, now time.Time) (tasks []task) {
	left := false
	for domain := range b.day.domains {
		p := b.snapshot(domain)
		if p.done != "" {
			continue
		}
		left = true
		if p.try == 0 {
			p.next = dueFirst(l.id, b.day.name, domain)
		}
		if !now.Before(p.next) {
			tasks = append(tasks, task{b.day.name, domain, p})
		}
	}
	if !left {
		l.batches[b.day.name] = nil // nothing to do any more, and nothing to keep in memory
	}
	return tasks
}

// begin implements ledger: there is nobody else.
func (l *local) begin(ctx context.Context, t task, now, next time.Time) (bool, error) {
	return true, l.note(ctx, t, progressLine{Try: t.try + 1, At: now, Next: next})
}

// note implements ledger.
func (l *local) note(_ context.Context, t task, line progressLine) error {
	line.Domain = t.domain
	return l.batches[t.day].note(line)
}

// taken implements ledger.
func (l *local) taken(_ context.Context, day string) (int, error) { return l.batches[day].total(), nil }

// counts implements ledger.
func (l *local) counts(_ context.Context, t task) (salt string, _ *tally, err error) {
	return l.id, l.batches[t.day].day.domains[t.domain], nil
}

// days lists the days that have a file of counts.
func (r *Reporter) days() []string {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), countsSuffix)
		if _, err := time.Parse(dayForm, name); ok && err == nil {
			names = append(names, name)
		}
	}
	return names
}

// begun reports whether reports about a day have been sent from its file, before
// a database took over.
func (r *Reporter) begun(name string) bool {
	_, err := os.Stat(progressPath(r.cfg.Dir, name))
	return err == nil
}

// forget removes files of days that are too old, whatever they are. Counts that
// wait for a database are left to the upload, which says that they are lost.
func (l *local) forget(now time.Time) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		if _, err := time.Parse(dayForm, name); err != nil || !tooOld(name, now) {
			continue
		}
		_, _, isPart := partName(e.Name())
		if l.shared != nil && (isPart || e.Name() == name+countsSuffix && !l.begun(name)) {
			continue
		}
		delete(l.batches, name)
		if err := os.Remove(filepath.Join(l.cfg.Dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.complainThat("cannot remove old TLS report data", err)
		}
	}
}

// tooOld reports whether nothing of a day is kept any more.
func tooOld(name string, now time.Time) bool { return now.After(endOf(name).Add(keepDays)) }

// batch loads a day once. It is nil if all has been done.
func (l *local) batch(name string) (*batch, error) {
	if b, loaded := l.batches[name]; loaded {
		return b, nil
	}
	l.files.Lock()
	defer l.files.Unlock()
	b, err := loadBatch(l.cfg.Dir, name)
	if errors.Is(err, errForeign) {
		// One of the two is not ours. Without counts there is nothing to send;
		// without progress everything may be sent again, under the same IDs.
		l.setAsideForeign(name)
		b, err = loadBatch(l.cfg.Dir, name)
	}
	if err != nil {
		return nil, err
	}
	l.warnOf(b.day)
	l.cfg.Count.Lost(b.day.lost)
	l.batches[name] = b
	return b, nil
}

// warnOf says what a day lacks.
func (r *Reporter) warnOf(d *day) {
	if d.bad > 0 {
		r.cfg.Log.Warn("TLS report data has lines that cannot be read", "day", d.name, "lines", d.bad)
	}
	if d.lost > 0 {
		r.cfg.Log.Warn("TLS reports leave sessions out: too many different domains, or policies of one", "day", d.name, "sessions", d.lost)
	}
}

func (l *local) setAsideForeign(name string) {
	for path, head := range map[string]header{
		countsPath(l.cfg.Dir, name):   countsHeader(name),
		progressPath(l.cfg.Dir, name): progressHeader(name),
	} {
		if !errors.Is(checkHeader(path, head), errForeign) {
			continue
		}
		err := setAside(path)
		l.cfg.Log.Error("TLS report data is damaged, the file is renamed aside", "error", errors.Join(errForeign, err), "path", path)
	}
}
