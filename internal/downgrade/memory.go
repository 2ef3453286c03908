package downgrade

import (
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"tlscontrol/internal/tlsplan"
)

// Config is all that a Memory is made of. The zero value remembers nothing.
type Config struct {
	// Path is the file; see File. With "" evidence is kept in memory alone.
	Path   string
	Keep   time.Duration // how long evidence counts; 0: nothing is remembered
	Action Action        // Off, or "": nothing is remembered
	Log    *slog.Logger  // nil: nothing is logged

	// ReadOnly reads the file once and leaves it as it is, for commands beside the
	// server that owns it.
	ReadOnly bool

	// Interval is how often changes are written and requests looked for; 0 is
	// the default.
	Interval time.Duration
	// MaxHosts bounds how many hosts are remembered; 0 is the default.
	MaxHosts int
	// Now is the clock; nil is the real one.
	Now func() time.Time
}

const (
	// defaultInterval bounds what a crash costs, and how long "forget" takes.
	defaultInterval = 3 * time.Second
	// defaultMaxHosts is more than a large relay talks to in a month. A host
	// takes some 300 octets of memory, and 80 in the file.
	defaultMaxHosts = 100_000
	// tellAgain is how long a complaint that would repeat itself is held back.
	tellAgain = time.Hour
	// tryAgain is how long a disk that failed is left alone.
	tryAgain = time.Minute
)

// Memory is the evidence of one target. A nil Memory, as Open returns it if
// nothing is to be remembered, expects nothing of anybody.
type Memory struct {
	cfg Config

	mu    sync.Mutex
	hosts *simplelru.LRU[string, known] // the one whose proof was noted last is the newest
	dirty map[string]struct{}           // what the file does not have yet
	lines int                           // in the file
	whole bool                          // the file has to be written anew

	// Of the goroutine alone: when writing failed last, and when a failure was
	// logged last.
	failed, complained time.Time

	closing    sync.Once
	stop, done chan struct{}
}

// known is what is known of a host.
type known struct {
	Evidence
	told time.Time // when its falling short was logged last
}

// Open reads the file and begins to remember. What is wrong with the file is
// logged: it costs memories, never a delivery.
func Open(cfg Config) *Memory {
	if cfg.Keep <= 0 || cfg.Action == "" || cfg.Action == Off {
		return nil
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.MaxHosts <= 0 {
		cfg.MaxHosts = defaultMaxHosts
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Memory{cfg: cfg, dirty: make(map[string]struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	// NewLRU fails only for a size that is not positive.
	m.hosts, _ = simplelru.NewLRU[string, known](cfg.MaxHosts, func(host string, _ known) { delete(m.dirty, host) })
	if m.cfg.ReadOnly {
		m.look()
	} else if m.cfg.Path != "" && !m.load() {
		m.cfg.Path = ""
	}
	if m.cfg.Path == "" {
		close(m.done)
	} else {
		go m.keepUp()
	}
	return m
}

// Close writes what is not written yet and ends the Memory's goroutine. What is
// proved afterwards is not written any more.
func (m *Memory) Close() {
	if m == nil {
		return
	}
	m.closing.Do(func() { close(m.stop) })
	<-m.done
}

// Action is what to do about hosts that give less.
func (m *Memory) Action() Action {
	if m == nil {
		return Off
	}
	return m.cfg.Action
}

// Expected says what p may expect of the host.
func (m *Memory) Expected(host string, p tlsplan.Plan) Expectation {
	if m == nil || p.Requires() {
		return Expectation{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.hosts.Peek(host)
	if !ok {
		return Expectation{}
	}
	return k.after(m.since()).Expect(p)
}

// Proved notes that a connection to the host was made and turned out as o.
func (m *Memory) Proved(host string, o tlsplan.Outcome) {
	if m == nil || !o.TLS || !ValidHost(host) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, _ := m.hosts.Peek(host)
	next, changed := k.after(m.since()).with(o, m.now())
	if !changed {
		return
	}
	m.hosts.Add(host, known{Evidence: next, told: k.told})
	if m.cfg.Path != "" {
		m.dirty[host] = struct{}{}
	}
}

// Tell reports whether it should be logged that the host falls short. Each time
// would be too often: a host that does takes all its mail that way.
func (m *Memory) Tell(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.hosts.Peek(host)
	now := m.now()
	if !ok || recent(k.told, now, tellAgain) {
		return false
	}
	k.told = now
	// An entry that is replaced becomes the newest, although nothing was proved;
	// that only makes it stay.
	m.hosts.Add(host, k)
	return true
}

// now is the clock, as exact as the file.
func (m *Memory) now() time.Time { return m.cfg.Now().UTC().Truncate(time.Second) }

// since is how old evidence may be that counts.
func (m *Memory) since() time.Time { return m.now().Add(-m.cfg.Keep) }

// recent reports whether then is less than d ago. What lies in the future was
// noted under a clock that was wrong.
func recent(then, now time.Time, d time.Duration) bool {
	return now.Sub(then) < d && !then.After(now)
}
