package events

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/status"
)

// The drivers.
const (
	SQLite   = "sqlite3"
	Postgres = "postgres"
)

// Sizes of what waits in memory, in octets. The first is on its way to the
// journal, a matter of milliseconds; the second is there while the journal
// cannot be written.
const (
	maxQueue  = 8 << 20
	maxDirect = 32 << 20
	usualSize = 1300 // of a document
)

// maxDrain is how long Close waits for the disk, and for the database.
const maxDrain = 3 * time.Second

// defaultQueryTimeout bounds a question that no index helps with.
const defaultQueryTimeout = 10 * time.Second

// Config is what a Store is made of.
type Config struct {
	Driver string // SQLite or Postgres
	DSN    string // the path of a file, or a connection string
	// Keep is how long events are kept; zero is for ever.
	Keep    time.Duration
	Journal journal.Config
	// Headers are the header fields that documents of attempts quote.
	Headers []string
	// QueryTimeout bounds each question; zero is 10 s.
	QueryTimeout time.Duration
	Counter      Counter // may be nil
	// Report is told in words what went wrong, for the operator's log, of each
	// kind once a minute, and that the database is away or back, at once. May be
	// nil; called from several goroutines.
	Report func(msg string)

	// For tests; zero is what they are.
	partSize                  int64
	storeTimeout, keepTimeout time.Duration
	drain                     time.Duration
}

// Counter counts events; internal/metrics has one.
type Counter interface {
	Stored(n int)         // documents that the database took
	Lost(n int)           // documents that it will never get
	Backlog(octets int64) // what waits for it now
}

// Store is an event store. It is a delivery.Observer.
type Store struct {
	cfg      Config
	db       *database
	options  status.Options
	reporter *reporter

	queue   *queue                          // to the writer
	direct  *queue                          // from the writer to the shipper, past the journal
	journal atomic.Pointer[journal.Journal] // nil while it cannot be opened
	past    atomic.Bool                     // what came last had to go past it
	arrived chan struct{}                   // something is in the journal

	stopWriter, writerDone   chan struct{}
	stopShipper, shipperDone chan struct{}
	keeperDone               chan struct{}
	ctx                      context.Context // of everything done in the database
	cancel                   context.CancelFunc

	close    sync.Once
	closeErr error
}

var _ delivery.Observer = (*Store)(nil)

