package remotetls

import (
	"log/slog"
	"time"

	modconfig "github.com/foxcpp/maddy/framework/config/module"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsrpt"
)

// reporting is a running tlsrpt block. A nil one does nothing.
type reporting struct {
	*tlsrpt.Reporter
	resolver *route.Resolver
}

// open begins to count; nothing is sent yet. Commands that open the target beside
// the server do not count.
func (r *reports) open(hostname string, logger log.Logger, now func() time.Time, settle time.Duration) (*reporting, error) {
	if r == nil || module.NoRun {
		return nil, nil
	}
	resolver := route.NewResolver(r.resolvers)
	cfg := r.Config
	cfg.Now, cfg.Settle, cfg.Relay = now, settle, hostname
	cfg.Resolver = resolver
	cfg.Log = slog.New(slogHandler{out: logger})
	reporter, err := tlsrpt.Open(cfg)
	if err != nil {
		resolver.Close()
		return nil, err
	}
	return &reporting{Reporter: reporter, resolver: resolver}, nil
}

// settleTime is how long no report is sent after the start. maddy does not say when
// all modules stand, and a queue that is handed a message before it has read its
// directory takes it twice, or into a directory that is not its own. All of them
// stand after a few seconds, else no mail would come either.
const settleTime = 10 * time.Second

// send begins to send. What deliver_to names may be a queue for the very target
// whose block this is, and such a queue delivers what it finds on disk at once: so
// the target must be ready before. The queue itself is not ready then: it waits
// for the target.
func (r *reports) send(globals map[string]interface{}, running *reporting) error {
	if running == nil {
		return nil
	}
	var m tlsrpt.Mailer
	if node := r.deliverTo; node != nil {
		target, err := modconfig.DeliveryTarget(globals, node.Args, *node)
		if err != nil {
			return placed(*node, err)
		}
		m = &reportMailer{target: target, stop: running.StopSending}
	}
	running.Start(m)
	return nil
}

func (r *reporting) close() {
	if r == nil {
		return
	}
	// Close only reports what the end of the process mends.
	_ = r.Close()
	r.resolver.Close()
}
