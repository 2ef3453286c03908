package tlsrpt

import (
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
	Mail   bool // send to mailto endpoints
	HTTPS  bool // send to https endpoints
	Key    *Key // nil: mail is signed elsewhere
	// Roots verify https endpoints; nil means the system's.
	Roots *x509.CertPool
	// AllowPrivate lets https endpoints be at private and local addresses.
	AllowPrivate bool
	Resolver     Resolver
	// Settle is how long Start lets those who take reports get ready. Zero means
	// that they are.
	Settle time.Duration
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger
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
	complained time.Time

	files sync.Mutex // held while files of counts are read or written
	lock  *os.File   // nil until the directory is ours
	salt  string     // set with lock, then constant
	full  string     // the day whose file can take no more

	steps   sync.Mutex
	batches map[string]*batch // days that are over; nil where all is done

	flushing, sending loop
}

// Open starts to count. A directory that cannot be used costs report data and a
// line in the log, and is tried again.
func Open(cfg Config) *Reporter {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reporter{
		cfg:         cfg,
		maxDayBytes: maxDayBytes,
		pending:     newPending(),
		batches:     make(map[string]*batch),
	}
	r.client = r.newClient()
	if err := r.own(); err != nil {
		r.complain(err)
	}
	r.flushing.start(0, flushEvery, func(context.Context, <-chan struct{}) {
		defer r.recovered("writing TLS report data")
		r.flush()
	})
	return r
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

// Close stops sending, writes what has been counted and lets go of the
// directory. Sessions that are recorded later are not counted.
func (r *Reporter) Close() error {
	r.StopSending()
	r.flushing.stop()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.flush()
	r.files.Lock()
	defer r.files.Unlock()
	if r.lock == nil {
		return nil
	}
	lock := r.lock
	r.lock = nil
	return lock.Close()
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
	lock, err := os.OpenFile(filepath.Join(r.cfg.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return fmt.Errorf("%s is in use by another block or process: %w", r.cfg.Dir, err)
	}
	salt, err := makeSalt(r.cfg.Dir)
	if err != nil {
		lock.Close()
		return err
	}
	r.lock, r.salt = lock, salt
	return nil
}

// saltLength is that of rand.Text.
const saltLength = 26

func saltPath(dir string) string { return filepath.Join(dir, "id") }

// readSalt returns what tells this installation apart from others, empty if
// nothing has been counted yet.
func readSalt(dir string) (string, error) {
	salt, err := os.ReadFile(saltPath(dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(salt) != saltLength {
		return "", nil
	}
	return string(salt), err
}

// makeSalt is readSalt, and draws it where there is none.
func makeSalt(dir string) (string, error) {
	salt, err := readSalt(dir)
	if err != nil || salt != "" {
		return salt, err
	}
	salt = rand.Text()[:saltLength]
	temp := saltPath(dir) + ".new"
	if err := os.WriteFile(temp, []byte(salt), 0o600); err != nil {
		return "", err
	}
	return salt, os.Rename(temp, saltPath(dir))
}
