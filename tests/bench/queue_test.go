package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/tests/bench/sink"
)

// slots is how many deliveries a queue makes at a time, unless it is told
// otherwise.
const slots = 16

// drainTitle is the title of BenchmarkQueueDrain's results.
const drainTitle = "maddy's queue drains, one domain, 16 slots, 4KiB, 20ms"

// instances makes the names of blocks differ.
var instances atomic.Int64

// gate stands between a queue and a target: it lets nothing through until it is
// opened, so that the queue can be filled first, and notes how long each
// delivery took.
type gate struct {
	name   string
	target module.DeliveryTarget
	opened chan struct{}
	once   sync.Once
	ended  chan delivered
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

// delivered is what became of a delivery.
type delivered struct {
	to   string
	took time.Duration
	ok   bool
}

// Init, Name and InstanceName implement module.Module.
func (g *gate) Init(*config.Map) error { return nil }
func (g *gate) Name() string           { return "target.gate" }
func (g *gate) InstanceName() string   { return g.name }

// Start implements module.DeliveryTarget.
func (g *gate) Start(ctx context.Context, meta *module.MsgMetadata, from string) (module.Delivery, error) {
	<-g.opened
	started := time.Now()
	d, err := g.target.Start(ctx, meta, from)
	if err != nil {
		return nil, err
	}
	return &passing{Delivery: d, gate: g, started: started}, nil
}

// passing is one delivery.
type passing struct {
	module.Delivery
	gate    *gate
	started time.Time
	to      string
}

// AddRcpt implements module.Delivery.
func (p *passing) AddRcpt(ctx context.Context, to string, o smtp.RcptOptions) error {
	p.to = to
	return p.Delivery.AddRcpt(ctx, to, o)
}

// BodyNonAtomic implements module.PartialDelivery.
func (p *passing) BodyNonAtomic(ctx context.Context, c module.StatusCollector, h textproto.Header, b buffer.Buffer) {
	p.Delivery.(module.PartialDelivery).BodyNonAtomic(ctx, c, h, b)
}

// Abort implements module.Delivery.
func (p *passing) Abort(ctx context.Context) error {
	return p.end(p.Delivery.Abort(ctx), false)
}

// Commit implements module.Delivery.
func (p *passing) Commit(ctx context.Context) error {
	return p.end(p.Delivery.Commit(ctx), true)
}

func (p *passing) end(err error, ok bool) error {
	p.gate.ended <- delivered{to: p.to, took: time.Since(p.started), ok: ok && err == nil}
	return err
}

// queue is maddy's queue before a target.
type queue struct {
	module.DeliveryTarget
	gate    *gate
	message *message
	dir     string
	closer  io.Closer
}

// newQueue makes a queue that will hold up to n messages.
func newQueue(t *target, n int) (*queue, error) {
	number := strconv.FormatInt(instances.Add(1), 10)
	g := &gate{name: "gate" + number, target: t, opened: make(chan struct{}), ended: make(chan delivered, n)}
	adopt(g)
	dir, err := os.MkdirTemp(theWorld.dir, "queue-")
	if err != nil {
		return nil, err
	}
	mod, err := load("target.queue", "queue"+number, []string{
		"target &" + g.name, "hostname relay.example.com", "location " + dir, "max_parallelism " + strconv.Itoa(slots),
	})
	if err != nil {
		return nil, err
	}
	return &queue{DeliveryTarget: mod.(module.DeliveryTarget), gate: g, message: t.message, dir: dir, closer: mod.(io.Closer)}, nil
}

// deliver implements worker: it puts a message into the queue.
func (q *queue) deliver(to destination) error {
	ctx := context.Background()
	d, err := q.Start(ctx, newMeta(), sender)
	if err != nil {
		return err
	}
	if err := errors.Join(d.AddRcpt(ctx, to.address, smtp.RcptOptions{}), d.Body(ctx, q.message.header, q.message.body)); err != nil {
		return errors.Join(err, d.Abort(ctx))
	}
	return d.Commit(ctx)
}

// hangUp implements worker.
func (q *queue) hangUp() {}

// fill puts all messages into the queue.
func (q *queue) fill(to []destination) error {
	workers := make(crew, 8)
	for i := range workers {
		workers[i] = q
	}
	_, err := workers.deliver(to)
	return err
}

// close waits until the queue has ended, and removes it.
func (q *queue) close() error {
	q.gate.open()
	return errors.Join(q.closer.Close(), os.RemoveAll(q.dir))
}

// BenchmarkQueueDrain: a queue full of mail for one domain.
func BenchmarkQueueDrain(b *testing.B) {
	for _, client := range []string{ours, theirs} {
		b.Run(client, func(b *testing.B) {
			m, err := measureDrain(b, client)
			if err != nil {
				b.Fatal(err)
			}
			m.report(b)
			results.note(drainTitle, client, m)
		})
	}
}

func measureDrain(b *testing.B, client string) (m measurement, err error) {
	s := scenario{work: oneDomain, at: slots, size: small, delay: sink.Delay, chunking: true}
	c, err := s.newClient(client)
	if err != nil {
		return m, err
	}
	defer c.close()
	workers, err := newCrew(c, slots)
	if err != nil {
		return m, err
	}
	if err := s.warmUp(c, workers, client); err != nil {
		return m, err
	}
	return throughQueue(b, c.(*target), s.work.destinations(b.N), nil, nil)
}

// throughQueue fills a queue before t with mail for all destinations and drains
// it. What is measured is the mail to the destinations live: how long until all
// of it was delivered, with the mail to those dead in its way. ready, unless it is
// nil, is called when the queue is full, before the clock starts.
func throughQueue(b *testing.B, t *target, live, dead []destination, ready func() error) (m measurement, err error) {
	q, err := newQueue(t, len(live)+len(dead))
	if err != nil {
		return m, err
	}
	defer q.close()
	var all []destination
	for i := range live {
		all = append(append(all, live[i:i+1]...), dead[min(i, len(dead)):min(i+1, len(dead))]...)
	}
	if err := q.fill(all); err != nil {
		return m, err
	}
	if ready != nil {
		if err := ready(); err != nil {
			return m, err
		}
	}
	alive := make(map[string]bool)
	for _, to := range live {
		alive[to.address] = true
	}
	watch, err := startWatch(b)
	if err != nil {
		return m, err
	}
	q.gate.open()
	var failed int
	took := make([]time.Duration, 0, len(live))
	for range all {
		d := <-q.gate.ended
		switch {
		case !alive[d.to]:
			failed++
			m.failing += d.took
		case !d.ok:
			return m, fmt.Errorf("the message to %s was not delivered", d.to)
		default:
			if took = append(took, d.took); len(took) == len(live) {
				failing := m.failing
				m, err = watch.stop(took)
				m.failing = failing
			}
		}
	}
	m.failing /= time.Duration(max(failed, 1))
	return m, err
}
