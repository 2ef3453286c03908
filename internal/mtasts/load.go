package mtasts

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keepDamaged is how long a file that was set aside stays there to be looked at.
const keepDamaged = 30 * 24 * time.Hour

// load reads the policies on disk, the most recent ones if there are too many,
// and tidies up. It reads each file once, at start, so that no delivery has to.
func (c *Cache) load() {
	defer c.recovered("reading the cache")
	// Here rather than with the first policy: the operator should hear of trouble
	// at start.
	var err error
	if !c.disk.readOnly {
		err = os.MkdirAll(c.disk.dir, 0o700)
	}
	var entries []fs.DirEntry
	if err == nil {
		entries, err = os.ReadDir(c.disk.dir)
	}
	if c.disk.readOnly && errors.Is(err, fs.ErrNotExist) {
		return // The server has not made it yet.
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Error("the directory of MTA-STS policies cannot be read; until they are fetched again, mail goes as if domains had none",
			"directory", c.disk.dir, "error", printable(err.Error()))
		return
	}
	if err != nil {
		c.disk.complain(err)
		return
	}
	files := c.disk.sorted(entries)
	for len(files) > maxPolicies {
		c.disk.drop(files[0])
		files = files[1:]
	}
	bad := 0
	for _, name := range files {
		err := c.read(name)
		var cannot *unreadable
		switch {
		case errors.As(err, &cannot):
			c.unread.add(strings.TrimSuffix(name, suffix), err)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			if bad++; bad == 1 { // One line will do for a thousand.
				c.log.Warn("MTA-STS policies on disk are damaged and set aside; they are fetched again when mail goes there",
					"directory", c.disk.dir, "first", printable(name), "error", printable(err.Error()))
			}
			c.setAside(name)
		}
	}
	c.tellUnread()
	c.log.Debug("MTA-STS policies read from disk", "directory", c.disk.dir, "policies", c.table.len(), "damaged", bad)
}

// sorted lists the files of policies, oldest first, and removes what is old of
// the others.
func (w *writer) sorted(entries []fs.DirEntry) []string {
	var files []string
	written := make(map[string]time.Time)
	for _, e := range entries {
		name := e.Name()
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || !e.Type().IsRegular() {
			continue
		}
		var age time.Duration
		if err == nil { // or it is kept: it cannot be read, which is not as if it were not there
			written[name] = info.ModTime()
			age = time.Since(info.ModTime())
		}
		switch {
		case strings.HasPrefix(name, temporary):
			// Of a process that was killed; another one may be writing right now.
			if age > time.Hour {
				w.drop(name)
			}
		case strings.HasSuffix(name, damaged):
			if age > keepDamaged {
				w.drop(name)
			}
		case strings.HasSuffix(name, suffix):
			files = append(files, name)
		}
	}
	slices.SortFunc(files, func(a, b string) int { return written[a].Compare(written[b]) })
	return files
}

func (w *writer) drop(name string) {
	if err := w.discard(name); err != nil {
		w.complain(err)
	}
}

// read takes one file into the table, or removes it if its policy is no longer in
// force. An *unreadable error means that nobody knows what is in it, fs.ErrNotExist
// that it is gone, any other that it is damaged.
func (c *Cache) read(name string) error {
	domain := strings.TrimSuffix(name, suffix)
	if canonical, ok := policyDomain(domain); !ok || canonical != domain {
		return errors.New("its name is of no domain")
	}
	text, err := c.readFile(filepath.Join(c.disk.dir, name))
	switch {
	case errors.Is(err, errTooLarge), errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil:
		return &unreadable{err}
	}
	policy, used, err := decode(domain, text)
	if err != nil {
		return err
	}
	now := c.now()
	if !policy.freshAt(now) {
		c.disk.drop(name)
		return nil
	}
	if c.table.look(domain).policy != nil {
		return nil // It was fetched before the file could be read.
	}
	c.disk.remove(c.table.put(domain, entry{policy: policy, used: used, refresh: spread(policy, now)}))
	return nil
}

// setAside renames a damaged file, for somebody to look at.
func (c *Cache) setAside(name string) {
	if c.disk.readOnly {
		return
	}
	path := filepath.Join(c.disk.dir, name)
	if err := os.Rename(path, path+damaged); err != nil {
		c.disk.complain(err)
	}
}

// spread is when a policy read from disk is refreshed: as it would have been, but
// what became due while we were away is done in the course of an hour.
func spread(p *Policy, now time.Time) time.Time {
	at := refreshTime(p)
	if at.IsZero() || at.After(now) {
		return at
	}
	return now.Add(time.Duration(rand.Float64() * float64(min(time.Hour, p.Expires.Sub(now)/2))))
}
