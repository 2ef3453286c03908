package mtasts

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// unread are the domains of which there is a policy on disk that cannot be read:
// its owner is another user, or the disk fails. That is not as if there were none.
// Mail goes by what can be fetched, or waits; see Result.Unread.
type unread struct {
	mu     sync.Mutex
	causes map[string]error // by domain
}

// errUnread is what others than the operator hear.
var errUnread = errors.New("the policy on disk cannot be read")

// toldUnread is how many domains the log names; more are counted.
const toldUnread = 10

func (u *unread) add(domain string, cause error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.causes == nil {
		u.causes = make(map[string]error)
	}
	u.causes[domain] = cause
}

// settle forgets a domain, and reports whether it was there.
func (u *unread) settle(domain string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, known := u.causes[domain]
	delete(u.causes, domain)
	return known
}

// cause is why the policy of a domain cannot be read, nil if it is not one of
// those.
func (u *unread) cause(domain string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.causes[domain]
}

// domains lists them all.
func (u *unread) domains() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Sorted(maps.Keys(u.causes))
}

// tellUnread logs at start whose policies cannot be read.
func (c *Cache) tellUnread() {
	domains := c.unread.domains()
	if len(domains) == 0 {
		return
	}
	named := domains[:min(len(domains), toldUnread)]
	c.log.Error("MTA-STS policies on disk cannot be read; mail to these domains waits until they can be, or can be fetched, or the files are removed",
		"directory", c.disk.dir, "domains", printable(strings.Join(named, " ")), "policies", len(domains),
		"error", printable(c.unread.cause(domains[0]).Error()))
}

// readAgain tries the files that could not be read. One that is gone was removed by
// somebody who wants the policy forgotten. It is for the writer's goroutine: a disk
// that fails may be slow about it.
func (c *Cache) readAgain() error {
	for _, domain := range c.unread.domains() {
		name := domain + suffix
		err := c.read(name)
		var cannot *unreadable
		switch {
		case errors.As(err, &cannot):
			continue
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.setAside(name)
		}
		if c.unread.settle(domain) {
			c.log.Info("MTA-STS policy on disk is no longer one that cannot be read", "domain", domain, "policies_left", len(c.unread.domains()))
		}
	}
	return nil
}

// unreadable is the error about a file that is there and cannot be read.
type unreadable struct{ err error }

func (e *unreadable) Error() string { return e.err.Error() }
func (e *unreadable) Unwrap() error { return e.err }
