package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/health"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// Words of the `version` label besides those of documents.
const (
	versionNone  = "none"
	versionOther = "other"
)

// observer holds the series of one module, ready to be counted into.
type observer struct {
	deliveries  map[deliveryLabels]prometheus.Counter
	connections map[connectionLabels]prometheus.Counter
	failures    map[delivery.Trouble]prometheus.Counter
	fallbacks   map[tlsplan.Reason]prometheus.Counter
	contentSent map[tlsplan.Protection]prometheus.Counter
	overrides   map[delivery.Result]prometheus.Counter
	downgrades  map[downgradeLabels]prometheus.Counter
	seconds     map[delivery.Result]prometheus.Observer
	handshake   prometheus.Observer
	idle, busy  prometheus.Gauge

	breakersOpen  prometheus.Gauge
	breakerEvents map[health.BreakerEvent]prometheus.Counter
	placesWaiting prometheus.Gauge
	placeEvents   map[health.PlaceEvent]prometheus.Counter
	hostsReduced  prometheus.Gauge
}

var _ delivery.HealthObserver = (*observer)(nil)

type deliveryLabels struct {
	result       delivery.Result
	tls          bool
	verification tlsplan.Verification
}

type connectionLabels struct {
	version string // versionNone without TLS
	reused  bool
}

type downgradeLabels struct {
	action   downgrade.Action
	expected downgrade.Level
}

func newObserver(m *Metrics, module string) *observer {
	o := &observer{
		deliveries:  make(map[deliveryLabels]prometheus.Counter),
		connections: make(map[connectionLabels]prometheus.Counter),
		failures:    make(map[delivery.Trouble]prometheus.Counter),
		fallbacks:   make(map[tlsplan.Reason]prometheus.Counter),
		contentSent: make(map[tlsplan.Protection]prometheus.Counter),
		overrides:   make(map[delivery.Result]prometheus.Counter),
		downgrades:  make(map[downgradeLabels]prometheus.Counter),
		seconds:     make(map[delivery.Result]prometheus.Observer),
		handshake:   m.handshakeSeconds.WithLabelValues(module),
		idle:        m.poolConnections.WithLabelValues(module, "idle"),
		busy:        m.poolConnections.WithLabelValues(module, "busy"),

		breakersOpen:  m.breakersOpen.WithLabelValues(module),
		breakerEvents: make(map[health.BreakerEvent]prometheus.Counter),
		placesWaiting: m.placesWaiting.WithLabelValues(module),
		placeEvents:   make(map[health.PlaceEvent]prometheus.Counter),
		hostsReduced:  m.hostsReduced.WithLabelValues(module),
	}
	for _, e := range health.BreakerEvents() {
		o.breakerEvents[e] = m.breakerEvents.WithLabelValues(module, string(e))
	}
	for _, e := range health.PlaceEvents() {
		o.placeEvents[e] = m.placeEvents.WithLabelValues(module, string(e))
	}
	for _, r := range []delivery.Result{delivery.Delivered, delivery.Temporary, delivery.Permanent} {
		o.addDeliveries(m, module, r)
		o.overrides[r] = m.overrides.WithLabelValues(module, string(r))
		o.seconds[r] = m.deliverySeconds.WithLabelValues(module, string(r))
	}
	for _, p := range []tlsplan.Protection{tlsplan.ProtectionClear, tlsplan.ProtectionUnverified, tlsplan.ProtectionVerified} {
		o.contentSent[p] = m.contentSent.WithLabelValues(module, string(p))
	}
	for _, action := range []downgrade.Action{downgrade.Log, downgrade.Defer} {
		for _, expected := range []downgrade.Level{downgrade.TLS, downgrade.Verified} {
			o.downgrades[downgradeLabels{action, expected}] =
				m.downgrades.WithLabelValues(module, string(action), string(expected))
		}
	}
	for _, reused := range []bool{false, true} {
		for _, v := range []string{versionNone, "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3", versionOther} {
			o.connections[connectionLabels{v, reused}] =
				m.connections.WithLabelValues(module, word(v != versionNone), v, word(reused))
		}
	}
	for _, r := range tlsplan.Reasons() {
		o.fallbacks[r] = m.fallbacks.WithLabelValues(module, string(r))
		for _, enforced := range []bool{false, true} {
			o.failures[delivery.Trouble{Reason: r, Enforced: enforced}] =
				m.failures.WithLabelValues(module, string(r), word(enforced))
		}
	}
	return o
}

