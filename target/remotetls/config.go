package remotetls

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"golang.org/x/net/idna"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/health"
	"tlscontrol/internal/internet"
	"tlscontrol/internal/metrics"
	"tlscontrol/internal/pool"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/module/deliverylog"
	"tlscontrol/module/eventstore"
	"tlscontrol/module/tlspolicy"
)

// Defaults: those of target.remote unless said otherwise, and where it has none,
// those of RFC 5321, section 4.5.3.2.
const (
	defaultPort           = 25
	defaultConnectTimeout = 30 * time.Second // what Postfix has: the queue has few places
	defaultConcurrency    = 20
	maxConcurrency        = 10_000
	defaultFailures       = 3
	defaultBreakerMin     = 30 * time.Second
	defaultBreakerMax     = 10 * time.Minute
	defaultReuseLimit     = 1000
	defaultIdlePerHost    = 20
	defaultIdleTime       = 150 * time.Second // half of what RFC 5321 lets a server wait
	maxIdle               = 5000              // connections kept idle in all
)

// settings is what the block says, before it becomes a delivery.Config.
type settings struct {
	hostname          string
	localIP           netip.Addr
	forceIPv4         bool
	debug             bool
	tlsClient         *tls.Config
	policy            *tlspolicy.Module
	deliveryLog       *deliverylog.Module
	eventStore        *eventstore.Module // nil: none
	resolvers         []string
	port              int
	allowPrivate      internet.Admission
	loopCheck         bool // if it is there; else see checksLoops
	mxAuth            mxAuth
	limits            delivery.Limits
	requireOverride   bool
	relaxedREQUIRETLS bool
	reuseLimit        int
	idlePerHost       int
	idleTime          time.Duration
	connectTimeout    time.Duration
	commandTimeout    time.Duration
	submissionTimeout time.Duration
	chunking          bool
	hostConcurrency   int
	breakerFailures   int
	breakerMin        time.Duration
	breakerMax        time.Duration
	downgradeMemory   time.Duration
	downgradeAction   downgrade.Action
	reports           *reports // nil: none are sent

	seen map[string]config.Node // the directives that the block has
	helo string                 // hostname as it goes into EHLO

	stateDir       string // maddy's; empty only in tests
	globalHostname string // empty if there is none
}

// directives lists everything that the block may hold.
func (d *settings) directives(instName string) []directive {
	return []directive{
		{name: "hostname", read: wordDirective("a domain name"), store: &d.hostname, global: true},
		{name: "local_ip", read: ipDirective, store: &d.localIP, absent: constant(netip.Addr{})},
		{name: "force_ipv4", read: boolDirective, store: &d.forceIPv4, absent: constant(false)},
		{name: "debug", read: boolDirective, store: &d.debug, absent: constant(false), global: true},
		{name: "tls_client", read: tlsClientDirective, store: &d.tlsClient, absent: constant(&tls.Config{}), global: true},
		{name: "policy", read: tlspolicy.Directive, store: &d.policy, absent: func() (interface{}, error) { return tlspolicy.BuiltIn(), nil }},
		{name: "delivery_log", read: deliverylog.Directive, store: &d.deliveryLog, absent: func() (interface{}, error) { return deliverylog.Default(), nil }},
		{name: "event_store", read: eventstore.Directive, store: &d.eventStore, absent: constant[*eventstore.Module](nil)},
		{name: "resolver", read: resolverDirective, store: &d.resolvers, absent: systemResolvers},
		{name: "port", read: intDirective(1, 65535), store: &d.port, absent: constant(defaultPort)},
		{name: "allow_private", read: privateDirective, store: &d.allowPrivate, absent: constant(internet.Admission{All: true})},
		{name: "loop_check", read: boolDirective, store: &d.loopCheck, absent: constant(false)},
		{name: "mx_auth", read: mxAuthDirective, store: &d.mxAuth, absent: constant(mxAuth{})},
		{name: "limits", read: limitsDirective, store: &d.limits, absent: constant[interface{}](nil)},
		{name: "requiretls_override", read: boolDirective, store: &d.requireOverride, absent: constant(true)},
		{name: "relaxed_requiretls", read: boolDirective, store: &d.relaxedREQUIRETLS, absent: constant(true)},
		{name: "conn_reuse_limit", read: intDirective(0, 1_000_000), store: &d.reuseLimit, absent: constant(defaultReuseLimit)},
		{name: "conn_max_idle_count", read: intDirective(0, maxIdle), store: &d.idlePerHost, absent: constant(defaultIdlePerHost)},
		{name: "conn_max_idle_time", read: secondsDirective, store: &d.idleTime, absent: constant(defaultIdleTime)},
		{name: "connect_timeout", read: timeoutDirective, store: &d.connectTimeout, absent: constant(defaultConnectTimeout)},
		{name: "command_timeout", read: timeoutDirective, store: &d.commandTimeout, absent: constant(time.Duration(0))},
		{name: "submission_timeout", read: timeoutDirective, store: &d.submissionTimeout, absent: constant(time.Duration(0))},
		{name: "chunking", read: boolDirective, store: &d.chunking, absent: constant(true)},
		{name: "host_concurrency", read: intDirective(1, maxConcurrency), store: &d.hostConcurrency, absent: constant(defaultConcurrency)},
		{name: "breaker_failures", read: intDirective(0, 1000), store: &d.breakerFailures, absent: constant(defaultFailures)},
		{name: "breaker_min_time", read: timeoutDirective, store: &d.breakerMin, absent: constant(defaultBreakerMin)},
		{name: "breaker_max_time", read: timeoutDirective, store: &d.breakerMax, absent: constant(defaultBreakerMax)},
		{name: "downgrade_memory", read: daysDirective, store: &d.downgradeMemory, absent: constant(defaultMemory)},
		{name: "downgrade_action", read: actionDirective, store: &d.downgradeAction, absent: constant(downgrade.Log)},
		{name: "tlsrpt", read: reportsDirective(instName), store: &d.reports, absent: constant((*reports)(nil))},
	}
}

