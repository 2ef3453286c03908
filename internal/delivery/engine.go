package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	nettextproto "net/textproto"
	"runtime/debug"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/health"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/pool"
	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// Policies says what TLS the sender wants.
type Policies interface {
	// Row fetches what is kept elsewhere about a sending domain, nil if nothing
	// is. It is asked once for a message, so that a row that changes does not
	// give one message two policies. An error, which Row has logged, defers
	// the message; it is never answered with a guess.
	Row(ctx context.Context, sendingDomain string) (*policy.Block, error)
	// Decide is pure.
	Decide(policy.Question) policy.Settings
}

// Routes says where mail for a domain goes. Errors are *route.Error.
type Routes interface {
	Route(ctx context.Context, domain string) (route.Route, error)
	Addresses(ctx context.Context, host string, ipv4Only bool) (route.Addresses, error)
	// HostTLSA is asked only if Config.DANE is set, with what Addresses said.
	HostTLSA(ctx context.Context, host string, at route.Addresses, port int) (route.TLSA, error)
	// Close is called by Engine.Close, when nothing is asked any more.
	Close()
}

// Limits are the rate and concurrency limits of maddy's `limits` block. Each
// successful Take is followed by one Release with the same arguments.
type Limits interface {
	TakeMsg(ctx context.Context, addr net.IP, sourceDomain string) error
	TakeDest(ctx context.Context, domain string) error
	ReleaseMsg(addr net.IP, sourceDomain string)
	ReleaseDest(domain string)
}

// Config is all that an Engine is made of. Fields without a remark are
// required.
type Config struct {
	Module   string // instance name, for log and metrics
	Hostname string // EHLO argument, A-labels
	// OwnNames are those by which a server shows in its greeting, or its reply to
	// EHLO, that it is this one; A-labels. None: that is not looked at.
	OwnNames []string
	Port     int // of all MX hosts

	Policies Policies
	Fields   policy.Fields              // names of the override fields
	Key      func() (policy.Key, error) // of the override stamps
	Routes   Routes
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	IPv4Only bool
	Admits   func(netip.Addr) bool // addresses that may be dialled; nil: all of them
	TLS      *tls.Config           // roots, versions, ciphers, client certificate; nil is the default
	Wire     smtpwire.Config
	Limits   Limits // nil: none

	MinTLS            tlsplan.Level   // min_tls_level of local_policy
	MinMX             tlsplan.MXLevel // min_mx_level of local_policy
	RelaxedREQUIRETLS bool

	DANE bool // TLSA records count
	STS  STS  // MTA-STS policies count; nil: they do not
	// TLSRequiredOverride lets messages lift what recipients publish with the
	// field TLS-Required.
	TLSRequiredOverride bool

	ConnectTimeout time.Duration // for one TCP connection
	ProbePatience  time.Duration // how long a delivery waits for a probe; 0 is the default
	Places         health.PlacesConfig
	Breakers       health.BreakersConfig
	ReuseLimit     int // messages carried by one connection after its first
	Pool           pool.Config
	Memory         downgrade.Config // zero: hosts are not remembered; its Log is that of the engine

	Observers []Observer
	Log       *slog.Logger
}

// maxTracked bounds for how many message and recipient pairs attempts are
// counted; the oldest are forgotten first. An entry is about 200 octets.
const maxTracked = 100_000

// maxCareful bounds how many hosts are remembered that broke off in a flight or gave
// more replies than there were commands, and messages that were in it.
const maxCareful = 1000

// maxTickets bounds for how many hosts TLS sessions can be resumed. With its
// certificates a session is some 8 KiB.
const maxTickets = 500

// closeGrace is how long Close lets running deliveries come to their end. It
// is short because whoever waits for Close is stopping the server, and long
// enough for a reply that is on its way.
const closeGrace = 5 * time.Second

// Engine delivers messages. Make it with New, end it with Close.
type Engine struct {
	cfg      Config
	pool     *pool.Pool[*session]
	places   *health.Places
	breakers *health.Breakers
	memory   *downgrade.Memory
	tickets  tls.ClientSessionCache       // to resume TLS sessions, by host name
	careful  *lru.Cache[string, struct{}] // hosts to whom the envelope goes first, and copyKey
	attempts *lru.Cache[attemptKey, int]
	ours     []string // fields that never leave, in the form in which header keys are kept

	stop   context.CancelFunc // ends every wait of every delivery
	base   context.Context
	probes context.Context // of probes that no delivery waits for; ends when Close begins
	unask  context.CancelFunc
	mu     sync.Mutex
	closed bool
	active sync.WaitGroup // deliveries, and work done behind them
}

