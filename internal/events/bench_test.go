package events

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/pgtest"
	"tlscontrol/internal/status"
)

var amount = flag.Int("documents", 20_000, "ask among so many documents; the goal speaks of a million")

// Goals: documents stored in a second, and the time of a question among a
// million.
const (
	goalStored   = 20_000
	goalQuestion = 50 * time.Millisecond
)

func benchmarkOn(b *testing.B, run func(b *testing.B, cfg Config)) {
	b.Run(SQLite, func(b *testing.B) {
		run(b, Config{Driver: SQLite, DSN: filepath.Join(b.TempDir(), "events.db")})
	})
	b.Run(Postgres, func(b *testing.B) {
		run(b, Config{Driver: Postgres, DSN: pgtest.Shared(b).Database(b)})
	})
}

// traffic makes attempts as a busy relay has them: many recipients, some large
// domains, and a million messages within a month.
type traffic struct{ *rand.Rand }

func (r traffic) attempt(n int) *delivery.Attempt {
	a := attempt(0)
	for i := range a.ID {
		a.ID[i] = byte(r.Uint32())
	}
	a.QueueID = fmt.Sprintf("%08x", r.Uint32())
	a.Sender = fmt.Sprintf("bounce+%d@customer%d.example", r.IntN(1e6), r.IntN(50))
	a.Domain = r.domain()
	a.Recipient = fmt.Sprintf("user%d@%s", r.IntN(2000), a.Domain)
	a.Header.Set("Message-ID", fmt.Sprintf("<%x@customer.example>", r.Uint64()))
	a.Concluded = epoch.Add(time.Duration(n) * 2500 * time.Millisecond)
	a.Connection.Host = "mx." + a.Domain
	if r.IntN(10) == 0 {
		a.Result, a.Reason, a.Code, a.Message = delivery.Temporary, "rcpt-rejected", 450, "4.2.0 Greylisted, please come back later"
	}
	a.Connection.Outcome.TLS = r.IntN(20) > 0
	return a
}

func (r traffic) domain() string {
	if r.IntN(2) == 0 {
		return fmt.Sprintf("large%d.example", r.IntN(5))
	}
	return fmt.Sprintf("small%d.example", r.IntN(20_000))
}

// BenchmarkStore tells how many documents a second go the whole way, through the
// journal into the database.
func BenchmarkStore(b *testing.B) {
	benchmarkOn(b, func(b *testing.B, cfg Config) {
		w := start(b, cfg)
		r := traffic{rand.New(rand.NewPCG(1, 2))}
		const each = 20_000
		attempts := make([]*delivery.Attempt, each)
		n := 0
		for b.Loop() {
			b.StopTimer()
			for i := range attempts {
				attempts[i] = r.attempt(n)
				n++
			}
			b.StartTimer()
			w.putAll(b, attempts)
		}
		report(b, float64(n)/b.Elapsed().Seconds(), "documents/s", fmt.Sprintf("goal %d", goalStored))
		if _, lost := w.count.numbers(); lost > 0 {
			b.Errorf("%d lost", lost)
		}
	})
}

// putAll hands attempts in as fast as the queue takes them, and waits until they
// are stored.
func (w *world) putAll(b *testing.B, attempts []*delivery.Attempt) {
	before, _ := w.count.numbers()
	for _, a := range attempts {
		for w.queue.size() > maxQueue/2 {
			time.Sleep(time.Millisecond)
		}
		w.Concluded(a, 0)
	}
	w.count.awaitStored(b, before+int64(len(attempts)))
}

// BenchmarkConcluded tells what a delivery pays.
func BenchmarkConcluded(b *testing.B) {
	w := start(b, Config{Driver: SQLite, DSN: filepath.Join(b.TempDir(), "events.db")})
	a := attempt(1)
	b.ReportAllocs()
	for b.Loop() {
		w.Concluded(a, 0)
	}
}

