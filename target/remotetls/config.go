package remotetls

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"
	tls2 "github.com/foxcpp/maddy/framework/config/tls"
	"github.com/foxcpp/maddy/framework/log"
	"golang.org/x/net/idna"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/metrics"
	"tlscontrol/internal/pool"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/module/deliverylog"
	"tlscontrol/module/tlspolicy"
)

// Defaults. Those of target.remote, and where it has none, RFC 5321, section
// 4.5.3.2.
const (
	defaultPort           = 25
	defaultConnectTimeout = 5 * time.Minute
	defaultReuseLimit     = 10
	defaultIdlePerHost    = 5
	defaultIdleTime       = 150 * time.Second // half of what RFC 5321 lets a server wait
	maxIdle               = 5000              // connections kept idle in all
)

// directives is what the block says, before it becomes a delivery.Config.
type directives struct {
	hostname          string
	localIP           string
	forceIPv4         bool
	tlsClient         *tls.Config
	policy            *tlspolicy.Module
	deliveryLog       *deliverylog.Module
	resolvers         []string
	port              int
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
}

// parse reads the block. Errors name file and line, the word and the choices.
func parse(cfg *config.Map, instName string, logger *log.Logger) (*delivery.Config, error) {
	var d directives
	cfg.String("hostname", true, true, "", &d.hostname)
	cfg.String("local_ip", false, false, "", &d.localIP)
	cfg.Bool("force_ipv4", false, false, &d.forceIPv4)
	cfg.Bool("debug", true, false, &logger.Debug)
	cfg.Custom("tls_client", true, false, func() (interface{}, error) { return &tls.Config{}, nil }, placed(tls2.TLSClientBlock), &d.tlsClient)
	cfg.Custom("policy", false, false, func() (interface{}, error) { return tlspolicy.BuiltIn(), nil }, tlspolicy.Directive, &d.policy)
	cfg.Custom("delivery_log", false, false, func() (interface{}, error) { return deliverylog.Default(), nil }, deliverylog.Directive, &d.deliveryLog)
	cfg.Custom("resolver", false, false, systemResolvers, resolverDirective, &d.resolvers)
	cfg.Custom("port", false, false, constant(defaultPort), intDirective(1, 65535), &d.port)
	cfg.Custom("mx_auth", false, false, func() (interface{}, error) { return mxAuth{}, nil }, mxAuthDirective, &d.mxAuth)
	cfg.Custom("limits", false, false, func() (interface{}, error) { return nil, nil }, placed(limitsDirective), &d.limits)
	cfg.Bool("requiretls_override", false, true, &d.requireOverride)
	cfg.Bool("relaxed_requiretls", false, true, &d.relaxedREQUIRETLS)
	cfg.Custom("conn_reuse_limit", false, false, constant(defaultReuseLimit), intDirective(0, 1_000_000), &d.reuseLimit)
	cfg.Custom("conn_max_idle_count", false, false, constant(defaultIdlePerHost), intDirective(0, maxIdle), &d.idlePerHost)
	cfg.Custom("conn_max_idle_time", false, false, constant(defaultIdleTime), secondsDirective, &d.idleTime)
	cfg.Custom("connect_timeout", false, false, constant(defaultConnectTimeout), timeoutDirective, &d.connectTimeout)
	cfg.Custom("command_timeout", false, false, constant(time.Duration(0)), timeoutDirective, &d.commandTimeout)
	cfg.Custom("submission_timeout", false, false, constant(time.Duration(0)), timeoutDirective, &d.submissionTimeout)
	cfg.Bool("chunking", false, true, &d.chunking)
	if _, err := cfg.Process(); err != nil {
		return nil, err
	}
	return d.engineConfig(cfg.Block, instName, *logger)
}

