package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	modconfig "github.com/foxcpp/maddy/framework/config/module"
	maddytls "github.com/foxcpp/maddy/framework/config/tls"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"
	"golang.org/x/net/idna"

	"tlscontrol/internal/api"
	"tlscontrol/internal/metrics"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/ui"
	"tlscontrol/module/eventstore"
	"tlscontrol/module/tlspolicy"
)

// Bounds of directives.
const (
	minMessage  = 4 << 10
	maxMessage  = 100 << 20
	maxRequests = 10_000
	maxRate     = 1_000_000
)

// settings is a block that was read and found good.
type settings struct {
	listen     []config.Endpoint
	tls        *tls.Config // nil without addresses that need it
	hostname   string
	debug      bool
	insecure   bool
	policy     *tlspolicy.Module
	deliverTo  module.DeliveryTarget
	store      *eventstore.Module // nil if there is none
	keys       module.Table
	sending    []string
	publicURL  string
	maxMessage int64
	requests   int
	rate       float64
	ui         bool
}

// directive is one that the block may hold, once.
type directive struct {
	name   string
	read   func(*config.Map, config.Node) error
	needed bool
	global bool // a global directive of this name may stand for it
}

func (s *settings) directives() []directive {
	return []directive{
		{name: "policy", read: s.readPolicy},
		{name: "deliver_to", read: s.readDeliverTo, needed: true},
		{name: "keys", read: s.readKeys, needed: true},
		{name: "store", read: s.readStore},
		{name: "tls", read: s.readTLS, global: true},
		{name: "hostname", read: s.readHostname, global: true},
		{name: "sending_domains", read: s.readSending},
		{name: "public_url", read: s.readPublicURL},
		{name: "max_message_size", read: s.readMaxMessage},
		{name: "max_requests", read: s.readMaxRequests},
		{name: "rate_limit", read: s.readRate},
		{name: "ui", read: boolean(&s.ui)},
		{name: "insecure_auth", read: boolean(&s.insecure)},
		{name: "debug", read: boolean(&s.debug), global: true},
	}
}

// parse reads the block. Every error carries file and line, the wrong word and
// the choices.
func parse(cfg *config.Map, addresses []string) (*settings, error) {
	s := &settings{policy: tlspolicy.BuiltIn(), maxMessage: api.DefaultMaxMessage, requests: api.DefaultMaxRequests, rate: api.DefaultRate, ui: true}
	seen, err := s.children(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.globals(cfg, seen); err != nil {
		return nil, err
	}
	for _, d := range s.directives() {
		if _, ok := seen[d.name]; d.needed && !ok {
			return nil, config.NodeErr(cfg.Block, "%s: missing directive %s", modName, d.name)
		}
	}
	if err := s.addresses(addresses); err != nil {
		return nil, config.NodeErr(cfg.Block, "%s: %v", modName, err)
	}
	return s, nil
}

// children reads the directives of the block.
func (s *settings) children(cfg *config.Map) (map[string]config.Node, error) {
	all := s.directives()
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.name
	}
	seen := make(map[string]config.Node)
	for _, node := range cfg.Block.Children {
		i := slices.Index(names, node.Name)
		if i < 0 {
			return nil, config.NodeErr(node, "unexpected directive %q in %s, expected one of %s", node.Name, modName, strings.Join(names, ", "))
		}
		if earlier, ok := seen[node.Name]; ok {
			return nil, config.NodeErr(node, "%s is already set at %s:%d", node.Name, earlier.File, earlier.Line)
		}
		seen[node.Name] = node
		if err := all[i].read(cfg, node); err != nil {
			return nil, placed(node, err)
		}
	}
	return seen, nil
}

