package health

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// BreakersConfig says when an address is left alone, and for how long. A field
// that is zero has its default.
type BreakersConfig struct {
	Failures int           // consecutive failures that open the breaker; 3
	First    time.Duration // how long it stays open the first time; 30 s
	Max      time.Duration // where the doubling of First ends; 10 min

	Clock func() time.Time // time.Now
	Rand  func() float64   // in [0, 1), never called twice at a time; math/rand/v2

	// Changed is told what happens. It is called under the lock of Breakers and
	// must not call back. Optional.
	Changed func(BreakerChange)
}

// jitter is the part by which a period is made shorter or longer at random, so
// that hosts that died together are not all dialled again together.
const jitter = 0.2

// maxFailing bounds for how many failing addresses failures are counted; the
// one not asked for longest is forgotten first. An entry is about 300 octets.
const maxFailing = 50_000

// forgetAfter is how long an address is remembered that nobody asks for any
// more. It is longer than a queue waits between two attempts.
const forgetAfter = 24 * time.Hour

// Breakers is a circuit breaker for each address that fails to answer.
//
// After Failures consecutive failures the breaker of an address opens: Allow
// refuses at once until a period is over, First plus or minus 20%. Then one
// dial is allowed, and the others are still refused while it is under way. If
// it fails as well, the breaker stays open for twice the period before, up to
// Max plus or minus 20%. The first success, whichever dial it is of, closes the
// breaker and forgets all failures.
//
// Refusals count only one after the other: that of a dial which was allowed
// before the last counted failure of its address is not counted. So sixty-four
// deliveries that meet one restart of a server are one failure. Time-outs count
// each: every one of them has knocked for its whole time, and while they are
// waited for one after the other, each round may cost all that a queue can do at
// once. What was allowed before a breaker opened never makes it longer.
type Breakers struct {
	cfg BreakersConfig

	mu      sync.Mutex
	failing *simplelru.LRU[netip.AddrPort, *failing]
	// events numbers what happens, dials allowed and failures counted, to tell
	// what came first where a clock may not.
	events uint64
}

// failing is what is known of an address since it last answered.
type failing struct {
	failures int       // counted ones
	counted  uint64    // event number of the last of them
	since    time.Time // when the first of them was dialled
	cause    string    // of the last of them
	used     time.Time // when it was last asked for

	period time.Duration // how long the breaker is open, before jitter; 0: closed
	until  time.Time     // when that is over
	probe  uint64        // event number of the one dial allowed then; 0: none
}

// NewBreakers makes Breakers that are all closed.
func NewBreakers(cfg BreakersConfig) *Breakers {
	cfg.Failures = orDefault(cfg.Failures, 3)
	cfg.First = orDefault(cfg.First, 30*time.Second)
	cfg.Max = orDefault(cfg.Max, 10*time.Minute)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	b := &Breakers{cfg: cfg}
	// NewLRU fails only for a size that is not positive.
	b.failing, _ = simplelru.NewLRU(maxFailing, func(_ netip.AddrPort, f *failing) {
		if f.period > 0 {
			b.changed(BreakerChange{Open: -1})
		}
	})
	return b
}

func (b *Breakers) changed(c BreakerChange) {
	if b.cfg.Changed != nil {
		b.cfg.Changed(c)
	}
}

