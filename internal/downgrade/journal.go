package downgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"time"
)

// slack is how many lines more than twice what is needed a file may have before
// it is written anew.
const slack = 1000

// Check returns why the file at path, if there is one, cannot be read. A Memory goes
// on without it; whoever relies on what hosts proved had better not begin.
func Check(path string) error {
	_, err := readFile(path)
	return err
}

// load reads the file, and returns false if nothing can be kept there.
func (m *Memory) load() bool {
	c, err := readFile(m.cfg.Path)
	if err != nil {
		m.cfg.Log.Error("cannot read what hosts proved before: that they have proved TLS is not known, and a downgrade would not be seen; "+
			"what they prove from now on is kept in memory alone until the next start",
			"file", m.cfg.Path, "error", err.Error())
		return false
	}
	for _, r := range c.records {
		m.take(r.host, r.Evidence)
	}
	m.lines = len(c.records)
	// Nothing can be added to half a line.
	m.whole = c.damaged > 0 || c.torn
	m.forgetRequested()
	if c.damaged > 0 {
		m.rescue(c)
	}
	return true
}

// rescue sets a copy of the damaged file aside and puts what could be read in its
// place. Until that is on disk the damaged file stays where it is: whenever we are
// killed, one of the two is there to be read.
func (m *Memory) rescue(c contents) {
	aside := m.cfg.Path + ".damaged"
	attrs := []any{"file", m.cfg.Path, "lines_lost", c.damaged, "lines_read", len(c.records), "set_aside", aside}
	if err := copyFile(aside, m.cfg.Path); err != nil {
		attrs = append(attrs, "error", err.Error())
	}
	m.cfg.Log.Error("the file of what hosts proved before is damaged: what can be read of it counts", attrs...)
	m.save()
}

// look reads the file for a Memory that leaves it as it is.
func (m *Memory) look() {
	path := m.cfg.Path
	m.cfg.Path = ""
	if path == "" {
		return
	}
	hosts, damaged, err := Read(path)
	if err != nil {
		m.cfg.Log.Error("cannot read what hosts proved before", "file", path, "error", err.Error())
	}
	if damaged > 0 {
		m.cfg.Log.Warn("the file of what hosts proved before is damaged: what can be read of it counts", "file", path, "lines_lost", damaged)
	}
	for host, e := range hosts {
		m.take(host, e)
	}
}

// take remembers what the file says of a host.
func (m *Memory) take(host string, e Evidence) {
	// A clock that was ahead must not make evidence last longer.
	now := m.now()
	if e.TLS.After(now) {
		e.TLS = now
	}
	if e.Verified.After(now) {
		e.Verified = now
	}
	if e = e.after(m.since()); !e.IsZero() {
		m.hosts.Add(host, known{Evidence: e})
	}
}

// keepUp writes behind and heeds requests, until Close.
func (m *Memory) keepUp() {
	defer close(m.done)
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.turn(false)
		case <-m.stop:
			m.turn(true)
			return
		}
	}
}

// turn does once what there is to do. A disk that failed gets a last chance.
func (m *Memory) turn(last bool) {
	defer func() {
		if p := recover(); p != nil {
			m.cfg.Log.Error("panic in the memory of what hosts proved", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	requests := m.forgetRequested()
	if !last && recent(m.failed, m.now(), tryAgain) || !m.save() {
		return // the hosts to forget are still on disk, and so must the requests be
	}
	for _, r := range requests {
		if err := os.Remove(r); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.complain("cannot remove a request to forget a host, which is heeded again and again", err)
		}
	}
}

// save writes what the file does not have, and returns false if it could not.
func (m *Memory) save() bool {
	records, whole := m.pending()
	if len(records) == 0 && !whole {
		return true
	}
	if !whole {
		if err := appendFile(m.cfg.Path, records); err == nil {
			return true
		}
		// The file may end in half a line now, or be gone.
		m.mu.Lock()
		m.whole = true
		m.mu.Unlock()
		records, _ = m.pending()
	}
	err := replaceFile(m.cfg.Path, records)
	if err != nil {
		m.mu.Lock()
		m.whole = true
		m.mu.Unlock()
		m.failed = m.now()
		m.complain("cannot write down what hosts proved: it is lost if maddy stops now", err)
	}
	return err == nil
}

// pending takes what has to be written: the hosts that changed, or all of them.
func (m *Memory) pending() (records []record, whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if whole = m.whole || m.lines+len(m.dirty) > 2*m.hosts.Len()+slack; whole {
		since := m.since()
		for _, host := range m.hosts.Keys() { // the oldest first, as they are read again
			k, _ := m.hosts.Peek(host)
			if e := k.after(since); !e.IsZero() {
				records = append(records, record{host, e})
			} else {
				m.hosts.Remove(host)
			}
		}
		m.whole, m.lines = false, 0
	} else {
		for host := range m.dirty {
			k, _ := m.hosts.Peek(host)
			records = append(records, record{host, k.Evidence})
		}
	}
	clear(m.dirty)
	m.lines += len(records)
	return records, whole
}

// complain logs a failure, if none was logged lately.
func (m *Memory) complain(what string, err error) {
	if recent(m.complained, m.now(), tellAgain) {
		return
	}
	m.complained = m.now()
	m.cfg.Log.Error(what, "file", m.cfg.Path, "error", err.Error())
}
