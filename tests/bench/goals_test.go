package bench

import (
	"fmt"
	"io"
	"strings"
)

// goal is a ratio, or a plain figure, that a run is to reach.
type goal struct {
	title  string // of the result group; all that begin so must reach it
	figure string
	of     func(g *resultGroup) (float64, bool)
	least  float64 // 0: there is no least
	most   float64 // 0: there is no most
}

// ratio divides our figure by another client's.
func ratio(other string, figure func(measurement) float64) func(*resultGroup) (float64, bool) {
	return func(g *resultGroup) (float64, bool) {
		a, ok := g.by[ours]
		b, too := g.by[other]
		if !ok || !too || figure(b) == 0 {
			return 0, false
		}
		return figure(a) / figure(b), true
	}
}

// plain is our figure itself.
func plain(figure func(measurement) float64) func(*resultGroup) (float64, bool) {
	return func(g *resultGroup) (float64, bool) {
		m, ok := g.by[ours]
		return figure(m), ok
	}
}

func p50(m measurement) float64    { return m.p50.Seconds() }
func allocs(m measurement) float64 { return m.perMessage(float64(m.allocs)) }

// goals are what the engine is built for.
func goals() []goal {
	rate, cpu := measurement.rate, measurement.cpuSeconds
	var all []goal
	for _, at := range []string{"1", "16", "64"} {
		group := "one domain, " + at + " at a time, 4KiB, 20ms"
		all = append(all,
			goal{group, "throughput of target.remote's", ratio(theirs, rate), 6, 0},
			goal{group, "throughput of the raw bound's", ratio(bound, rate), 0.9, 0},
			goal{group + ", DATA only", "throughput of target.remote's", ratio(theirs, rate), 3, 0},
			goal{group + ", DATA only", "throughput of the raw bound's", ratio(bound, rate), 0.9, 0},
		)
	}
	return append(all,
		goal{"one domain, 16 at a time, 4KiB, 0s", "throughput of target.remote's", ratio(theirs, rate), 5, 0},
		goal{"one domain, 16 at a time, 4KiB, 0s", "CPU of target.remote's", ratio(theirs, cpu), 0, 0.2},
		goal{"one domain, 16 at a time, 4KiB, 0s", "allocations", plain(allocs), 0, 40},
		goal{"new domain, one MX, 16 at a time, 4KiB, 0s", "throughput of target.remote's", ratio(theirs, rate), 12, 0},
		goal{"new MX, 16 at a time, 4KiB, 20ms", "p50 of the raw bound's", ratio(bound, p50), 0, 1.1},
		goal{"new MX, 16 at a time, 4KiB, 0s", "CPU of the raw bound's", ratio(bound, cpu), 0, 1.15},
		goal{"one domain, 1 at a time, 1MiB, 0s", "throughput of target.remote's", ratio(theirs, rate), 5, 0},
		goal{"one domain, 1 at a time, 1MiB, 0s", "throughput of the raw bound's", ratio(bound, rate), 0.8, 0},
		goal{"one domain, 1 at a time, 1MiB, 0s", "CPU s", plain(cpu), 0, 2},
		goal{drainTitle, "throughput of target.remote's", ratio(theirs, rate), 5, 0},
	)
}

// printGoals says what of the goals that were measured is reached.
func printGoals(w io.Writer, r *resultBook) {
	rows := [][]string{{"goal", "", "wanted", "measured", "reached"}, rule(5)}
	for _, goal := range goals() {
		for _, g := range r.groups {
			if g.title == goal.title {
				rows = goal.append(rows, g)
			}
		}
	}
	rows = append(rows, deadGoals(r)...)
	if len(rows) > 2 {
		fmt.Fprintln(w)
		writeTable(w, rows)
	}
}

func (goal goal) append(rows [][]string, g *resultGroup) [][]string {
	v, ok := goal.of(g)
	if !ok {
		return rows
	}
	return append(rows, goal.row(v))
}

func (goal goal) row(v float64) []string {
	var wanted []string
	reached := "yes"
	if goal.least > 0 {
		wanted = append(wanted, fmt.Sprintf("at least %.3g", goal.least))
	}
	if goal.most > 0 {
		wanted = append(wanted, fmt.Sprintf("at most %.3g", goal.most))
	}
	if v < goal.least || goal.most > 0 && v > goal.most {
		reached = "no"
	}
	return []string{goal.title, goal.figure, strings.Join(wanted, ", "), short(v), reached}
}