// addDeliveries makes the five series that exist for a result: verified in
// one of three ways, unverified, or in clear.
func (o *observer) addDeliveries(m *Metrics, module string, r delivery.Result) {
	add := func(tls bool, v tlsplan.Verification) {
		o.deliveries[deliveryLabels{r, tls, v}] =
			m.deliveries.WithLabelValues(module, string(r), word(tls), string(v))
	}
	add(false, tlsplan.VerifiedNone)
	for _, v := range []tlsplan.Verification{
		tlsplan.VerifiedNone, tlsplan.VerifiedPKIX, tlsplan.VerifiedDANEEE, tlsplan.VerifiedDANETA,
	} {
		add(true, v)
	}
}

func word(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// Connected counts a connection, and how long its handshake took if it is
// fresh.
func (o *observer) Connected(c delivery.Connected) {
	o.connections[connectionLabels{version(c.Outcome), c.Reused}].Inc()
	if c.Outcome.TLS && !c.Reused {
		o.handshake.Observe(c.Outcome.HandshakeIn.Seconds())
	}
}

func version(out tlsplan.Outcome) string {
	if !out.TLS {
		return versionNone
	}
	if name := out.VersionName(); name != "" {
		return name
	}
	return versionOther
}

// Troubled counts a failure. A reason outside the vocabulary is our mistake.
func (o *observer) Troubled(t delivery.Trouble) {
	c := o.failures[t]
	if c == nil {
		c = o.failures[delivery.Trouble{Reason: tlsplan.Internal, Enforced: t.Enforced}]
	}
	c.Inc()
}

// Secured implements delivery.Observer. Connections and failures count it.
func (o *observer) Secured(*delivery.Secured) {}

// Concluded counts a recipient's attempt.
func (o *observer) Concluded(a *delivery.Attempt, seconds float64) {
	result := a.Result
	if _, ok := o.overrides[result]; !ok {
		result = delivery.Temporary // as documents read a result they do not know
	}
	o.deliveries[connectionOf(a, result)].Inc()
	if seconds >= 0 {
		o.seconds[result].Observe(seconds)
	}
	if result == delivery.Delivered && a.Fallback != "" {
		c := o.fallbacks[a.Fallback]
		if c == nil {
			c = o.fallbacks[tlsplan.Internal]
		}
		c.Inc()
	}
	if p := a.ContentSent; p != "" {
		c := o.contentSent[p]
		if c == nil {
			c = o.contentSent[tlsplan.ProtectionClear] // as documents read a word they do not know
		}
		c.Inc()
	}
	if d := a.Downgrade; d != nil {
		// What is no word of the vocabulary is our mistake, and not counted.
		if c := o.downgrades[downgradeLabels{d.Action, d.Expected.Level}]; c != nil {
			c.Inc()
		}
	}
	if s := a.Settings; s != nil &&
		(s.RequireTLSSource == policy.FromMessage || s.SkipVerificationSource == policy.FromMessage) {
		o.overrides[result].Inc()
	}
}

// connectionOf reads from a what deliveries are counted by. No connection
// counts as no TLS, and a way to verify outside the vocabulary as none.
func connectionOf(a *delivery.Attempt, result delivery.Result) deliveryLabels {
	l := deliveryLabels{result: result, verification: tlsplan.VerifiedNone}
	if a.Connection == nil || !a.Connection.Outcome.TLS {
		return l
	}
	l.tls = true
	switch v := a.Connection.Outcome.Verification; v {
	case tlsplan.VerifiedPKIX, tlsplan.VerifiedDANEEE, tlsplan.VerifiedDANETA:
		l.verification = v
	}
	return l
}

// PoolChanged follows the number of connections.
func (o *observer) PoolChanged(idle, busy int) {
	if idle != 0 {
		o.idle.Add(float64(idle))
	}
	if busy != 0 {
		o.busy.Add(float64(busy))
	}
}

// BreakerChanged follows the addresses that are left alone.
func (o *observer) BreakerChanged(c health.BreakerChange) {
	if c.Open != 0 {
		o.breakersOpen.Add(float64(c.Open))
	}
	if events := o.breakerEvents[c.Event]; events != nil {
		events.Inc()
	}
}

// PlaceChanged follows who waits for hosts, and the hosts that complain.
func (o *observer) PlaceChanged(c health.PlaceChange) {
	if c.Waiting != 0 {
		o.placesWaiting.Add(float64(c.Waiting))
	}
	if c.Reduced != 0 {
		o.hostsReduced.Add(float64(c.Reduced))
	}
	if events := o.placeEvents[c.Event]; events != nil {
		events.Inc()
	}
}