// globals takes what the block leaves to global directives.
func (s *settings) globals(cfg *config.Map, seen map[string]config.Node) error {
	if _, ok := seen["tls"]; !ok {
		s.tls, _ = cfg.Globals["tls"].(*tls.Config)
	}
	if name, _ := cfg.Globals["hostname"].(string); name != "" && s.hostname == "" {
		var err error
		if s.hostname, err = traceName(name); err != nil {
			return config.NodeErr(cfg.Block, "hostname: unexpected %q, expected a domain name", name)
		}
	}
	if _, ok := seen["debug"]; !ok {
		s.debug, _ = cfg.Globals["debug"].(bool)
	}
	return nil
}

// placed gives an error file and line if it lacks them, as those of maddy's own
// helpers do.
func placed(node config.Node, err error) error {
	if node.File == "" || strings.HasPrefix(err.Error(), node.File+":") {
		return err
	}
	return config.NodeErr(node, "%s: %v", node.Name, err)
}

// addresses reads where to listen. A key must not cross a network in clear.
func (s *settings) addresses(all []string) error {
	if len(all) == 0 {
		return errors.New("no address to listen on, expected some like tls://0.0.0.0:8443")
	}
	for _, text := range all {
		a, err := config.ParseEndpoint(text)
		if err != nil {
			return fmt.Errorf("unexpected %q, expected an address like tls://0.0.0.0:8443, tcp://127.0.0.1:8025 or unix:///run/api.sock", text)
		}
		switch {
		case a.IsTLS() && s.tls == nil:
			return fmt.Errorf("%s needs a certificate, but tls is off or missing", text)
		case a.Scheme == "tcp" && !s.insecure && !loopback(a.Host):
			return fmt.Errorf("%s would take keys in clear from the network, expected tls://, or tcp:// with an address of this machine, "+
				"or insecure_auth yes", text)
		}
		s.listen = append(s.listen, a)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (s *settings) readPolicy(m *config.Map, node config.Node) error {
	found, err := tlspolicy.Directive(m, node)
	if err != nil {
		return err
	}
	s.policy = found.(*tlspolicy.Module)
	return nil
}

func (s *settings) readStore(m *config.Map, node config.Node) error {
	found, err := eventstore.Directive(m, node)
	if err != nil {
		return err
	}
	s.store = found.(*eventstore.Module)
	return nil
}

func (s *settings) readDeliverTo(m *config.Map, node config.Node) (err error) {
	if err := refers(node, "&name or a target"); err != nil {
		return err
	}
	s.deliverTo, err = modconfig.DeliveryTarget(m.Globals, node.Args, node)
	return err
}

func (s *settings) readKeys(m *config.Map, node config.Node) error {
	if err := refers(node, "&name or a table"); err != nil {
		return err
	}
	found, err := modconfig.TableDirective(m, node)
	if err != nil {
		return err
	}
	s.keys = found.(module.Table)
	return nil
}

// refers looks at a reference before maddy does, which says less.
func refers(node config.Node, expected string) error {
	if len(node.Args) == 0 {
		return fmt.Errorf("expected %s", expected)
	}
	name, ok := strings.CutPrefix(node.Args[0], "&")
	if ok && !module.HasInstance(name) {
		return fmt.Errorf("there is no block named %q", name)
	}
	return nil
}

func (s *settings) readTLS(m *config.Map, node config.Node) error {
	found, err := maddytls.TLSDirective(m, node)
	if err != nil {
		return err
	}
	s.tls, _ = found.(*tls.Config)
	return nil
}

func (s *settings) readHostname(_ *config.Map, node config.Node) error {
	const expected = "a domain name"
	arg, err := one(node, expected)
	if err != nil {
		return err
	}
	if s.hostname, err = traceName(arg); err != nil {
		return fmt.Errorf("unexpected %q, expected %s", arg, expected)
	}
	return nil
}

// traceName is a host name as it goes into a header field.
func traceName(name string) (string, error) {
	normal, err := policy.ParseDomain(name)
	if err != nil {
		return "", err
	}
	return idna.ToASCII(normal)
}

func (s *settings) readSending(_ *config.Map, node config.Node) error {
	if len(node.Args) == 0 || node.Children != nil {
		return errors.New("expected domains, or *.domain for all below one")
	}
	for _, name := range node.Args {
		if err := api.CheckDomain(name); err != nil {
			return fmt.Errorf("%v, expected a domain, or *.domain for all below it", err)
		}
	}
	s.sending = node.Args
	return nil
}

func (s *settings) readPublicURL(_ *config.Map, node config.Node) error {
	const expected = "a URL like https://api.example.org"
	arg, err := one(node, expected)
	if err != nil {
		return err
	}
	u, err := url.Parse(arg)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("unexpected %q, expected %s", arg, expected)
	}
	s.publicURL = arg
	return nil
}

func (s *settings) readMaxMessage(_ *config.Map, node config.Node) error {
	const expected = "a size from 4K to 100M"
	arg, err := one(node, expected)
	if err != nil {
		return err
	}
	n, err := config.ParseDataSize(arg)
	if err != nil || n < minMessage || n > maxMessage {
		return fmt.Errorf("unexpected %q, expected %s", arg, expected)
	}
	s.maxMessage = int64(n)
	return nil
}

func (s *settings) readMaxRequests(_ *config.Map, node config.Node) (err error) {
	s.requests, err = number(node, maxRequests)
	return err
}

func (s *settings) readRate(_ *config.Map, node config.Node) error {
	n, err := number(node, maxRate)
	s.rate = float64(n)
	return err
}

// one returns the only argument of a directive without a block.
func one(node config.Node, expected string) (string, error) {
	switch {
	case node.Children != nil:
		return "", fmt.Errorf("unexpected block, expected %s", expected)
	case len(node.Args) == 0 || node.Args[0] == "":
		return "", fmt.Errorf("expected %s", expected)
	case len(node.Args) > 1:
		return "", fmt.Errorf("unexpected %q after %q, expected %s", node.Args[1], node.Args[0], expected)
	}
	return node.Args[0], nil
}

// number reads a number from 1 to most.
func number(node config.Node, most int) (int, error) {
	expected := fmt.Sprintf("a number from 1 to %d", most)
	arg, err := one(node, expected)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("unexpected %q, expected %s", arg, expected)
	}
	return n, nil
}