// parse reads the block. Errors name file and line, the word and the choices.
func parse(cfg *config.Map, instName string, logger *log.Logger) (*delivery.Config, *reports, error) {
	var d settings
	all := d.directives(instName)
	var err error
	if d.seen, err = checkNames(cfg.Block, all); err != nil {
		return nil, nil, err
	}
	for _, x := range all {
		cfg.Custom(x.name, x.global, x.absent == nil, x.absent, x.read, x.store)
	}
	if d.stateDir, _ = cfg.Globals["state_dir"].(string); d.stateDir == "" {
		d.stateDir = config.StateDirectory
	}
	d.globalHostname, _ = cfg.Globals["hostname"].(string)
	if _, err := cfg.Process(); err != nil {
		return nil, nil, placed(cfg.Block, err)
	}
	logger.Debug = d.debug
	if err := d.check(cfg.Block); err != nil {
		return nil, nil, err
	}
	if err := d.checkMemory(instName); err != nil {
		return nil, nil, err
	}
	if d.reports != nil {
		d.reports.resolvers = d.resolvers
	}
	engine, err := d.engineConfig(cfg.Block, instName, *logger)
	return engine, d.reports, err
}

// check refuses values that are good by themselves but not together.
func (d *settings) check(block config.Node) error {
	var ok bool
	if d.helo, ok = heloName(d.hostname); !ok {
		place := block // of the directive, unless it is the global one
		if node, here := d.seen["hostname"]; here {
			place = node
		}
		return config.NodeErr(place, "hostname: unexpected %q, expected a domain name", d.hostname)
	}
	if d.forceIPv4 && d.localIP.Is6() {
		return config.NodeErr(d.seen["local_ip"], "local_ip: unexpected %q, expected an IPv4 address because of force_ipv4", d.localIP)
	}
	if d.loopCheck && len(d.ownNames()) == 0 {
		return config.NodeErr(d.seen["loop_check"], "loop_check: unexpected yes, because many servers may have a name such as %q", d.hostname)
	}
	if d.breakerMax < d.breakerMin {
		place, here := d.seen["breaker_max_time"]
		if !here {
			place = d.seen["breaker_min_time"]
		}
		return config.NodeErr(place, "breaker_max_time: unexpected %v, expected at least the breaker_min_time of %v", d.breakerMax, d.breakerMin)
	}
	if d.downgradeMemory == 0 && d.downgradeAction == downgrade.Defer {
		return config.NodeErr(d.seen["downgrade_action"], "downgrade_action: unexpected %q, expected off or log because of downgrade_memory off", d.downgradeAction)
	}
	return nil
}

