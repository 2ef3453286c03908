// Package httpapi is the endpoint `http_api`: it serves internal/api with
// maddy's parts behind it.
//
// The package is a thin shell. It reads the block (config.go) and listens
// (serve.go). Messages go through the target that deliver_to names, as those of
// an SMTP endpoint do (mail.go); settings of domains are those of the tls_policy
// block (domains.go); keys are rows of a table, and events those of an
// event_store block (parts.go).
package httpapi

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/api"
)

const modName = "http_api"

func init() {
	module.RegisterEndpoint(modName, New)
}

// Endpoint is one http_api block.
type Endpoint struct {
	addresses []string
	log       log.Logger
	farewell  time.Duration // that requests have at the end, and those that are told so
	ending    context.Context
	end       context.CancelFunc

	server    *http.Server
	listeners []net.Listener
	serving   sync.WaitGroup
	crowded   *crowded
}

// New makes an endpoint; it is the constructor that maddy's module registry
// wants.
func New(_ string, addresses []string) (module.Module, error) {
	e := &Endpoint{addresses: addresses, log: log.Logger{Name: modName}, farewell: farewell}
	e.ending, e.end = context.WithCancel(context.Background())
	return e, nil
}

// Init reads the configuration block and begins to serve.
func (e *Endpoint) Init(cfg *config.Map) error {
	s, err := parse(cfg, e.addresses)
	if err != nil {
		return err
	}
	e.log.Debug = s.debug
	handler, err := api.New(s.config(&e.log, e.ending))
	if err != nil {
		return config.NodeErr(cfg.Block, "%s: %v", modName, err)
	}
	if err := e.listen(s, handler); err != nil {
		return config.NodeErr(cfg.Block, "%s: %v", modName, err)
	}
	return nil
}

// Name returns "http_api".
func (e *Endpoint) Name() string { return modName }

// InstanceName returns "": endpoints have no names.
func (e *Endpoint) InstanceName() string { return "" }
