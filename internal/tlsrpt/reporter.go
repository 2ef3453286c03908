package tlsrpt

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"tlscontrol/internal/route"
)

// Resolver finds TLSRPT records, and the hosts of https endpoints.
// *route.Resolver is one.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	Addresses(ctx context.Context, host string, ipv4Only bool) (route.Addresses, error)
}

// Config is all that a Reporter is made of.
type Config struct {
	Dir    string // for what has been counted and sent; belongs to one Reporter
	Sender Sender
	// Database is the connection string of the PostgreSQL where relays of one
	// Sender bring together what they count, to send one report; "" is for none.
	Database string
	Relay    string // this relay's name, for people
	Mail     bool   // send to mailto endpoints
	HTTPS    bool   // send to https endpoints
	Key      *Key   // nil: mail is signed elsewhere
	// Roots verify https endpoints; nil means the system's.
	Roots *x509.CertPool
	// AllowPrivate lets https endpoints be at private and local addresses.
	AllowPrivate bool
	Resolver     Resolver
	// Settle is how long Start lets those who take reports get ready. Zero means
	// that they are.
	Settle time.Duration
	Count  Counter          // nil: nobody watches
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger

	uploadEvery time.Duration    // zero means uploadEvery
	leaveWithin time.Duration    // zero means leaveWithin
	database    func() time.Time // the database's clock; nil: it is asked
}

// Reporter counts sessions and sends reports about them. Make it with Open, let
// it send with Start, end it with Close.
type Reporter struct {
	cfg         Config
	client      *http.Client
	maxDayBytes int64
	mailer      Mailer // set by Start

	mu         sync.Mutex
	pending    pending
	closed     bool
	complained map[string]time.Time // by message

	files sync.Mutex   // held while files of counts are read or written
	lock  *flock.Flock // nil until the directory is ours
	id    string       // of this installation; set with lock, then constant
	full  string       // the day whose file can take no more

	steps  sync.Mutex
	local  *local
	shared *shared // nil if this relay reports for itself

	flushing, sending, uploading loop
}

// Open starts to count. A directory or a database that cannot be used costs report
// data at worst, and a line in the log, and is tried again. The error is about
// cfg.Database.
func Open(cfg Config) (*Reporter, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Count == nil {
		cfg.Count = uncounted{}
	}
	r := &Reporter{
		cfg:         cfg,
		maxDayBytes: maxDayBytes,
		pending:     newPending(),
		complained:  make(map[string]time.Time),
	}
	r.local = &local{Reporter: r, batches: make(map[string]*batch)}
	r.client = r.newClient()
	if cfg.Database != "" {
		var err error
		if r.shared, err = openShared(r); err != nil {
			return nil, err
		}
	}
	if err := r.own(); err != nil {
		r.complain(err)
	}
	r.flushing.start(0, flushEvery, func(context.Context, <-chan struct{}) {
		defer r.recovered("writing TLS report data")
		r.flush()
	})
	if r.shared != nil {
		every := cmp.Or(cfg.uploadEvery, uploadEvery)
		r.uploading.start(every, every, func(ctx context.Context, _ <-chan struct{}) {
			defer r.recovered("uploading TLS report data")
			r.shared.tryUpload(ctx)
		})
	}
	return r, nil
}

// ledgers are where reports may be due.
func (r *Reporter) ledgers() []ledger {
	if r.shared == nil {
		return []ledger{r.local}
	}
	return []ledger{r.local, r.shared}
}

// Start begins to send reports, those of earlier days first, once cfg.Settle is
// over. m takes mail.
func (r *Reporter) Start(m Mailer) {
	r.mailer = m
	r.sending.start(r.cfg.Settle, stepEvery, func(ctx context.Context, quit <-chan struct{}) {
		defer r.recovered("sending TLS reports")
		r.step(ctx, quit)
	})
}

// StopSending ends what Start began, and returns when nothing is on its way. A
// report that is has some seconds to arrive, lest it is sent again; what else is
// due goes out after the next Start.
func (r *Reporter) StopSending() { r.sending.stop() }

// Close stops sending, writes what has been counted, for some seconds also to the
// database, and lets go of the directory. Sessions that are recorded later are
// not counted.
func (r *Reporter) Close() error {
	var stopping sync.WaitGroup // together, because each may have its grace
	for _, l := range []*loop{&r.sending, &r.flushing, &r.uploading} {
		stopping.Go(l.stop)
	}
	stopping.Wait()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.flush()
	if r.shared != nil {
		r.shared.leave()
	}
	r.files.Lock()
	defer r.files.Unlock()
	if r.lock == nil {
		return nil
	}
	lock := r.lock
	r.lock = nil
	return lock.Unlock()
}

// own takes the directory, unless it is ours already.
func (r *Reporter) own() error {
	r.files.Lock()
	defer r.files.Unlock()
	return r.ownLocked()
}

func (r *Reporter) ownLocked() error {
	if r.lock != nil {
		return nil
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(r.cfg.Dir, "lock")) // ends with the process, too
	if ours, err := lock.TryLock(); err != nil {
		return err
	} else if !ours {
		return fmt.Errorf("%s is in use by another block or process", r.cfg.Dir)
	}
	id, err := makeID(r.cfg.Dir)
	if err != nil {
		return errors.Join(err, lock.Unlock())
	}
	r.lock, r.id = lock, id
	return nil
}

// idLength is that of rand.Text.
const idLength = 26

func idPath(dir string) string { return filepath.Join(dir, "id") }

// readID returns what tells this installation apart from others, empty if
// nothing has been counted yet.
func readID(dir string) (string, error) {
	id, err := os.ReadFile(idPath(dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(id) != idLength {
		return "", nil
	}
	return string(id), err
}

// makeID is readID, and draws it where there is none.
func makeID(dir string) (string, error) {
	id, err := readID(dir)
	if err != nil || id != "" {
		return id, err
	}
	id = rand.Text()[:idLength]
	temp := idPath(dir) + ".new"
	if err := os.WriteFile(temp, []byte(id), 0o600); err != nil {
		return "", err
	}
	return id, os.Rename(temp, idPath(dir))
}