// engineConfig checks what belongs together and fills the engine's structure.
func (d *directives) engineConfig(block config.Node, instName string, logger log.Logger) (*delivery.Config, error) {
	// RFC 6531, section 3.7.1.
	hostname, err := idna.ToASCII(d.hostname)
	if err != nil {
		return nil, config.NodeErr(block, "hostname: %q cannot be written in A-labels: %v", d.hostname, err)
	}
	dial, err := d.dialer(block)
	if err != nil {
		return nil, err
	}
	return &delivery.Config{
		Module:            instName,
		Hostname:          hostname,
		Port:              d.port,
		Policies:          d.policy,
		Fields:            d.policy.Fields(),
		Key:               d.policy.OverrideKey,
		Routes:            route.NewResolver(d.resolvers),
		Dial:              dial,
		IPv4Only:          d.forceIPv4,
		TLS:               d.tlsClient,
		Limits:            d.limits,
		MinTLS:            d.mxAuth.minTLS,
		RelaxedREQUIRETLS: d.relaxedREQUIRETLS,
		ConnectTimeout:    d.connectTimeout,
		ReuseLimit:        d.reuseLimit,
		Wire: smtpwire.Config{
			Hostname:   hostname,
			NoChunking: !d.chunking,
			Timeouts: smtpwire.Timeouts{
				Greeting: d.connectTimeout,
				Command:  d.commandTimeout,
				Body:     d.submissionTimeout,
				Final:    d.submissionTimeout,
			},
		},
		Pool:      pool.Config{PerHost: d.idlePerHost, Total: maxIdle, IdleTime: d.idleTime},
		Observers: []delivery.Observer{d.deliveryLog.Observer(), metrics.Default().Observer(instName)},
		Log:       slog.New(slogHandler{out: logger}),
	}, nil
}

// dialer connects from local_ip if there is one.
func (d *directives) dialer(block config.Node) (func(context.Context, string, string) (net.Conn, error), error) {
	var nd net.Dialer
	if d.localIP != "" {
		ip, err := netip.ParseAddr(d.localIP)
		if err != nil {
			return nil, config.NodeErr(block, "local_ip: unexpected %q, expected an IP address", d.localIP)
		}
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
	}
	return nd.DialContext, nil
}

func constant[T any](v T) func() (interface{}, error) {
	return func() (interface{}, error) { return v, nil }
}

func systemResolvers() (interface{}, error) {
	return route.SystemServers()
}

func resolverDirective(_ *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) == 0 || len(node.Children) != 0 {
		return nil, config.NodeErr(node, "resolver: expected at least one host[:port]")
	}
	servers, err := route.ParseServers(node.Args)
	if err != nil {
		return nil, config.NodeErr(node, "resolver: %v", err)
	}
	return servers, nil
}

func limitsDirective(m *config.Map, node config.Node) (interface{}, error) {
	var l delivery.Limits
	if err := modconfig.GroupFromNode("limits", node.Args, node, m.Globals, &l); err != nil {
		return nil, err
	}
	return l, nil
}

// oneArg returns the only argument of a directive without a block.
func oneArg(node config.Node, expected string) (string, error) {
	if len(node.Args) != 1 || len(node.Children) != 0 {
		return "", config.NodeErr(node, "%s: expected %s", node.Name, expected)
	}
	return node.Args[0], nil
}

// intDirective reads a number between lowest and highest.
func intDirective(lowest, highest int) func(*config.Map, config.Node) (interface{}, error) {
	expected := "a number from " + strconv.Itoa(lowest) + " to " + strconv.Itoa(highest)
	return func(_ *config.Map, node config.Node) (interface{}, error) {
		arg, err := oneArg(node, expected)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(arg)
		if err != nil || n < lowest || n > highest {
			return nil, config.NodeErr(node, "%s: unexpected %q, expected %s", node.Name, arg, expected)
		}
		return n, nil
	}
}

// timeoutDirective reads a duration longer than nothing.
func timeoutDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "a duration such as 30s or 5m"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	dur, err := time.ParseDuration(arg)
	if err != nil || dur <= 0 {
		return nil, config.NodeErr(node, "%s: unexpected %q, expected %s", node.Name, arg, expected)
	}
	return dur, nil
}

// secondsDirective reads what target.remote reads, a number of seconds, and
// durations as well.
func secondsDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "a number of seconds, or a duration such as 150s"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	dur, err := time.ParseDuration(arg)
	if n, atoiErr := strconv.Atoi(arg); atoiErr == nil {
		dur, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || dur < 0 || dur > 24*time.Hour {
		return nil, config.NodeErr(node, "%s: unexpected %q, expected %s", node.Name, arg, expected)
	}
	return dur, nil
}
