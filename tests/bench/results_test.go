package bench

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// results are printed when all is done.
var results resultBook

// resultBook keeps the last measurement of everything, in order of appearance.
type resultBook struct {
	mu     sync.Mutex
	groups []*resultGroup
}

// resultGroup is what can be compared: one scenario, several clients.
type resultGroup struct {
	title   string
	clients []string
	by      map[string]measurement
}

// add notes a measurement of a scenario.
func (r *resultBook) add(s scenario, client string, m measurement) {
	title := fmt.Sprintf("%s, %d at a time, %s, %s", s.work.name, s.at, sizeName(s.size), s.delay)
	if !s.chunking {
		title += ", DATA only"
	}
	r.note(title, client, m)
}

func (r *resultBook) note(title, client string, m measurement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.group(title)
	if _, again := g.by[client]; !again {
		g.clients = append(g.clients, client)
	}
	g.by[client] = m
}

func (r *resultBook) group(title string) *resultGroup {
	for _, g := range r.groups {
		if g.title == title {
			return g
		}
	}
	g := &resultGroup{title: title, by: make(map[string]measurement)}
	r.groups = append(r.groups, g)
	return g
}

// columns of the table: ratios last, to the raw bound and to target.remote.
var columns = []string{"client", "msgs/s", "p50 ms", "p99 ms", "CPU s", "allocs", "conns", "handshakes", "resumed",
	"of raw", "CPU of raw", "vs remote", "CPU vs remote"}

// print writes a table, in Markdown, that is readable as it is.
func (r *resultBook) print(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.groups) == 0 {
		return
	}
	fmt.Fprintf(w, "\nCPU s: of the client alone, per 1000 messages. allocs, conns, handshakes, resumed: per message.\n\n")
	rows := [][]string{columns, rule(len(columns))}
	for _, g := range r.groups {
		rows = append(rows, []string{"**" + g.title + "**"})
		for _, client := range g.clients {
			rows = append(rows, g.row(client))
		}
	}
	writeTable(w, rows)
	printGoals(w, r)
}

func rule(n int) []string {
	cells := make([]string, n)
	for i := range cells {
		cells[i] = "---"
	}
	return cells
}

// row is one client's line.
func (g *resultGroup) row(client string) []string {
	m := g.by[client]
	ms := func(d time.Duration) string { return short(d.Seconds() * 1000) }
	return []string{
		client, short(m.rate()), ms(m.p50), ms(m.p99), short(m.cpuSeconds()), short(m.perMessage(float64(m.allocs))),
		short(m.perMessage(float64(m.sink.Connections))), short(m.perMessage(float64(m.sink.Handshakes))),
		short(m.perMessage(float64(m.sink.Resumed))),
		g.compare(client, bound, measurement.rate, "%.0f%%", 100), g.compare(client, bound, measurement.cpuSeconds, "x%.2f", 1),
		g.compare(client, theirs, measurement.rate, "x%.2f", 1), g.compare(client, theirs, measurement.cpuSeconds, "x%.2f", 1),
	}
}

// compare divides a client's figure by another's.
func (g *resultGroup) compare(client, other string, figure func(measurement) float64, format string, scale float64) string {
	o, ok := g.by[other]
	if !ok || client == other || figure(o) == 0 {
		return ""
	}
	return fmt.Sprintf(format, scale*figure(g.by[client])/figure(o))
}

// short prints three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// writeTable lines the columns up. Rows of one cell do not count for the widths.
func writeTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			if len(row) > 1 {
				widths[i] = max(widths[i], len(cell))
			}
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "| %-*s ", widths[i], cell)
		}
		fmt.Fprintln(w, line.String()+"|")
	}
}