// greetingTimeout is how long a server may let us wait for its greeting: longer
// than for a connection (RFC 5321, section 4.5.3.2.1), unless the operator
// thinks otherwise. Zero is the RFC's time.
func (d *settings) greetingTimeout() time.Duration {
	if _, set := d.seen["connect_timeout"]; set {
		return d.connectTimeout
	}
	return 0
}

// engineConfig fills the engine's structure and opens what the engine will close.
func (d *settings) engineConfig(block config.Node, instName string, logger log.Logger) (*delivery.Config, error) {
	failures := d.breakerFailures
	if failures == 0 { // off
		failures = math.MaxInt
	}
	out := slog.New(slogHandler{out: logger})
	sts, err := openPolicies(d.mxAuth.mtasts, d.resolvers, out)
	if err != nil {
		return nil, config.NodeErr(block, "mtasts: %v", err)
	}
	resolver := route.NewResolver(d.resolvers)
	d.mxAuth.notices(resolver, logger)
	d.localIPNotice(logger)
	var ownNames []string
	if d.checksLoops() {
		ownNames = d.ownNames()
	}
	return &delivery.Config{
		Module:            instName,
		Hostname:          d.helo,
		OwnNames:          ownNames,
		Port:              d.port,
		Policies:          d.policy,
		Fields:            d.policy.Fields(),
		Key:               d.policy.OverrideKey,
		Routes:            resolver,
		Dial:              d.dialer(),
		IPv4Only:          d.forceIPv4,
		Admits:            d.admits(),
		TLS:               d.tlsClient,
		Limits:            d.limits,
		MinTLS:            d.mxAuth.minTLS,
		MinMX:             d.mxAuth.minMX,
		DANE:              d.mxAuth.dane && resolver.Validates(),
		STS:               sts,
		RelaxedREQUIRETLS: d.relaxedREQUIRETLS,
		ConnectTimeout:    d.connectTimeout,
		ReuseLimit:        d.reuseLimit,

		TLSRequiredOverride: d.requireOverride,
		Wire: smtpwire.Config{
			Hostname:   d.helo,
			NoChunking: !d.chunking,
			Timeouts: smtpwire.Timeouts{
				Greeting: d.greetingTimeout(),
				Command:  d.commandTimeout,
				Body:     d.submissionTimeout,
				Final:    d.submissionTimeout,
			},
		},
		Places:    health.PlacesConfig{PerHost: d.hostConcurrency},
		Breakers:  health.BreakersConfig{Failures: failures, First: d.breakerMin, Max: d.breakerMax},
		Pool:      pool.Config{PerHost: d.idlePerHost, Total: maxIdle, IdleTime: d.idleTime},
		Memory:    d.memory(instName),
		Observers: d.observers(instName),
		Log:       out,
	}, nil
}

// observers are told what happened. The log is first: it makes the queue wait.
func (d *settings) observers(instName string) []delivery.Observer {
	all := []delivery.Observer{d.deliveryLog.Observer(), metrics.Default().Observer(instName)}
	if d.eventStore != nil && d.eventStore.Store() != nil {
		all = append(all, d.eventStore.Observer())
	}
	return all
}

// dialer connects from local_ip if there is one.
func (d *settings) dialer() func(context.Context, string, string) (net.Conn, error) {
	var nd net.Dialer
	if d.localIP.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.localIP, 0))
	}
	return nd.DialContext
}

// heloName returns a host name as the argument of EHLO: in A-labels (RFC 6531,
// section 3.7.1), and nothing in it that could end the command.
func heloName(name string) (string, bool) {
	ascii, err := idna.ToASCII(name)
	if err != nil || len(ascii) > 255 || strings.Trim(ascii, "-._[]:") == "" {
		return "", false
	}
	for _, c := range []byte(ascii) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("-._[]:", rune(c)) {
			return "", false
		}
	}
	return ascii, true
}
