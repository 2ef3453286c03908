package metrics

import (
	"bytes"
	"crypto/tls"
	"flag"
	"math"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/health"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
	"tlscontrol/internal/tlsrpt"
)

var update = flag.Bool("update", false, "write the golden file")

func fresh(t testing.TB) (*Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := New(reg)
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

func outcome(version uint16, v tlsplan.Verification) tlsplan.Outcome {
	return tlsplan.Outcome{TLS: true, Version: version, Verification: v, HandshakeIn: 30 * time.Millisecond}
}

func attempt(r delivery.Result, out *tlsplan.Outcome) *delivery.Attempt {
	a := &delivery.Attempt{Result: r, Settings: &policy.Settings{
		RequireTLSSource: policy.FromDefault, SkipVerificationSource: policy.FromDomain,
	}}
	if out != nil {
		a.Connection = &delivery.Connection{Outcome: *out}
	}
	return a
}

// script is a busy minute of two targets.
func script(m *Metrics) {
	o := m.Observer("outbound")
	pkix, bare := outcome(tls.VersionTLS13, tlsplan.VerifiedPKIX), outcome(tls.VersionTLS12, tlsplan.VerifiedNone)
	odd := outcome(0x7f1c, "odd")
	clear := tlsplan.Plaintext(&tlsplan.Problem{Reason: tlsplan.TLSNotOffered}, nil)

	o.PoolChanged(0, 1)
	o.Connected(delivery.Connected{Outcome: pkix})
	o.Concluded(attempt(delivery.Delivered, &pkix), 0.2)
	o.PoolChanged(1, -1)
	o.PoolChanged(-1, 1)
	o.Connected(delivery.Connected{Outcome: pkix, Reused: true})
	byMessage := attempt(delivery.Delivered, &pkix)
	byMessage.Settings.RequireTLSSource = policy.FromMessage
	byMessage.Settings.SkipVerificationSource = policy.FromMessage
	byMessage.ContentSent = tlsplan.ProtectionVerified
	o.Concluded(byMessage, 0.04)

	o.Connected(delivery.Connected{Outcome: clear})
	o.Troubled(delivery.Trouble{Reason: tlsplan.TLSNotOffered})
	fallback := attempt(delivery.Delivered, &clear)
	fallback.Fallback = tlsplan.TLSNotOffered
	o.Concluded(fallback, 3)
	fallback.Fallback = ""
	fallback.Downgrade = &delivery.Downgrade{Action: downgrade.Log, Expected: downgrade.Expectation{Level: downgrade.Verified}}
	o.Concluded(fallback, 3)
	deferred := attempt(delivery.Temporary, &clear)
	deferred.Downgrade = &delivery.Downgrade{Action: downgrade.Defer, Expected: downgrade.Expectation{Level: downgrade.TLS}}
	deferred.Fallback = tlsplan.TLSNotOffered // but it was not delivered
	deferred.ContentSent = tlsplan.ProtectionClear
	o.Concluded(deferred, 3)

	o.Connected(delivery.Connected{Outcome: bare})
	o.Troubled(delivery.Trouble{Reason: tlsplan.CertificateExpired, Enforced: true})
	refused := attempt(delivery.Permanent, &bare)
	refused.Settings.SkipVerificationSource = policy.FromMessage
	o.Concluded(refused, 700)

	o.Connected(delivery.Connected{Outcome: odd})
	o.Troubled(delivery.Trouble{Reason: "odd"})
	strange := attempt("odd", &odd)
	strange.Fallback, strange.ContentSent = "odd", "odd"
	strange.Downgrade = &delivery.Downgrade{Action: "odd"}
	o.Concluded(strange, math.NaN())
	strange = attempt(delivery.Delivered, nil)
	strange.Fallback = "odd"
	strange.Settings = nil
	o.Concluded(strange, -1)

	h := o.(delivery.HealthObserver)
	for _, c := range []health.BreakerChange{
		{Event: health.BreakerOpened, Open: 1}, {Event: health.BreakerOpened, Open: 1}, {Event: health.BreakerRefused},
		{Event: health.BreakerProbed}, {Event: health.BreakerClosed}, {Open: -1}, {Event: "odd"},
	} {
		h.BreakerChanged(c)
	}
	for _, c := range []health.PlaceChange{
		{Event: health.PlaceWaited, Waiting: 1}, {Event: health.PlaceWaited, Waiting: 1}, {Waiting: -1},
		{Event: health.PlaceRefused}, {Event: health.HostReduced, Reduced: 1}, {Event: "odd"},
	} {
		h.PlaceChanged(c)
	}

	m.Observer("other").Concluded(attempt(delivery.Temporary, nil), 60)
	m.LogErrors(0)
	m.LogErrors(3)

	e := m.Events("events")
	e.Stored(500)
	e.Lost(2)
	e.Backlog(4096)
	e.Backlog(1024)

	r := m.Reports("outbound")
	for _, result := range append(tlsrpt.Results(), tlsrpt.Sent, "odd") {
		r.Reported(result)
	}
	r.Lost(7)
	r.Lost(-1)

	count := m.API([]string{"GET /x"})
	count("GET /x", 200)
	count("GET /x", 404)
	count("GET /x", 999)
	count("GET /evil", 101)
}

// TestExposition compares every series that is not zero, and the ones that
// are, of a scripted sequence with the golden file.
func TestExposition(t *testing.T) {
	t.Parallel()
	m, reg := fresh(t)
	script(m)
	const file = "testdata/exposition.txt"
	if *update {
		w := httptest.NewRecorder()
		promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if err := os.WriteFile(file, w.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(reg, bytes.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// TestCounts names the numbers that the script must lead to, apart from the
// golden file.
func TestCounts(t *testing.T) {
	t.Parallel()
	m, _ := fresh(t)
	script(m)
	for _, c := range []struct {
		name string
		got  float64
		want float64
	}{
		{"delivered pkix", testutil.ToFloat64(m.deliveries.WithLabelValues("outbound", "delivered", "yes", "pkix")), 2},
		{"delivered clear", testutil.ToFloat64(m.deliveries.WithLabelValues("outbound", "delivered", "no", "none")), 3},
		{"permanent", testutil.ToFloat64(m.deliveries.WithLabelValues("outbound", "permanent", "yes", "none")), 1},
		{"odd result", testutil.ToFloat64(m.deliveries.WithLabelValues("outbound", "temporary", "yes", "none")), 1},
		{"no connection", testutil.ToFloat64(m.deliveries.WithLabelValues("other", "temporary", "no", "none")), 1},
		{"reused", testutil.ToFloat64(m.connections.WithLabelValues("outbound", "yes", "TLSv1.3", "yes")), 1},
		{"clear", testutil.ToFloat64(m.connections.WithLabelValues("outbound", "no", "none", "no")), 1},
		{"other version", testutil.ToFloat64(m.connections.WithLabelValues("outbound", "yes", "other", "no")), 1},
		{"enforced", testutil.ToFloat64(m.failures.WithLabelValues("outbound", "certificate-expired", "yes")), 1},
		{"not enforced", testutil.ToFloat64(m.failures.WithLabelValues("outbound", "tls-not-offered", "no")), 1},
		{"odd reason", testutil.ToFloat64(m.failures.WithLabelValues("outbound", "internal", "no")), 1},
		{"fallback", testutil.ToFloat64(m.fallbacks.WithLabelValues("outbound", "tls-not-offered")), 1},
		{"odd fallback", testutil.ToFloat64(m.fallbacks.WithLabelValues("outbound", "internal")), 1},
		{"sent in clear", testutil.ToFloat64(m.contentSent.WithLabelValues("outbound", "clear")), 2},
		{"sent verified", testutil.ToFloat64(m.contentSent.WithLabelValues("outbound", "verified")), 1},
		{"sent unverified", testutil.ToFloat64(m.contentSent.WithLabelValues("outbound", "unverified")), 0},
		{"override delivered", testutil.ToFloat64(m.overrides.WithLabelValues("outbound", "delivered")), 1},
		{"override permanent", testutil.ToFloat64(m.overrides.WithLabelValues("outbound", "permanent")), 1},
		{"override temporary", testutil.ToFloat64(m.overrides.WithLabelValues("outbound", "temporary")), 0},
		{"downgrade logged", testutil.ToFloat64(m.downgrades.WithLabelValues("outbound", "log", "verified")), 1},
		{"downgrade deferred", testutil.ToFloat64(m.downgrades.WithLabelValues("outbound", "defer", "tls")), 1},
		{"no downgrade", testutil.ToFloat64(m.downgrades.WithLabelValues("outbound", "log", "tls")), 0},
		{"idle", testutil.ToFloat64(m.poolConnections.WithLabelValues("outbound", "idle")), 0},
		{"busy", testutil.ToFloat64(m.poolConnections.WithLabelValues("outbound", "busy")), 1},
		{"open", testutil.ToFloat64(m.breakersOpen.WithLabelValues("outbound")), 1},
		{"opened", testutil.ToFloat64(m.breakerEvents.WithLabelValues("outbound", "opened")), 2},
		{"closed", testutil.ToFloat64(m.breakerEvents.WithLabelValues("outbound", "closed")), 1},
		{"waiting", testutil.ToFloat64(m.placesWaiting.WithLabelValues("outbound")), 1},
		{"waited", testutil.ToFloat64(m.placeEvents.WithLabelValues("outbound", "waited")), 2},
		{"reduced", testutil.ToFloat64(m.hostsReduced.WithLabelValues("outbound")), 1},
		{"reduced, event", testutil.ToFloat64(m.placeEvents.WithLabelValues("outbound", "reduced")), 1},
		{"log errors", testutil.ToFloat64(m.logErrors), 3},
		{"events stored", testutil.ToFloat64(m.events.WithLabelValues("events", "stored")), 500},
		{"events lost", testutil.ToFloat64(m.events.WithLabelValues("events", "lost")), 2},
		{"answered well", testutil.ToFloat64(m.apiRequests.WithLabelValues("GET /x", "2xx")), 1},
		{"answered badly", testutil.ToFloat64(m.apiRequests.WithLabelValues("GET /x", "5xx")), 1},
		{"unknown route", testutil.ToFloat64(m.apiRequests.WithLabelValues("other", "2xx")), 1},
		{"reports sent", testutil.ToFloat64(m.reports.WithLabelValues("outbound", "sent")), 2},
		{"reports refused", testutil.ToFloat64(m.reports.WithLabelValues("outbound", "refused")), 1},
		{"reports given up", testutil.ToFloat64(m.reports.WithLabelValues("outbound", "given_up")), 1},
		{"sessions lost to reports", testutil.ToFloat64(m.reportsLost.WithLabelValues("outbound")), 7},
		{"events waiting", testutil.ToFloat64(m.eventsBacklog.WithLabelValues("events")), 1024},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestLabelsAreBounded: whatever is observed, no series comes into being that
// was not there from the start.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m, reg := fresh(t)
	m.Observer("outbound")
	m.Observer("other")
	m.Events("events")
	m.API([]string{"GET /x"})
	m.Reports("outbound")
	before, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	script(m)
	after, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("%d series became %d", before, after)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	m, reg := fresh(t)
	script(m)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestPage: docs/metrics.md lists exactly what is registered, with labels.
func TestPage(t *testing.T) {
	t.Parallel()
	m, reg := fresh(t)
	script(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		want[f.GetName()] = strings.Join(labels, ",")
	}

	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [a-z]+ \\|([^|]*)\\|")
	for _, r := range row.FindAllStringSubmatch(string(page), -1) {
		labels := regexp.MustCompile("[a-z]+").FindAllString(r[2], -1)
		slices.Sort(labels)
		got[r[1]] = strings.Join(labels, ",")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-registered +page):\n%s", diff)
	}
	for _, name := range regexp.MustCompile(`maddy_remote_tls_[a-z_]+`).FindAllString(string(page), -1) {
		base := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if _, ok := want[base]; !ok {
			t.Errorf("the page speaks of %s, which does not exist", name)
		}
	}
}

func TestRegisterTwice(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	taken := prometheus.NewCounter(prometheus.CounterOpts{Name: "maddy_remote_tls_log_errors_total", Help: "taken"})
	reg.MustRegister(taken)
	for range 2 { // a failed New that left something behind would fail otherwise now
		if _, err := New(reg); err == nil || !strings.Contains(err.Error(), "log_errors_total") {
			t.Errorf("New: %v, want an error about log_errors_total", err)
		}
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	first, second := Default(), Default()
	if first == nil || first != second {
		t.Error("Default is not one and the same")
	}
}

// TestCountingDoesNotAllocate is not parallel: allocations are counted for
// the whole process.
func TestCountingDoesNotAllocate(t *testing.T) {
	m, _ := fresh(t)
	o := m.Observer("outbound")
	h := o.(delivery.HealthObserver)
	out := outcome(tls.VersionTLS13, tlsplan.VerifiedPKIX)
	a := attempt(delivery.Delivered, &out)
	a.Fallback = tlsplan.CertificateExpired
	a.Downgrade = &delivery.Downgrade{Action: downgrade.Log, Expected: downgrade.Expectation{Level: downgrade.TLS}}
	a.Settings.RequireTLSSource = policy.FromMessage
	if n := testing.AllocsPerRun(1000, func() {
		o.Connected(delivery.Connected{Outcome: out})
		o.Troubled(delivery.Trouble{Reason: tlsplan.Timeout, Enforced: true})
		o.Concluded(a, 0.1)
		o.PoolChanged(1, -1)
		h.BreakerChanged(health.BreakerChange{Event: health.BreakerRefused})
		h.PlaceChanged(health.PlaceChange{Event: health.PlaceWaited, Waiting: 1})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	m, _ := fresh(t)
	o := m.Observer("outbound")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				o.Concluded(attempt(delivery.Delivered, nil), 1)
				o.PoolChanged(1, 0)
			}
		})
	}
	all.Wait()
	if got := testutil.ToFloat64(m.poolConnections.WithLabelValues("outbound", "idle")); got != 800 {
		t.Errorf("%v idle", got)
	}
}

func BenchmarkConcluded(b *testing.B) {
	m, _ := fresh(b)
	o := m.Observer("outbound")
	out := outcome(tls.VersionTLS13, tlsplan.VerifiedPKIX)
	a := attempt(delivery.Delivered, &out)
	b.ReportAllocs()
	for b.Loop() {
		o.Concluded(a, 0.1)
	}
}
