package metrics

import "github.com/prometheus/client_golang/prometheus"

// Events counts for one event store.
type Events struct {
	stored, lost prometheus.Counter
	backlog      prometheus.Gauge
}

// Events gives what counts under the given instance name.
func (m *Metrics) Events(module string) *Events {
	return &Events{
		stored:  m.events.WithLabelValues(module, "stored"),
		lost:    m.events.WithLabelValues(module, "lost"),
		backlog: m.eventsBacklog.WithLabelValues(module),
	}
}

// Stored counts n events that the database took.
func (e *Events) Stored(n int) { e.stored.Add(float64(n)) }

// Lost counts n events that the database will never get.
func (e *Events) Lost(n int) { e.lost.Add(float64(n)) }

// Backlog tells how many octets wait.
func (e *Events) Backlog(octets int64) { e.backlog.Set(float64(octets)) }
