package smtpwire

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// block is the most that is written under one progress deadline: small enough
// that a slow but living line gets it through, large enough that the system calls
// do not count.
const block = 64 << 10

// past is a deadline that ends every wait at once.
var past = time.Unix(1, 0)

// watch lets a context end the waits of one call, and of that call only.
type watch struct {
	mu        sync.Mutex
	call      uint64 // number of the call under way
	cancelled bool   // its context has ended: no new deadline may be set
}

// begin ties the waits up to the returned end function to ctx. Afterwards
// the connection has no deadline, whatever happens to ctx.
func (c *Conn) begin(ctx context.Context) (end func()) {
	w := &c.watch
	w.mu.Lock()
	w.call++
	call := w.call
	w.cancelled = false
	w.mu.Unlock()
	c.ctx = ctx
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.call == call {
			w.cancelled = true
			c.raw.SetDeadline(past)
		}
	})
	return func() {
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.call++
		c.ctx = context.Background()
		c.raw.SetDeadline(time.Time{})
	}
}

// deadline bounds the reads and writes that follow, unless the context has
// ended them already.
func (c *Conn) deadline(d time.Duration) {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if !c.watch.cancelled {
		at := time.Now().Add(d)
		if !c.last.IsZero() && c.last.Before(at) {
			at = c.last
		}
		c.raw.SetDeadline(at)
	}
}

// noDeadline takes the deadline away, unless the context has ended all waits.
func (c *Conn) noDeadline() {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if !c.watch.cancelled {
		c.raw.SetDeadline(time.Time{})
	}
}

// write sends b within d.
func (c *Conn) write(b []byte, d time.Duration) error {
	c.deadline(d)
	_, err := c.nc.Write(b)
	return c.cause(err)
}

// writeBody sends b in blocks that each have their own deadline, so that a
// slow line is told from a dead one.
func (c *Conn) writeBody(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), block)
		if err := c.write(b[:n], c.cfg.Timeouts.Body); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// read reads one reply, all of it within d. c.rr holds its text.
func (c *Conn) read(d time.Duration) (code int, err error) {
	c.deadline(d)
	code, err = c.rr.read(c.br)
	return code, c.cause(err)
}

// cause replaces the time-out by which the context ended a wait with the
// context's own error.
func (c *Conn) cause(err error) error {
	if err == nil || c.ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("interrupted: %w", c.ctx.Err())
}
