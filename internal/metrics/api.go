package metrics

import "github.com/prometheus/client_golang/prometheus"

// statusClasses are the values of the label status.
var statusClasses = [...]string{"2xx", "3xx", "4xx", "5xx"}

// API returns what counts requests of the HTTP API, by the route that was asked
// for and the status of the answer. Routes other than those named count as
// "other".
func (m *Metrics) API(routes []string) func(route string, status int) {
	known := make(map[string][len(statusClasses)]prometheus.Counter)
	for _, route := range append([]string{"other"}, routes...) {
		var counters [len(statusClasses)]prometheus.Counter
		for i, class := range statusClasses {
			counters[i] = m.apiRequests.WithLabelValues(route, class)
		}
		known[route] = counters
	}
	return func(route string, status int) {
		counters, ok := known[route]
		if !ok {
			counters = known["other"]
		}
		class := min(max(status/100, 2), 5) // nothing else is answered
		counters[class-2].Inc()
	}
}