// BenchmarkQuestions asks among 20,000 documents, or as many as -documents says.
func BenchmarkQuestions(b *testing.B) {
	benchmarkOn(b, func(b *testing.B, cfg Config) {
		n := *amount
		w, known := filled(b, cfg, n)
		r := traffic{rand.New(rand.NewPCG(3, 4))}
		month := time.Duration(n) * 2500 * time.Millisecond
		moment := func() time.Time { return epoch.Add(time.Duration(r.Int64N(int64(month)))) }
		some := func() *delivery.Attempt { return known[r.IntN(len(known))] }
		is := func(f Field, v string) Query { return Query{Filter: Is{f, []string{v}}} }
		for _, q := range []struct {
			name string
			ask  func() Query
		}{
			{"recipient", func() Query { return is(FieldRecipient, some().Recipient) }},
			{"recipient-domain", func() Query { return is(FieldRecipientDomain, some().Domain) }},
			{"sending-domain", func() Query {
				return Query{Domains: []string{fmt.Sprintf("customer%d.example", r.IntN(50))}, End: moment()}
			}},
			{"message-id", func() Query { return is(FieldQueueID, some().QueueID) }},
			{"time", func() Query { return Query{Begin: moment(), Ascending: r.IntN(2) == 0} }},
			{"time-and-failed", func() Query {
				return Query{Begin: moment(), Ascending: true, Filter: Is{FieldEvent, []string{"failed"}}}
			}},
			{"sending-domains", func() Query {
				return Query{Domains: []string{"customer1.example", "customer2.example", "none.example"}, Begin: moment(), Ascending: true}
			}},
			{"domains-of-a-key-and-recipient", func() Query {
				q := is(FieldRecipient, some().Recipient)
				q.Domains = []string{"customer1.example", "customer2.example"}
				return q
			}},
		} {
			b.Run(q.name, func(b *testing.B) {
				w.benchmark(b, func() error { _, err := w.Query(context.Background(), q.ask()); return err })
			})
		}
		b.Run("message", func(b *testing.B) {
			w.benchmark(b, func() error { _, err := w.Message(context.Background(), some().QueueID, nil); return err })
		})
		b.Run("stats-of-a-day", func(b *testing.B) {
			w.benchmark(b, func() error {
				at := moment()
				_, err := w.Stats(context.Background(), at, at.Add(24*time.Hour), time.Hour, nil)
				return err
			})
		})
		b.Run("stats-of-everything", func(b *testing.B) {
			w.benchmark(b, func() error {
				_, err := w.Stats(context.Background(), epoch, epoch.Add(month), 24*time.Hour, nil)
				return err
			})
		})
	})
}

// filled gives a store with n documents, and some of what they are about.
func filled(b *testing.B, cfg Config, n int) (w *world, known []*delivery.Attempt) {
	w = start(b, cfg)
	r := traffic{rand.New(rand.NewPCG(1, 2))}
	began := time.Now()
	const step = 20_000
	for at := 0; at < n; at += step {
		var some []*delivery.Attempt
		for i := range min(step, n-at) {
			some = append(some, r.attempt(at+i))
		}
		known = append(known, some[:min(100, len(some))]...)
		w.putAll(b, some)
	}
	took := time.Since(began)
	w.keepOnce()
	line := status.Append(nil, known[0], w.options)
	b.Logf("%d documents of some %d octets in %v, %.0f/s", n, len(line), took.Round(time.Second), float64(n)/took.Seconds())
	return w, known
}

// benchmark reports the median and the slowest of the answers.
func (w *world) benchmark(b *testing.B, ask func() error) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := ask(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	report(b, float64(took[len(took)-1].Microseconds())/1000, "ms-slowest", fmt.Sprint("goal ", goalQuestion))
}

func report(b *testing.B, value float64, unit, goal string) {
	b.ReportMetric(value, unit)
	if b.N > 1 {
		b.Logf("%.1f %s, %s", value, unit, goal)
	}
}
