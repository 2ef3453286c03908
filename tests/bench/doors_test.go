package bench

import (
	"fmt"
	"io"
	"time"
)

// doors are the results of BenchmarkAccept.
var doors doorBook

// doorBook prints what can be compared with submission.
type doorBook struct{ resultBook }

func (d *doorBook) print(w io.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.groups) == 0 {
		return
	}
	fmt.Fprintf(w, "\nCPU ms, allocs, KiB: of client and server together, per message.\n\n")
	columns := []string{"door", "msgs/s", "p50 ms", "p99 ms", "CPU ms", "allocs", "KiB", "of submission", "CPU of submission"}
	rows := [][]string{columns, rule(len(columns))}
	for _, g := range d.groups {
		rows = append(rows, []string{"**" + g.title + "**"})
		for _, name := range g.clients {
			m := g.by[name]
			ms := func(d time.Duration) string { return short(d.Seconds() * 1000) }
			rows = append(rows, []string{
				name, short(m.rate()), ms(m.p50), ms(m.p99), short(m.cpuSeconds()), short(m.perMessage(float64(m.allocs))),
				short(m.perMessage(float64(m.allocBytes) / 1024)),
				g.compare(name, overSMTP, measurement.rate, "%.0f%%", 100), g.compare(name, overSMTP, measurement.cpuSeconds, "x%.2f", 1),
			})
		}
	}
	writeTable(w, rows)
}