// Open starts a store. An error is about the configuration; a database or a
// journal that cannot be had now is reported, and tried again.
func Open(cfg Config) (*Store, error) {
	db, err := openDatabase(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.QueryTimeout == 0 {
		cfg.QueryTimeout = defaultQueryTimeout
	}
	if cfg.Counter == nil {
		cfg.Counter = uncounted{}
	}
	s := &Store{
		cfg: cfg, db: db, options: status.Options{Headers: status.HeaderNames(cfg.Headers...)},
		reporter:    startReporter(cfg.Report),
		queue:       newQueue(maxQueue),
		direct:      newQueue(maxDirect),
		arrived:     make(chan struct{}, 1),
		stopWriter:  make(chan struct{}),
		writerDone:  make(chan struct{}),
		stopShipper: make(chan struct{}),
		shipperDone: make(chan struct{}),
		keeperDone:  make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	w := &writer{Store: s}
	w.openJournal()
	go w.run()
	go (&shipper{Store: s}).run()
	go s.keep()
	return s, nil
}

func openDatabase(cfg Config) (*database, error) {
	switch cfg.Driver {
	case SQLite:
		return openSQLite(cfg.DSN, cmp.Or(cfg.partSize, partSize)), nil
	case Postgres:
		return openPostgres(cfg.DSN)
	}
	return nil, fmt.Errorf("there is no driver %q", cfg.Driver)
}

// documents holds buffers for documents on their way to the queue.
var documents = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the size up to which such a buffer is kept.
const maxKept = 64 << 10

// Concluded adds the document of a. It does not wait for anything.
func (s *Store) Concluded(a *delivery.Attempt, _ float64) {
	buf := documents.Get().(*[]byte)
	line := status.Append((*buf)[:0], a, s.options)
	s.put(bytes.TrimSuffix(line, []byte("\n")), s.queue.put)
	if cap(line) <= maxKept {
		*buf = line
		documents.Put(buf)
	}
}

// Add adds an event. It does not wait for anything: the event can be asked for
// some tenths of a second later.
func (s *Store) Add(e Event) { s.put(e.document, s.queue.put) }

// AddPatiently is Add for those who can wait where the disk does not keep up, until
// the context ends: events of deliveries, which cannot, have room meanwhile.
func (s *Store) AddPatiently(ctx context.Context, e Event) {
	s.put(e.document, func(document []byte) bool { return s.queue.putPatiently(ctx, document) })
}

func (s *Store) put(document []byte, into func([]byte) bool) {
	if len(document) > journal.MaxLine {
		s.lost(1, "too large")
	} else if !into(document) {
		s.lost(1, "the disk does not keep up, or the store is closed")
	}
}

// Connected, Troubled, Secured and PoolChanged make Store a delivery.Observer; events are
// about results alone.
func (s *Store) Connected(delivery.Connected) {}

// Troubled does nothing.
func (s *Store) Troubled(delivery.Trouble) {}

// Secured does nothing.
func (s *Store) Secured(*delivery.Secured) {}

// PoolChanged does nothing.
func (s *Store) PoolChanged(idle, busy int) {}

// newest asks for what every question reads, of one row at the end of an index.
const newest = "SELECT document FROM events ORDER BY ts DESC LIMIT 1"

// Ready returns nil if questions are answered now: the table is asked, because a
// database can answer without it. That events cannot be stored (a full disk) does not
// count: they wait in the journal, and those that are there can be asked for.
func (s *Store) Ready(ctx context.Context) error {
	if !s.db.ready.Load() {
		return s.db.unavailable()
	}
	if s.db.moved() {
		return fmt.Errorf("%w: its file was removed or replaced", ErrUnavailable)
	}
	var document []byte
	err := s.db.read.QueryRowContext(ctx, newest).Scan(&document)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func (s *Store) lost(n int, cause string) {
	if n > 0 {
		s.cfg.Counter.Lost(n)
		s.reporter.lost(n, cause)
	}
}

// waiting says what becomes of events while the database is away.
func (s *Store) waiting() string {
	if s.journal.Load() != nil && !s.past.Load() {
		return "events wait in the journal"
	}
	return fmt.Sprintf("the journal cannot be used, events wait in memory, %d MiB of them (some %d), and are lost when maddy ends before",
		maxDirect>>20, maxDirect/usualSize/1000*1000)
}

// backlog tells the counter how many octets wait, and returns it.
func (s *Store) backlog() int64 {
	n := int64(s.queue.size() + s.direct.size())
	if j := s.journal.Load(); j != nil {
		n += j.Backlog()
	}
	s.cfg.Counter.Backlog(n)
	return n
}

// panicked tells of a mistake of ours, which must not end the process.
func (s *Store) panicked(doing string, p any) {
	s.reporter.note("panic while "+doing, fmt.Sprint(p))
}

// Close stores what waits, as far as the database takes it within some seconds;
// the rest stays in the journal for the next process. What is added later is
// lost, and counted.
func (s *Store) Close() error {
	s.close.Do(func() { s.closeErr = s.closeOnce() })
	return s.closeErr
}

func (s *Store) closeOnce() error {
	drain := cmp.Or(s.cfg.drain, maxDrain)
	s.queue.close()
	close(s.stopWriter)
	written := ended(s.writerDone, drain)
	close(s.stopShipper)
	if !ended(s.shipperDone, drain) {
		s.cancel()
	}
	shipped := ended(s.shipperDone, drain)
	s.cancel()
	kept := ended(s.keeperDone, drain)
	var err error
	if j := s.journal.Load(); j != nil && written && shipped {
		err = j.Close()
	}
	if written && shipped {
		_, n := s.direct.take(nil)
		s.lost(n, "neither the journal nor the database took them before the end")
	}
	if !written || !shipped || !kept {
		err = errors.Join(err, errors.New("the event store is stuck"))
	} else {
		err = errors.Join(err, s.db.close())
	}
	s.reporter.close(drain)
	return err
}

// ended reports whether done was closed in time.
func ended(done <-chan struct{}, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// uncounted is a Counter that does not count.
type uncounted struct{}

func (uncounted) Stored(int)    {}
func (uncounted) Lost(int)      {}
func (uncounted) Backlog(int64) {}