// boolean reads yes or no; without an argument it is yes, as everywhere in maddy.
func boolean(store *bool) func(*config.Map, config.Node) error {
	return func(_ *config.Map, node config.Node) error {
		*store = true
		if len(node.Args) == 0 && node.Children == nil {
			return nil
		}
		arg, err := one(node, "yes or no")
		if err != nil {
			return err
		}
		if *store, err = config.ParseBool(arg); err != nil {
			return fmt.Errorf("unexpected %q, expected yes or no", arg)
		}
		return nil
	}
}

// config is what the API is made of.
func (s *settings) config(logger *log.Logger, ending context.Context) api.Config {
	keys := newKeys(s.keys)
	c := api.Config{
		Keys:           keys,
		Mail:           &mail{target: s.deliverTo, policy: s.policy, hostname: s.hostname, log: logger, ending: ending},
		Domains:        domains{s.policy.Domains(), logger},
		SendingDomains: s.sending,
		PublicURL:      s.publicURL,
		MaxMessage:     s.maxMessage,
		MaxRequests:    s.requests,
		Rate:           s.rate,
		Count:          metrics.Default().API(api.Routes()),
		Log:            func(msg string, fields ...any) { logger.Msg(msg, fields...) },
	}
	if s.ui {
		c.UI = ui.Handler()
	}
	c.Ready = checks(keys, s.policy.Domains())
	if s.store != nil && s.store.Store() != nil {
		c.Events = store{s.store.Store(), logger, s.hostname}
		c.Ready["events"] = s.store.Store().Ready
	}
	return c
}
