package events

import (
	"cmp"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/pgtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
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
// domains, a million messages within a month, and in documents all that a delivery
// over TLS says.
type traffic struct{ *rand.Rand }

func (r traffic) attempt(n int) *delivery.Attempt {
	a := attempt(0)
	a.Module, a.Hostname, a.Number, a.Enhanced, a.Message = "outbound", "relay.example.org", 1, [3]int{2, 0, 0}, "OK queued as 4F2A81C0"
	a.Settings = &policy.Settings{
		RequireTLS: true, RequireTLSSource: policy.FromDomain, RequireTLSPlace: "/etc/maddy/maddy.conf:12",
		SkipVerificationSource: policy.FromDefault,
	}
	a.Plan = &tlsplan.Plan{Demand: tlsplan.DemandVerified, Floors: []tlsplan.Floor{tlsplan.FloorMTASTS}}
	for i := range a.ID {
		a.ID[i] = byte(r.Uint32())
	}
	a.QueueID = fmt.Sprintf("%08x", r.Uint32())
	a.Sender = fmt.Sprintf("bounce+%d@customer%d.example", r.IntN(1e6), r.IntN(50))
	a.Domain = r.domain()
	a.Recipient = fmt.Sprintf("user%d@%s", r.IntN(2000), a.Domain)
	a.Header.Set("Message-ID", fmt.Sprintf("<%x@customer.example>", r.Uint64()))
	a.Concluded = epoch.Add(time.Duration(n) * 2500 * time.Millisecond)
	a.Connection = r.connection(a.Domain)
	if r.IntN(10) == 0 {
		a.Result, a.Reason, a.Code, a.Enhanced = delivery.Temporary, "rcpt-rejected", 450, [3]int{4, 2, 0}
		a.Message = "4.2.0 Greylisted, please come back later"
	} else {
		a.ContentSent = a.Connection.Outcome.Protection()
	}
	return a
}

func (r traffic) connection(domain string) *delivery.Connection {
	c := &delivery.Connection{
		Host: "mx." + domain, IP: netip.MustParseAddr("198.51.100.3"), Port: 25, LocalIP: netip.MustParseAddr("192.0.2.7"),
		Seconds: r.Float64(),
	}
	if r.IntN(20) == 0 {
		return c
	}
	c.Outcome = tlsplan.Outcome{
		TLS: true, Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, KeyExchange: tls.X25519MLKEM768,
		HandshakeIn: 20 * time.Millisecond, Verification: tlsplan.VerifiedPKIX,
		Certificate: &tlsplan.Certificate{
			Subject: "CN=mx." + domain, Issuer: "CN=R11,O=Let's Encrypt,C=US", NotAfter: epoch.Add(time.Hour),
		},
	}
	return c
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
		w, known, filling := filled(b, cfg, n)
		b.Run("filling", func(b *testing.B) {
			filling.report(b)
			b.ReportMetric(w.octets(b), "octets/document")
		})
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
			{"left-in-clear", func() Query { return is(FieldSent, "clear") }},
			{"of-a-sending-domain-in-clear", func() Query {
				q := is(FieldSent, "clear")
				q.Domains = []string{fmt.Sprintf("customer%d.example", r.IntN(50))}
				return q
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

// filled gives a store with n documents, some of what they are about, and how
// filling it went.
func filled(b *testing.B, cfg Config, n int) (w *world, known []*delivery.Attempt, f *filling) {
	w = start(b, cfg)
	f = &filling{began: time.Now(), cpu: cpu(b)}
	r := traffic{rand.New(rand.NewPCG(1, 2))}
	for at := range n {
		if at%1000 == 0 {
			w.keepUp()
			f.look(w.count.numbers())
		}
		a := r.attempt(at)
		if at%200 == 0 {
			known = append(known, a)
		}
		w.Concluded(a, 0)
	}
	for stored := int64(0); stored < int64(n); stored, _ = w.count.numbers() {
		w.count.awaitStored(b, stored+1)
		f.look(w.count.numbers())
	}
	f.cpu = cpu(b) - f.cpu
	w.keepOnce()
	return w, known, f
}

// octets is what a document has on average.
func (w *world) octets(b *testing.B) float64 {
	page, err := w.Query(context.Background(), Query{})
	if err != nil {
		b.Fatal(err)
	}
	sum := 0
	for _, d := range page.Items {
		sum += len(d)
	}
	return float64(sum) / float64(len(page.Items))
}

// maxAhead is how many octets a benchmark lets wait for the database. With them
// the store is as far behind as after a burst, and no further.
const maxAhead = 64 << 20

// keepUp waits until little enough waits.
func (w *world) keepUp() {
	for w.queue.size() > maxQueue/2 || w.backlog() > maxAhead {
		time.Sleep(time.Millisecond)
	}
}

// filling is how filling a store went.
type filling struct {
	began time.Time
	cpu   time.Duration // of this process, with SQLite and without PostgreSQL
	marks []mark
}

// mark is how many documents were stored after a time.
type mark struct {
	n     int64
	after time.Duration
}

func (f *filling) look(stored, _ int64) {
	f.marks = append(f.marks, mark{stored, time.Since(f.began)})
}

// at is the first mark with so many documents.
func (f *filling) at(n int64) mark {
	i, _ := slices.BinarySearchFunc(f.marks, n, func(m mark, n int64) int { return cmp.Compare(m.n, n) })
	return f.marks[min(i, len(f.marks)-1)]
}

// report tells the rates of the first 120,000 documents, of all, and of the last
// 100,000.
func (f *filling) report(b *testing.B) {
	last := f.marks[len(f.marks)-1]
	rate := func(from, to mark) float64 { return float64(to.n-from.n) / (to.after - from.after).Seconds() }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate(mark{}, f.at(120_000)), "first-120k/s")
	b.ReportMetric(rate(mark{}, last), "all/s")
	b.ReportMetric(rate(f.at(last.n-100_000), last), "last-100k/s")
	b.ReportMetric(f.cpu.Seconds()*1000/float64(last.n), "cpu-s/1000")
}

// cpu is the processor time that this process had.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
