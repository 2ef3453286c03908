package mtasts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// maxWaiting bounds the changes that wait for the disk. Policies that are lost
	// when it is stuck are written when it moves again, see unsaved.
	maxWaiting = 256
	// drainTimeout is how long close waits for the disk.
	drainTimeout = 3 * time.Second
	// complainEvery is how often trouble with the disk is logged.
	complainEvery = 10 * time.Minute
)

// writer keeps the files, in a goroutine of its own: nobody waits for a disk.
type writer struct {
	dir      string
	readOnly bool
	drain    time.Duration // how long close waits for the disk
	log      *slog.Logger
	jobs     chan job
	done     chan struct{}

	mu       sync.Mutex
	closed   bool
	told     time.Time // when trouble was last logged
	silenced int       // troubles since

	// missed are the files of policies that could not be written. A policy of which
	// nothing is on disk does not survive a restart, though the disk may be well
	// long before the policy is fetched anew.
	missed map[string]bool
}

// job is a file to be written, or to be removed where there is no text, or
// something else to be done.
type job struct {
	name string
	text []byte
	run  func() error
}

// startWriter starts a writer for the directory of Config.
func startWriter(cfg Config, log *slog.Logger) *writer {
	w := &writer{
		dir: filepath.Join(cfg.Dir, subdirectory), readOnly: cfg.ReadOnly, drain: cmp.Or(cfg.drain, drainTimeout), log: log,
		jobs: make(chan job, maxWaiting), done: make(chan struct{}), missed: make(map[string]bool),
	}
	go w.work()
	return w
}

// save has a policy written.
func (w *writer) save(domain string, p *Policy, used time.Time) {
	text, err := encode(domain, p, used)
	if err != nil {
		w.complain(err)
		return
	}
	w.put(job{name: domain + suffix, text: text})
}

// remove has the files of domains removed.
func (w *writer) remove(domains []string) {
	for _, domain := range domains {
		w.put(job{name: domain + suffix})
	}
}

// put leaves a job, or drops it if too many wait. A file that should be gone is
// removed when it is read again: it has expired, or there are too many.
func (w *writer) put(j job) {
	if !w.queued(j) {
		w.miss(j)
		w.complain(errors.New("too many changes wait for the disk"))
	}
}

func (w *writer) queued(j job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.readOnly {
		return true // What happens now is after the end, or not to be seen.
	}
	select {
	case w.jobs <- j:
		return true
	default:
		return false
	}
}

// work does the jobs until there are no more.
func (w *writer) work() {
	defer close(w.done)
	for j := range w.jobs {
		if err := w.do(j); err != nil {
			w.miss(j)
			w.complain(err)
		}
	}
}

// miss notes a policy that is not on disk as it should be.
func (w *writer) miss(j job) {
	if j.text == nil {
		return // What should be gone is found at the next start.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.missed) < maxPolicies {
		w.missed[j.name] = true
	}
}

// unsaved returns the domains of some policies that could not be written, each of
// them once: who asks has them written again.
func (w *writer) unsaved() (domains []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.missed {
		if len(domains) == maxWaiting/2 { // the other half is for what is fetched now
			break
		}
		delete(w.missed, name)
		domains = append(domains, strings.TrimSuffix(name, suffix))
	}
	return domains
}

func (w *writer) do(j job) (err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("internal error: %v", broken)
		}
	}()
	if j.run != nil {
		return j.run()
	}
	if j.text != nil {
		return writeFile(w.dir, j.name, j.text)
	}
	return w.discard(j.name)
}

// discard removes a file, which may be gone already.
func (w *writer) discard(name string) error {
	if w.readOnly {
		return nil
	}
	err := os.Remove(filepath.Join(w.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// complain logs trouble with the disk, not too often. It never is more: policies
// are in memory.
func (w *writer) complain(err error) {
	w.mu.Lock()
	if !w.told.IsZero() && time.Since(w.told) < complainEvery {
		w.silenced++
		w.mu.Unlock()
		return
	}
	more := w.silenced
	w.told, w.silenced = time.Now(), 0
	w.mu.Unlock()
	w.log.Warn("MTA-STS policies are not kept on disk as they should be; until this is mended, a restart forgets some",
		"directory", w.dir, "error", printable(err.Error()), "more_since_last", more)
}

// close does what is waiting, for a moment: a disk may be stuck.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.jobs)
	}
	w.mu.Unlock()
	timer := time.NewTimer(w.drain)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
		w.complain(errors.New("the disk does not answer"))
	}
}
