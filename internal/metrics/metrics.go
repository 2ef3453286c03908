// Package metrics counts deliveries for Prometheus. Every name the project
// exports is in this file, and in docs/metrics.md.
//
// New registers the metrics in a registry, Metrics.Observer gives a
// delivery.Observer that counts for one target. Labels are bounded: they hold
// words of closed vocabularies and the instance name of the target, never
// anything that a message, a server or DNS can choose.
//
// The series of an observer are made when it is made. Counting then neither
// allocates nor locks, and every reason is exported as 0 from the start:
// increase() in PromQL does not see the first increment of a series that did
// not exist before.
package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"tlscontrol/internal/delivery"
)

const (
	namespace = "maddy"
	subsystem = "remote_tls"
)

// deliveryBuckets, in seconds: a good delivery takes some tenths, greylisting
// and tarpits some ten; the last ones are the time-outs of RFC 5321, section
// 4.5.3.2, which go up to ten minutes.
var deliveryBuckets = []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// handshakeBuckets, in seconds: one or two round trips, from the same data
// centre to another continent, and then hosts that are in trouble.
var handshakeBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Metrics is all that is counted.
type Metrics struct {
	deliveries       *prometheus.CounterVec
	connections      *prometheus.CounterVec
	failures         *prometheus.CounterVec
	fallbacks        *prometheus.CounterVec
	contentSent      *prometheus.CounterVec
	overrides        *prometheus.CounterVec
	downgrades       *prometheus.CounterVec
	deliverySeconds  *prometheus.HistogramVec
	handshakeSeconds *prometheus.HistogramVec
	poolConnections  *prometheus.GaugeVec
	breakersOpen     *prometheus.GaugeVec
	breakerEvents    *prometheus.CounterVec
	placesWaiting    *prometheus.GaugeVec
	placeEvents      *prometheus.CounterVec
	hostsReduced     *prometheus.GaugeVec
	logErrors        prometheus.Counter
	events           *prometheus.CounterVec
	eventsBacklog    *prometheus.GaugeVec
	apiRequests      *prometheus.CounterVec
	reports          *prometheus.CounterVec
	reportsLost      *prometheus.CounterVec
}

// New makes the metrics and registers them. On an error, which means that a
// name is taken, nothing stays registered.
func New(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		deliveries: counter("deliveries_total",
			"Delivery attempts that were concluded, one for each recipient.",
			"module", "result", "tls", "verification"),
		connections: counter("connections_total",
			"Connections that were ready to carry a message, fresh or reused.",
			"module", "tls", "version", "reused"),
		failures: counter("failures_total",
			"Things that went wrong with a host, a domain or a recipient; enforced if that kept a message from going that way.",
			"module", "reason", "enforced"),
		fallbacks: counter("fallbacks_total",
			"Recipients delivered with less protection than the sender wanted, by what was in the way.",
			"module", "reason"),
		contentSent: counter("content_sent_total",
			"Delivery attempts in which the text of the message left, whatever became of it, by the weakest protection it had: clear, unverified, verified.",
			"module", "protection"),
		overrides: counter("overrides_total",
			"Delivery attempts in which the message itself had set its TLS policy.",
			"module", "result"),
		downgrades: counter("downgrades_total",
			"Delivery attempts in which an MX host gave less TLS than it had proved before, by what was expected of it and what the operator wants done about it.",
			"module", "action", "expected"),
		deliverySeconds: histogram("delivery_seconds",
			"Time from a message's being handed in to the result for a recipient.",
			deliveryBuckets, "module", "result"),
		handshakeSeconds: histogram("handshake_seconds",
			"Duration of the TLS handshakes of fresh connections.",
			handshakeBuckets, "module"),
		poolConnections: gauge("pool_connections",
			"Connections that are open, idle or busy.",
			"module", "state"),
		breakersOpen: gauge("breakers_open",
			"Addresses of MX hosts that are left alone because they did not answer, and have not answered since.",
			"module"),
		breakerEvents: counter("breaker_events_total",
			"What happened with addresses that do not answer: opened, refused (a dial), probed, closed.",
			"module", "event"),
		placesWaiting: gauge("places_waiting",
			"Deliveries that wait because an MX host has all the connections it may have.",
			"module"),
		placeEvents: counter("place_events_total",
			"What happened with the connections that an MX host may have: waited, refused (a delivery), reduced (a host).",
			"module", "event"),
		hostsReduced: gauge("hosts_reduced",
			"MX hosts that get fewer connections than they may have, because they complained.",
			"module"),
		logErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "log_errors_total",
			Help: "Delivery-status documents that could not be written to an output.",
		}),
		events: counter("events_total",
			"Events of an event store, by whether its database took them.",
			"module", "result"),
		eventsBacklog: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "events_backlog_bytes",
			Help: "Events that wait for the database, in the journal and in memory.",
		}, []string{"module"}),
		apiRequests: counter("api_requests_total",
			"Requests of the HTTP API, by route and by how they were answered.",
			"route", "status"),
		reports: counter("reports_total",
			"TLS reports that ended, one for each receiver, by how: sent (by mail: taken for delivery), refused, given_up (one for each domain).",
			"module", "result"),
		reportsLost: counter("reports_lost_sessions_total",
			"Connections that TLS reports leave out, because there was no room for them or they could not be written down.",
			"module"),
	}
	for i, c := range m.collectors() {
		if err := reg.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				reg.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

// Default gives the metrics of the process, in the registry that maddy's
// openmetrics endpoint serves.
var Default = sync.OnceValue(func() *Metrics {
	m, err := New(prometheus.DefaultRegisterer)
	if err != nil {
		panic("metrics: " + err.Error()) // two builds of this package in one process
	}
	return m
})

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.deliveries, m.connections, m.failures, m.fallbacks, m.contentSent, m.overrides, m.downgrades,
		m.deliverySeconds, m.handshakeSeconds, m.poolConnections,
		m.breakersOpen, m.breakerEvents, m.placesWaiting, m.placeEvents, m.hostsReduced, m.logErrors,
		m.events, m.eventsBacklog, m.apiRequests, m.reports, m.reportsLost,
	}
}

// LogErrors counts n documents that could not be written.
func (m *Metrics) LogErrors(n int) {
	if n > 0 {
		m.logErrors.Add(float64(n))
	}
}

// Observer gives an observer that counts under the given instance name.
// Observers of one name count into the same series.
func (m *Metrics) Observer(module string) delivery.Observer {
	return newObserver(m, module)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets,
	}, labels)
}
