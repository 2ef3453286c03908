package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"tlscontrol/internal/tlsrpt"
)

// reports counts for the TLS reports of one target.
type reports struct {
	results map[tlsrpt.Result]prometheus.Counter
	lost    prometheus.Counter
}

// Reports gives what counts TLS reports under the given instance name.
func (m *Metrics) Reports(module string) tlsrpt.Counter {
	r := &reports{results: make(map[tlsrpt.Result]prometheus.Counter), lost: m.reportsLost.WithLabelValues(module)}
	for _, result := range tlsrpt.Results() {
		r.results[result] = m.reports.WithLabelValues(module, string(result))
	}
	return r
}

// Reported implements tlsrpt.Counter.
func (r *reports) Reported(result tlsrpt.Result) {
	if c, ok := r.results[result]; ok {
		c.Inc()
	}
}

// Lost implements tlsrpt.Counter.
func (r *reports) Lost(sessions int64) {
	if sessions > 0 { // a counter panics at less
		r.lost.Add(float64(sessions))
	}
}
