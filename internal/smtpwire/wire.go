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

// watch lets contexts end the waits of a call: that of the call, and Config.Stop,
// which every call heeds.
type watch struct {
	mu        sync.Mutex
	call      uint64 // number of the call under way, or of the next one
	busy      bool   // a call is under way
	cancelled bool   // a context of it has ended: no new deadline may be set
	// release ends the watch on the call's context, unwatch that on Config.Stop;
	// nil if there is none.
	release, unwatch func() bool
}

// begin ties the waits up to end to ctx. A context that cannot end, or is
// Config.Stop, needs no watch of its own.
func (c *Conn) begin(ctx context.Context) {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.call++
	w.busy, w.cancelled = true, false
	c.ctx = ctx
	if c.stopped() != nil {
		c.interrupt()
		return
	}
	if ctx.Done() == nil || ctx == c.cfg.Stop {
		return
	}
	call := w.call
	w.release = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.busy && w.call == call {
			c.interrupt()
		}
	})
}

// end takes back what begin did. Afterwards the connection has no deadline,
// whatever happens to the context.
func (c *Conn) end() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.release != nil {
		w.release()
		w.release = nil
	}
	w.busy = false
	c.ctx = context.Background()
	c.raw.SetDeadline(time.Time{})
}

// watchStop lets Config.Stop end the waits of all calls, for as long as the
// session lives.
func (c *Conn) watchStop() {
	if c.cfg.Stop == nil || c.cfg.Stop.Done() == nil {
		return
	}
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unwatch = context.AfterFunc(c.cfg.Stop, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.busy {
			c.interrupt()
		}
	})
}

// unwatchStop is for a session that is over: Config.Stop outlives it.
func (c *Conn) unwatchStop() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unwatch != nil {
		w.unwatch()
		w.unwatch = nil
	}
}

// interrupt ends the waits of the call under way; the caller holds the lock.
func (c *Conn) interrupt() {
	c.watch.cancelled = true
	c.raw.SetDeadline(past)
}

// stopped is why no call may wait any more.
func (c *Conn) stopped() error {
	if c.cfg.Stop == nil {
		return nil
	}
	return c.cfg.Stop.Err()
}

// interrupted is why the call under way may not wait, nil if it may.
func (c *Conn) interrupted() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	return c.stopped()
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

// soon lets the next read take what has begun to arrive, and wait for nothing else.
func (c *Conn) soon() {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	if !c.watch.cancelled {
		c.raw.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
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

// cause replaces the time-out by which a context ended a wait with the context's
// own error.
func (c *Conn) cause(err error) error {
	if err == nil {
		return nil
	}
	if why := c.interrupted(); why != nil {
		return fmt.Errorf("interrupted: %w", why)
	}
	return err
}
