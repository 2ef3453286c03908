// Package remotetls is target.remote_tls: maddy's door to package delivery.
//
// It is a thin shell. config.go reads the block, delivery.go collects what
// maddy hands in piece by piece (a target sees the header only with the body),
// errors.go turns results into maddy's error type. Everything that happens on
// the way to the recipients is in internal/delivery.
package remotetls

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/foxcpp/maddy/framework/address"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/hooks"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/policy"
)

// name is the module's name without the namespace, as errors and log lines
// carry it.
const name = "remote_tls"

func init() {
	module.Register("target."+name, New)
}

// Target implements module.DeliveryTarget.
type Target struct {
	instName   string
	inlineArgs []string
	log        log.Logger
	engine     *delivery.Engine
	reporting  *reporting       // nil without TLS reports
	now        func() time.Time // of reporting; nil means time.Now
	settle     time.Duration    // before the first report is sent

	// started is done with the first message.
	started sync.Once
}

var _ module.DeliveryTarget = (*Target)(nil)

// New makes a target that Init will configure.
func New(_, instName string, _, inlineArgs []string) (module.Module, error) {
	return &Target{instName: instName, inlineArgs: inlineArgs, log: log.Logger{Name: name}, settle: settleTime}, nil
}

// Init reads the configuration block and starts the engine.
func (t *Target) Init(cfg *config.Map) error {
	if len(t.inlineArgs) != 0 {
		return config.NodeErr(cfg.Block, "%s: unexpected %q, expected a block", name, t.inlineArgs[0])
	}
	engine, reports, err := parse(cfg, t.instName, &t.log)
	if err != nil {
		return err
	}
	if t.reporting, err = reports.open(engine.Hostname, t.log, t.now, t.settle); err != nil {
		return err
	}
	if t.reporting != nil {
		engine.Observers = append(engine.Observers, t.reporting.Observer())
	}
	t.engine = delivery.New(*engine)
	return reports.send(cfg.Globals, t.reporting)
}

// Name implements module.Module.
func (t *Target) Name() string { return "target." + name }

// InstanceName implements module.Module.
func (t *Target) InstanceName() string { return t.instName }

// Close ends running deliveries, closes all connections and writes down what TLS
// reports count.
func (t *Target) Close() error {
	if t.reporting != nil {
		t.reporting.StopSending()
	}
	if t.engine != nil {
		t.engine.Close()
	}
	t.reporting.close() // after the last delivery has been counted
	return nil
}

// Start implements module.DeliveryTarget.
func (t *Target) Start(_ context.Context, meta *module.MsgMetadata, mailFrom string) (module.Delivery, error) {
	// Hooks run in reverse order. One added now, when all modules stand, runs
	// before the queue is closed, which waits for its deliveries.
	t.started.Do(func() { hooks.AddHook(hooks.EventShutdown, t.engine.BeginClose) })
	return t.collect(meta, mailFrom), nil
}

// collect begins to collect a message.
func (t *Target) collect(meta *module.MsgMetadata, mailFrom string) *messageDelivery {
	d := &messageDelivery{
		target:     t,
		quarantine: func() bool { return meta.Quarantine },
		msg: delivery.Message{
			ID:       meta.ID,
			From:     mailFrom,
			Options:  meta.SMTPOpts,
			ClientIP: clientIP(meta),
		},
	}
	if mailFrom != "" {
		_, domain, err := address.Split(mailFrom)
		d.msg.FromDomain, d.badSender = policy.Normalize(domain), err != nil
	}
	return d
}

// clientIP is where the message came from. Messages of the queue and of local
// modules have no connection; maddy counts them as coming from localhost.
func clientIP(meta *module.MsgMetadata) net.IP {
	if meta.Conn != nil {
		if tcp, ok := meta.Conn.RemoteAddr.(*net.TCPAddr); ok {
			return tcp.IP
		}
	}
	return localhost
}

var localhost = net.IPv4(127, 0, 0, 1)
