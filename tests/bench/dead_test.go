package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/tests/bench/sink"
)

// Titles of BenchmarkQueueDeadHosts' results.
const (
	allLiveTitle  = "maddy's queue, 8 hosts, 16 slots, 4KiB, 20ms, all hosts answer"
	halfDeadTitle = "maddy's queue, 8 hosts, 16 slots, 4KiB, 20ms, as much mail for 8 that do not"
)

// deadTimeout is short, so that a target that waits for it each time comes to an
// end.
const deadTimeout = "connect_timeout 500ms"

// ideal is remote_tls, before which a stub fails all mail for hosts that do not
// answer at once, with the error that remote_tls has for it. What it loses is lost
// to the queue, which writes each message that failed to disk.
const ideal = "ideal"

// BenchmarkQueueDeadHosts: mail for hosts that answer, alone and in between as
// much mail for hosts that do not. That they do not was learnt before.
func BenchmarkQueueDeadHosts(b *testing.B) {
	if theWorld.NoDeadHosts != "" {
		b.Skip("a host that does not answer cannot be made here: ", theWorld.NoDeadHosts)
	}
	for _, half := range []bool{false, true} {
		name, title := "all-answer", allLiveTitle
		if half {
			name, title = "half-dead", halfDeadTitle
		}
		clients := []string{ours, theirs}
		if half {
			clients = []string{ideal, ours, theirs}
		}
		for _, client := range clients {
			b.Run(name+"/"+client, func(b *testing.B) {
				m, err := measureDead(b, client, half)
				if err != nil {
					b.Fatal(err)
				}
				m.report(b)
				results.note(title, client, m)
			})
		}
	}
}

func measureDead(b *testing.B, client string, half bool) (m measurement, err error) {
	service, err := theWorld.Service(sink.Service{Delay: sink.Delay, Chunking: true, HalfDead: true})
	if err != nil {
		return m, err
	}
	text, err := newMessage(small)
	if err != nil {
		return m, err
	}
	name := client
	if client == ideal {
		name = ours
	}
	t, err := newTarget(name, service, text, deadTimeout)
	if err != nil {
		return m, err
	}
	defer t.close()
	workers, err := newCrew(t, slots)
	if err != nil {
		return m, err
	}
	live, dead := work{domain: sink.Live}, work{domain: sink.Dead}
	if _, err := workers.deliver(live.destinations(slots)); err != nil {
		return m, err
	}
	if !half {
		return throughQueue(b, t, live.destinations(b.N), nil, nil)
	}
	return throughQueue(b, t, live.destinations(b.N), dead.destinations(b.N), func() error {
		// Filling the queue may take longer than a breaker stays open.
		learn(workers, dead.destinations(2*slots))
		if client == ideal {
			return t.idealise(dead.destinations(1)[0])
		}
		return nil
	})
}

// learn has the workers fail.
func learn(workers crew, to []destination) {
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			for j := i; j < len(to); j += len(workers) {
				_ = w.deliver(to[j])
			}
		})
	}
	all.Wait()
}

// idealise puts a stub before t that fails the mail for hosts that do not answer,
// with the error that t has for one of them.
func (t *target) idealise(dead destination) error {
	d, err := t.Start(context.Background(), newMeta(), sender)
	if err != nil {
		return err
	}
	if err := d.AddRcpt(context.Background(), dead.address, smtp.RcptOptions{}); err != nil {
		return err
	}
	s := oneStatus{rcpt: dead.address}
	d.(module.PartialDelivery).BodyNonAtomic(context.Background(), &s, t.message.header, t.message.body)
	if s.err == nil {
		return fmt.Errorf("the message to %s was delivered", dead.address)
	}
	t.DeliveryTarget = stub{t.DeliveryTarget, s.err}
	return d.Abort(context.Background())
}

// stub is a target that fails some mail at once.
type stub struct {
	module.DeliveryTarget
	err error
}

// Start implements module.DeliveryTarget.
func (s stub) Start(ctx context.Context, meta *module.MsgMetadata, from string) (module.Delivery, error) {
	d, err := s.DeliveryTarget.Start(ctx, meta, from)
	return &stubDelivery{Delivery: d, err: s.err}, err
}

type stubDelivery struct {
	module.Delivery
	err error
	to  string
}

// AddRcpt implements module.Delivery.
func (s *stubDelivery) AddRcpt(ctx context.Context, to string, o smtp.RcptOptions) error {
	s.to = to
	return s.Delivery.AddRcpt(ctx, to, o)
}

// BodyNonAtomic implements module.PartialDelivery.
func (s *stubDelivery) BodyNonAtomic(ctx context.Context, c module.StatusCollector, h textproto.Header, b buffer.Buffer) {
	if sink.IsDead(s.to) {
		c.SetStatus(s.to, s.err)
		return
	}
	s.Delivery.(module.PartialDelivery).BodyNonAtomic(ctx, c, h, b)
}

// deadGoals are about two groups of results.
func deadGoals(r *resultBook) [][]string {
	var alive, half *resultGroup
	for _, g := range r.groups {
		switch g.title {
		case allLiveTitle:
			alive = g
		case halfDeadTitle:
			half = g
		}
	}
	if alive == nil || half == nil {
		return nil
	}
	is, ok := half.by[ours]
	if !ok {
		return nil
	}
	var rows [][]string
	compare := func(m measurement, ok bool, other string) {
		if !ok {
			return
		}
		rows = append(rows,
			goal{title: halfDeadTitle, figure: "throughput of " + other, least: 0.9}.row(is.rate()/m.rate()),
			goal{title: halfDeadTitle, figure: "p99 of " + other, most: 1.2}.row(is.p99.Seconds()/m.p99.Seconds()))
	}
	was, ok := alive.by[ours]
	compare(was, ok, "that when all answer")
	best, ok := half.by[ideal]
	compare(best, ok, "an ideal target's")
	return rows
}
