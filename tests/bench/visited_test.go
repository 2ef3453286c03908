package bench

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"tlscontrol/tests/bench/sink"
)

var domains = flag.Int("domains", 10_000, "how many domains BenchmarkVisitedOnce visits; a fifth of them where there is a handshake with each")

// What visitedOnce waits for before it looks at what is left: idle connections,
// DNS answers (a few seconds), and the minute at whose end remote_tls drops what
// has expired, and target.remote closes what is idle.
const (
	visitedIdle   = "conn_max_idle_time 2"
	visitedSettle = 3 * time.Second // longer than that
	visitedWait   = time.Minute + 10*time.Second
)

var (
	visitedDomains = work{name: "new domain, one MX", key: "new-domain", domain: sink.Once, spread: 1}
	visitedHosts   = work{name: "new MX", key: "new-MX", domain: sink.OnceApart, spread: 1, apart: true}
	// visitedInVain is the same on a port that is closed at these addresses.
	visitedInVain = work{name: "new MX that refuses", key: "refused", domain: sink.OnceApart, spread: 1, apart: true}
)

// visit is what domains that were visited once cost in memory.
type visit struct {
	client            string
	work              work
	domains           int
	before, peak, end float64 // octets in use, see liveMemory
}

func (v visit) left() float64 { return v.end - v.before }

// BenchmarkVisitedOnce: so many domains get one message each, and then nothing
// more. What stays behind is measured when idle time and TTL are over. In short
// mode there are few domains, and nothing is waited for.
func BenchmarkVisitedOnce(b *testing.B) {
	for _, w := range []work{visitedDomains, visitedHosts, visitedInVain} {
		for _, name := range []string{ours, theirs} {
			b.Run(w.key+"/"+name, func(b *testing.B) {
				v := visit{client: name, work: w, domains: *domains}
				if w.key == visitedHosts.key {
					v.domains /= 5
				}
				if testing.Short() {
					v.domains = min(v.domains, 100)
				}
				for b.Loop() {
					if err := v.run(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(v.peak-v.before, "B-peak")
				b.ReportMetric(v.left(), "B-left")
				visits.add(v)
			})
		}
	}
}

func (v *visit) run() error {
	inVain := v.work.key == visitedInVain.key
	want := sink.Service{Chunking: true}
	if inVain {
		want.HalfDead, want.Delay = true, sink.Delay
	}
	service, err := theWorld.Service(want)
	if err != nil {
		return err
	}
	text, err := newMessage(small)
	if err != nil {
		return err
	}
	t, err := newTarget(v.client, service, text, visitedIdle)
	if err != nil {
		return err
	}
	defer t.close()
	workers, err := newCrew(t, slots)
	if err != nil {
		return err
	}
	// What the first messages of a process need is no domain's.
	if _, err := workers.deliver(oneDomain.destinations(slots)); err != nil {
		return err
	}
	if !testing.Short() {
		time.Sleep(visitedSettle)
	}
	v.before = liveMemory()
	to := v.work.destinations(v.domains)
	if inVain {
		learn(workers, to)
	} else if _, err := workers.deliver(to); err != nil {
		return err
	}
	v.peak = liveMemory()
	if !testing.Short() {
		time.Sleep(visitedWait)
	}
	v.end = liveMemory()
	return nil
}

// liveMemory is what is in use on the heap and for stacks: each connection that
// is kept may have a goroutine.
func liveMemory() float64 {
	heap := liveHeap()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return heap + float64(m.StackInuse)
}

// visits are printed when all is done.
var visits visitBook

type visitBook struct {
	mu  sync.Mutex
	all []visit
}

func (b *visitBook) add(v visit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, v)
}

// mostLeft is the goal for ten thousand domains.
const mostLeft = 10e6

func (b *visitBook) print(w io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return
	}
	mb := func(octets float64) string { return fmt.Sprintf("%.2f", octets/1e6) }
	rows := [][]string{{"each visited once", "domains", "client", "peak MB", "left MB", "wanted", "reached"}, rule(7)}
	for _, v := range b.all {
		row := []string{v.work.name, fmt.Sprint(v.domains), v.client, mb(v.peak - v.before), mb(v.left()), "", ""}
		if v.client == ours {
			row[5], row[6] = "at most "+mb(mostLeft), "yes"
			if v.left() > mostLeft {
				row[6] = "no"
			}
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	writeTable(w, rows)
}
