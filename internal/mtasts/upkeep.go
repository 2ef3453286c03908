package mtasts

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// upkeepEvery is how often it is looked whether something is due.
	upkeepEvery = time.Minute
	// usedWithin is how recently mail must have gone to a domain for its policy to
	// be refreshed ahead of its time.
	usedWithin = 30 * 24 * time.Hour
	// maxRefreshes bounds the refreshes at a time. They have places of their own and
	// take none from fetches that mail waits for.
	maxRefreshes = 8
)

// keepUp does the upkeep until the cache is closed.
func (c *Cache) keepUp() {
	ticker := time.NewTicker(upkeepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.upkeep()
		case <-c.ctx.Done():
			return
		}
	}
}

// upkeep drops the policies that have expired, has those written that the disk did
// not take and those read that it did not give, and refreshes those that are due.
// It returns when that is done, or the cache is closed.
func (c *Cache) upkeep() {
	c.upkeeping.Lock()
	defer c.upkeeping.Unlock()
	defer c.recovered("upkeep")
	now := c.now()
	due, expired := c.table.due(now, now.Add(-usedWithin))
	if c.disk != nil {
		c.disk.remove(expired)
		for _, name := range c.disk.unsaved() {
			if known := c.table.look(name); known.policy.freshAt(now) {
				c.disk.save(name, known.policy, known.used)
			}
		}
		c.disk.put(job{run: c.readAgain})
	}
	places := make(chan struct{}, maxRefreshes)
	var round sync.WaitGroup
	defer round.Wait()
	for _, name := range due {
		select {
		case places <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
		round.Go(func() {
			defer func() { <-places }()
			defer c.recovered("refresh of " + name)
			c.refresh(name)
		})
	}
}

// recovered ends a panic in a log line. The next round is another try.
func (c *Cache) recovered(doing string) {
	if broken := recover(); broken != nil {
		c.log.Error("internal error", "doing", "MTA-STS "+doing, "panic", printable(fmt.Sprint(broken)))
	}
}

// refresh fetches the policy of a domain again ahead of its time.
//
// A TXT record that is gone, or no longer one, means that the domain lets its
// policy run out (RFC 8461, 8.3). One that cannot be looked up means nothing: who
// can drop DNS packets shall not keep a policy from being refreshed.
func (c *Cache) refresh(name string) {
	now := c.now()
	known := c.table.look(name)
	if !known.policy.freshAt(now) {
		return
	}
	// Set first, so that whatever goes wrong is not tried again at once.
	c.table.change(name, func(e *entry) { e.refresh = now.Add(known.policy.nextTry(now)) })
	ctx, cancel := context.WithTimeout(c.ctx, fetchTimeout)
	defer cancel()
	id, failed := c.announced(ctx, name, &known)
	switch {
	case failed != nil && failed.Kind != Invalid:
		id = known.policy.ID
	case id == "":
		return
	}
	flight := c.flights.DoChan(name, func() (any, error) {
		return c.fly(name, id, make(chan struct{}, 1)), nil
	})
	<-flight // Ends with the cache.
}

// nextTry is how long to wait after a refresh that failed: a quarter of the time
// that is left, so that tries get denser towards the end.
func (p *Policy) nextTry(now time.Time) time.Duration {
	return jittered(max(min(p.Expires.Sub(now)/4, refreshAfter), minRefresh))
}