// errClosed is the cause of failures after Close.
var errClosed = errors.New("the target is closed")

// New makes an Engine.
func New(cfg Config) *Engine {
	if cfg.TLS == nil {
		cfg.TLS = &tls.Config{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: cfg}
	for _, name := range append(cfg.Fields.Names(), policy.StampField) {
		e.ours = append(e.ours, nettextproto.CanonicalMIMEHeaderKey(name))
	}
	cfg.Memory.Log = cfg.Log
	e.memory = downgrade.Open(cfg.Memory)
	if e.cfg.ProbePatience == 0 {
		e.cfg.ProbePatience = probePatience
	}
	e.base, e.stop = context.WithCancel(context.Background())
	e.cfg.Wire.Stop = e.base
	e.probes, e.unask = context.WithCancel(e.base)
	e.begin()
	return e
}

// begin makes what an engine learns while it works: what it keeps, and whom it
// avoids.
func (e *Engine) begin() {
	cfg := &e.cfg
	e.tickets = tls.NewLRUClientSessionCache(maxTickets)
	cfg.Pool.IdleChanged = func(by int) { e.observe(func(o Observer) { o.PoolChanged(by, 0) }) }
	e.tellHealth(cfg)
	cfg.Pool.Panicked = func(p any) { e.panicked("closing an idle connection", p) }
	e.pool = pool.New[*session](cfg.Pool)
	e.places, e.breakers = health.NewPlaces(cfg.Places), health.NewBreakers(cfg.Breakers)
	// New fails only for a size that is not positive.
	e.attempts, _ = lru.New[attemptKey, int](maxTracked)
	e.careful, _ = lru.New[string, struct{}](maxCareful)
}

// tellHealth lets what keeps deliveries back be told to the observers that want
// to know.
func (e *Engine) tellHealth(cfg *Config) {
	cfg.Breakers.Changed = func(c health.BreakerChange) {
		e.observe(func(o Observer) {
			if h, ok := o.(HealthObserver); ok {
				h.BreakerChanged(c)
			}
		})
	}
	cfg.Places.Changed = func(c health.PlaceChange) {
		e.observe(func(o Observer) {
			if h, ok := o.(HealthObserver); ok {
				h.PlaceChanged(c)
			}
		})
	}
}

// Close lets running deliveries end for a few seconds, stops those that have
// not, closes every connection, and returns when no goroutine is left.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()

	e.unask()
	grace := time.AfterFunc(closeGrace, e.stop)
	e.active.Wait()
	grace.Stop()
	e.pool.Close() // before stop, which would not let it say QUIT
	e.stop()
	if e.cfg.STS != nil {
		e.cfg.STS.Close()
	}
	e.cfg.Routes.Close()
	e.memory.Close()
}

// BeginClose gives deliveries as long as Close does, and then stops them. It
// returns at once. It is for a shutdown in which Close comes too late: maddy
// closes a queue before the queue's target, and the queue waits for its
// deliveries, as long as a silent host makes them last.
func (e *Engine) BeginClose() {
	time.AfterFunc(closeGrace, e.stop)
}

// enter counts a running delivery, or refuses it after Close, and as soon as
// running ones are being stopped.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.base.Err() != nil {
		return errClosed
	}
	e.active.Add(1)
	return nil
}

// behind runs f after the status was given back; Close waits for it. The caller
// is inside a delivery, so the count cannot be zero.
func (e *Engine) behind(f func()) {
	e.active.Add(1)
	go func() {
		defer e.active.Done()
		defer e.recovered("closing a connection")
		f()
	}()
}

// observe tells every observer, whatever the others do.
func (e *Engine) observe(tell func(Observer)) {
	for _, o := range e.cfg.Observers {
		func() {
			defer e.recovered("an observer")
			tell(o)
		}()
	}
}

// recovered is deferred where a panic must not go on; it logs it.
func (e *Engine) recovered(where string) {
	if p := recover(); p != nil {
		e.cfg.Log.Error("panic in "+where, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// addrOf returns the IP address of a TCP address, invalid if it has none.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
