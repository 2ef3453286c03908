package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/emersion/go-smtp"
	_ "github.com/foxcpp/maddy" // registers target.remote and target.queue
	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/dns"
	"github.com/foxcpp/maddy/framework/module"

	_ "tlscontrol/module" // registers target.remote_tls
	"tlscontrol/tests/bench/sink"
)

// Names of the clients, as they stand in the tables.
const (
	ours      = "remote_tls"
	theirs    = "target.remote"
	bound     = "raw"
	boundBusy = "raw-8" // with eight messages in flight on each connection
)

// target is one of the two targets, driven as maddy's queue drives it.
type target struct {
	module.DeliveryTarget
	message *message
	closer  io.Closer
}

// newTarget makes a target that delivers to a service.
func newTarget(name string, service sink.Service, m *message, lines ...string) (*target, error) {
	lines = append(lines, "hostname relay.example.com", "tls_client {\nroot_ca "+theWorld.path("ca.pem")+"\n}")
	if *idleCount >= 0 {
		lines = append(lines, "conn_max_idle_count "+strconv.Itoa(*idleCount))
	}
	if *reuseLimit >= 0 {
		lines = append(lines, "conn_reuse_limit "+strconv.Itoa(*reuseLimit))
	}
	block := "target.remote"
	if name == ours {
		if err := openDeliveryLog(); err != nil {
			return nil, err
		}
		block = "target.remote_tls"
		lines = append(lines, "host_concurrency 64", "delivery_log &bench_deliveries", "resolver "+theWorld.Resolver, "port "+strconv.Itoa(service.Port))
	}
	mod, err := load(block, "outbound", lines)
	if err != nil {
		return nil, err
	}
	if name == theirs {
		divert(mod, service.Port)
	}
	return &target{DeliveryTarget: mod.(module.DeliveryTarget), closer: mod.(io.Closer), message: m}, nil
}

// load makes a module of a configuration block.
func load(name, instance string, lines []string) (module.Module, error) {
	text := name + " " + instance + " {\n" + strings.Join(lines, "\n") + "\n}\n"
	nodes, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		return nil, err
	}
	mod, err := module.Get(name)(name, instance, nil, nil)
	if err != nil {
		return nil, err
	}
	return mod, mod.Init(config.NewMap(map[string]interface{}{"state_dir": theWorld.dir}, nodes[0]))
}

// openDeliveryLog makes the one delivery log of all targets, written to a file.
func openDeliveryLog() error {
	const name = "bench_deliveries"
	if module.HasInstance(name) {
		return nil
	}
	mod, err := load("delivery_log", name, []string{"output file " + theWorld.path("deliveries.jsonl")})
	if err != nil {
		return err
	}
	adopt(mod)
	return nil
}

// adopt lets configuration blocks name a module that is ready for use.
func adopt(mod module.Module) {
	module.RegisterInstance(mod, nil)
	module.Initialized[mod.InstanceName()] = true
}

// divert changes where target.remote looks names up and connects to. It has no
// directives for that: it knows the system's resolver and port 25. Its fields
// are set, none of its code is.
func divert(mod module.Module, port int) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, theWorld.Resolver)
	}}
	setField(mod, "resolver", dns.Resolver(resolver))
	dialer := &net.Dialer{Resolver: resolver}
	setField(mod, "dialer", func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, smtpPort, err := net.SplitHostPort(address); err == nil && smtpPort == "25" {
			address = net.JoinHostPort(host, strconv.Itoa(port))
		}
		return dialer.DialContext(ctx, network, address)
	})
	if ext := field(mod, "extResolver").Interface().(*dns.ExtResolver); ext != nil {
		host, port, _ := net.SplitHostPort(theWorld.Resolver)
		ext.Cfg.Servers, ext.Cfg.Port = []string{host}, port
	}
}

// field is a field of the structure behind mod, exported or not.
func field(mod module.Module, name string) reflect.Value {
	f := reflect.ValueOf(mod).Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
}

func setField[T any](mod module.Module, name string, value T) {
	*(field(mod, name).Addr().Interface().(*T)) = value
}

// messageIDs makes the IDs of messages differ.
var messageIDs atomic.Int64

// newMeta is what maddy knows of a message.
func newMeta() *module.MsgMetadata {
	return &module.MsgMetadata{ID: strconv.FormatInt(messageIDs.Add(1)|1<<40, 16), OriginalFrom: sender}
}

// deliver hands one message over as the queue does.
func (t *target) deliver(to destination) error {
	meta := newMeta()
	meta.ID += "-6927c0de" // the queue's mark of the attempt
	ctx := context.Background()
	d, err := t.Start(ctx, meta, sender)
	if err != nil {
		return err
	}
	if err := d.AddRcpt(ctx, to.address, smtp.RcptOptions{}); err != nil {
		return errors.Join(err, d.Abort(ctx))
	}
	s := oneStatus{rcpt: to.address}
	d.(module.PartialDelivery).BodyNonAtomic(ctx, &s, t.message.header, t.message.body)
	if s.reports.Load() == 0 {
		return fmt.Errorf("no status for %s", to.address)
	}
	if s.err != nil {
		return errors.Join(s.err, d.Abort(ctx))
	}
	return d.Commit(ctx)
}

// worker implements client: a target may be used by all at once.
func (t *target) worker() (worker, error) { return t, nil }

// hangUp implements worker.
func (t *target) hangUp() {}

// close implements client. Politeness to thousands of connections, one after
// the other, is not waited for.
func (t *target) close() error {
	return errors.Join(theWorld.HangUp(), t.closer.Close())
}

// oneStatus collects the status of the only recipient. target.remote reports
// for those too to whom the connection has delivered before; that is passed over.
type oneStatus struct {
	rcpt    string
	reports atomic.Int32
	err     error
}

// SetStatus implements module.StatusCollector.
func (s *oneStatus) SetStatus(rcpt string, err error) {
	if rcpt == s.rcpt {
		s.err = err
		s.reports.Add(1)
	}
}