// Allow gives leave to dial addr once, or says in an *OpenError why it must not
// be dialled now. The caller defers End on the Dial, so that its place as a
// probe is free again whatever happens, and says how the dial ended:
//
//	dial, err := breakers.Allow(addr)
//	if err != nil {
//		return err
//	}
//	defer dial.End()
//	conn, err := connect(ctx, addr)
//	switch {
//	case err == nil:
//		dial.Succeeded()
//	case ctx.Err() == nil:
//		dial.Failed(err)
//	}
//
// where ctx is the delivery's: that the time allowed for connecting is over is
// a failure of the address, that the delivery was cancelled is not.
//
// An IPv4 address is the same one when it is written as IPv6 (::ffff:192.0.2.1).
func (b *Breakers) Allow(addr netip.AddrPort) (*Dial, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Clock()
	f, known := b.failing.Get(addr)
	if known {
		f.used = now
	}
	b.forget(now)
	open := known && f.period > 0
	switch {
	case open && now.Before(f.until):
		b.changed(BreakerChange{Event: BreakerRefused})
		return nil, &OpenError{Since: f.since, Until: f.until, Cause: f.cause}
	case open && f.probe != 0:
		b.changed(BreakerChange{Event: BreakerRefused})
		return nil, &OpenError{Since: f.since, Cause: f.cause}
	}
	b.events++
	d := &Dial{b: b, addr: addr, number: b.events, began: now}
	if open {
		f.probe = b.events
		d.probe = &OpenError{Since: f.since, Cause: f.cause}
		b.changed(BreakerChange{Event: BreakerProbed})
	}
	return d, nil
}

// forget drops addresses that nobody asks for any more; the caller holds the
// lock.
func (b *Breakers) forget(now time.Time) {
	for {
		addr, f, found := b.failing.GetOldest()
		if !found || f.probe != 0 || now.Sub(f.used) < forgetAfter {
			return
		}
		b.failing.Remove(addr)
	}
}

// Dial is leave to dial an address once. Of Succeeded, Failed and End the first
// call counts; later ones do nothing. They may come from any goroutine.
type Dial struct {
	b      *Breakers
	addr   netip.AddrPort
	number uint64 // event number
	began  time.Time
	probe  *OpenError // nil if the breaker was closed
	over   bool       // guarded by b.mu
}

// Probe is nil unless this dial is to find out whether an address that was left
// alone is back. Then it is the error that others get meanwhile, for a caller who
// does not want to wait for the end of it.
func (d *Dial) Probe() *OpenError { return d.probe }

// Succeeded says that the address answered.
func (d *Dial) Succeeded() {
	d.finish(func() {
		if f, known := d.b.failing.Peek(d.addr); known && f.period > 0 {
			d.b.changed(BreakerChange{Event: BreakerClosed})
		}
		d.b.failing.Remove(d.addr)
	})
}

// Failed says that the address refused the connection or did not answer in
// time. What a host that answered said or lacked (policy, TLS, a reply), and
// what became of a lookup before the dial, is no failure of the address.
func (d *Dial) Failed(err error) {
	cause, late := causeOf(err), timedOut(err)
	d.finish(func() { d.b.failed(d, cause, late) })
}

// End gives the dial back. If nothing was said about the address by then, as
// when the delivery was cancelled or another address was faster, nothing is
// learned, and the next one may dial it.
func (d *Dial) End() {
	d.finish(func() { d.b.yield(d) })
}

// finish runs f under the lock, once.
func (d *Dial) finish(f func()) {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	if !d.over {
		d.over = true
		f()
	}
}

// yield frees the place as a probe if d has it; the caller holds the lock.
func (b *Breakers) yield(d *Dial) {
	if f, known := b.failing.Peek(d.addr); known && f.probe == d.number {
		f.probe = 0
	}
}

// failed counts a failure; the caller holds the lock.
func (b *Breakers) failed(d *Dial, cause string, timedOut bool) {
	b.yield(d)
	now := b.cfg.Clock()
	f, known := b.failing.Get(d.addr)
	if !known {
		f = &failing{since: d.began}
		b.failing.Add(d.addr, f)
	}
	f.used = now
	open := f.period > 0
	if d.number < f.counted && (open || !timedOut) {
		return
	}
	if d.began.Before(f.since) {
		f.since = d.began
	}
	b.events++
	f.failures++
	f.counted = b.events
	f.cause = cause
	if f.failures < b.cfg.Failures {
		return
	}
	if open {
		f.period *= 2
	} else {
		f.period = b.cfg.First
		b.changed(BreakerChange{Event: BreakerOpened, Open: 1})
	}
	f.period = min(f.period, b.cfg.Max)
	factor := 1 - jitter + 2*jitter*b.cfg.Rand()
	f.until = now.Add(time.Duration(float64(f.period) * factor))
}

// orDefault is v, or its default if it is not positive.
func orDefault[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}
