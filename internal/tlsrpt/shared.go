package tlsrpt

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	"tlscontrol/internal/postgres"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Bounds of what is asked of the database.
const (
	maxConns     = 4
	askWithin    = 30 * time.Second
	prepareLimit = 5 * time.Minute // other relays may be making the tables
	maxDue       = 1000            // tasks at a time
)

// shared is the ledger of relays that report together: tables in PostgreSQL. Each
// relay brings what it has counted (upload.go), and any of them sends what is
// due. Whoever counts up the attempts of a report makes the next one; the others
// leave it alone until that is over, also if the relay that makes it is lost.
type shared struct {
	*Reporter
	db        *sql.DB
	submitter string
	maxRows   int

	preparing chan struct{} // has one element, which is taken meanwhile
	ready     atomic.Bool   // the tables are there

	uploads sync.Mutex  // held while parts are made and brought
	away    atomic.Bool // the last upload failed
	left    sync.Once
	relay   string // the name of the row that says how far this relay is; "" until it has said so
	process string // drawn by this process

	waits map[string]bool // days about whose relays a line has been logged
}

// openShared makes the handle; nothing is connected yet.
func openShared(r *Reporter) (*shared, error) {
	c, err := postgres.Connector(r.cfg.Database)
	if err != nil {
		return nil, err
	}
	s := &shared{
		Reporter: r, db: sql.OpenDB(c), submitter: r.cfg.Sender.Submitter(), maxRows: maxShared, process: rand.Text(),
		preparing: make(chan struct{}, 1), waits: make(map[string]bool),
	}
	s.preparing <- struct{}{}
	s.db.SetMaxOpenConns(maxConns)
	s.db.SetConnMaxIdleTime(time.Minute)
	return s, nil
}

// prepare makes the tables and draws the salt, where that has not been done.
func (s *shared) prepare(ctx context.Context) error {
	select {
	case <-s.preparing:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.preparing <- struct{}{} }()
	if s.ready.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, prepareLimit)
	defer cancel()
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, s.db, folder, "tlsrpt_schema"); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, "INSERT INTO tlsrpt_submitters (submitter, salt) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		s.submitter, rand.Text()); err != nil {
		return err
	}
	s.ready.Store(true)
	return nil
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func saltOf(ctx context.Context, db querier, submitter string) (salt string, err error) {
	err = db.QueryRowContext(ctx, "SELECT salt FROM tlsrpt_submitters WHERE submitter = $1", submitter).Scan(&salt)
	return salt, err
}

// clocksApart is how far the clocks of this machine and of the database may be from
// each other. Beyond that a relay neither brings what it has counted, perhaps for a
// wrong day, nor reports a day that goes on, nor removes what others have counted.
const clocksApart = 5 * time.Minute

// now implements ledger. It is the database's time: relays whose clocks differ must
// agree on whose attempt lasts until when.
func (s *shared) now(ctx context.Context) (now time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if s.cfg.database != nil {
		now = s.cfg.database()
	} else if err := s.db.QueryRowContext(ctx, "SELECT now()").Scan(&now); err != nil {
		return time.Time{}, err
	}
	if apart := s.cfg.Now().Sub(now).Abs(); apart > clocksApart {
		return time.Time{}, fmt.Errorf("the clock of this machine is not that of the database: %s apart", apart.Round(time.Second))
	}
	return now.UTC(), nil
}

// due implements ledger. It also removes what is too old; if that fails, reports go
// out all the same.
func (s *shared) due(ctx context.Context, now time.Time) (tasks []task, err error) {
	err = s.do(ctx, askWithin, func(ctx context.Context) error {
		tasks, err = s.allDue(ctx, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tasks, s.do(ctx, askWithin, func(ctx context.Context) error { return s.forget(ctx, now) })
}

// do does something with the prepared database. After an error it is prepared
// anew: somebody may have put another one in its place.
func (s *shared) do(ctx context.Context, within time.Duration, what func(context.Context) error) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := what(ctx)
	if err != nil {
		s.ready.Store(false)
	}
	return err
}

func (s *shared) allDue(ctx context.Context, now time.Time) ([]task, error) {
	days, err := column[string](s.db.QueryContext(ctx, "SELECT DISTINCT to_char(day, 'YYYY-MM-DD') FROM tlsrpt_reports "+
		"WHERE submitter = $1 AND done = '' AND next <= $2", s.submitter, now))
	if err != nil {
		return nil, err
	}
	var tasks []task
	for _, day := range days {
		complete, err := s.complete(ctx, day, now)
		if err != nil {
			return nil, err
		}
		if !complete {
			continue
		}
		more, err := s.dueOf(ctx, day, now)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, more...)
	}
	return tasks, nil
}

// dueOf lists the reports about one day.
func (s *shared) dueOf(ctx context.Context, day string, now time.Time) ([]task, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT domain, try, first FROM tlsrpt_reports "+
		"WHERE submitter = $1 AND day = $2 AND done = '' AND next <= $3 ORDER BY next LIMIT $4", s.submitter, day, now, maxDue)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var tasks []task
	for rows.Next() {
		t := task{day: day}
		var first sql.NullTime
		if err := rows.Scan(&t.domain, &t.try, &first); err != nil {
			return nil, err
		}
		t.first = first.Time
		tasks = append(tasks, t)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return tasks, s.recall(ctx, day, tasks)
}

// recall adds to tasks which endpoints are done with.
func (s *shared) recall(ctx context.Context, day string, tasks []task) error {
	again := make(map[string]map[string]string) // domain, endpoint, result
	for i := range tasks {
		if t := &tasks[i]; t.try > 0 {
			t.told = make(map[string]string)
			again[t.domain] = t.told
		}
	}
	if len(again) == 0 {
		return nil
	}
	rows, err := s.db.QueryContext(ctx, "SELECT domain, endpoint, result FROM tlsrpt_told WHERE submitter = $1 AND day = $2 AND domain = ANY($3)",
		s.submitter, day, pq.Array(slices.Collect(maps.Keys(again))))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var domain, endpoint, result string
		if err := rows.Scan(&domain, &endpoint, &result); err != nil {
			return err
		}
		again[domain][endpoint] = result
	}
	return rows.Err()
}

// begin implements ledger.
func (s *shared) begin(ctx context.Context, t task, now, next time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	res, err := s.db.ExecContext(ctx, "UPDATE tlsrpt_reports SET try = try + 1, first = coalesce(first, $5), next = $6 "+
		"WHERE submitter = $1 AND day = $2 AND domain = $3 AND try = $4 AND done = ''", s.submitter, t.day, t.domain, t.try, now, next)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Time between tries of a note.
const (
	firstNote = 100 * time.Millisecond
	lastNote  = 10 * time.Second
)

// noteWithin is how long a note may take after the end of the attempt.
const noteWithin = 3 * time.Second

// note implements ledger. What has been sent and cannot be written down would be
// sent again, so it tries as long as the attempt may take, and some seconds more.
func (s *shared) note(ctx context.Context, t task, l progressLine) error {
	ctx, cancel := outlasting(ctx, noteWithin)
	defer cancel()
	for pause := firstNote; ; pause = min(2*pause, lastNote) {
		err := s.noteOnce(ctx, t, l)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// outlasting returns a context that ends a while after another.
func outlasting(ctx context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(while, cancel) })
	return longer, func() {
		stop()
		cancel()
	}
}

func (s *shared) noteOnce(ctx context.Context, t task, l progressLine) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if l.To != "" {
		_, err := s.db.ExecContext(ctx, "INSERT INTO tlsrpt_told (submitter, day, domain, endpoint, result) VALUES ($1, $2, $3, $4, $5) "+
			"ON CONFLICT DO NOTHING", s.submitter, t.day, t.domain, l.To, l.Result)
		return err
	}
	_, err := s.db.ExecContext(ctx, "UPDATE tlsrpt_reports SET done = $4 WHERE submitter = $1 AND day = $2 AND domain = $3",
		s.submitter, t.day, t.domain, l.Done)
	return err
}

// taken implements ledger.
func (s *shared) taken(ctx context.Context, day string) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	err = s.db.QueryRowContext(ctx, "SELECT count(*) FROM tlsrpt_told WHERE submitter = $1 AND day = $2 AND result = $3",
		s.submitter, day, resultSent).Scan(&n)
	return n, err
}

// forget removes what is too old, of days and of relays.
func (s *shared) forget(ctx context.Context, now time.Time) error {
	oldest := now.Add(-keepDays - 24*time.Hour).UTC().Format(dayForm)
	for _, table := range []string{"tlsrpt_parts", "tlsrpt_counts", "tlsrpt_told", "tlsrpt_reports"} {
		if _, err := s.db.ExecContext(ctx, "DELETE FROM "+table+" WHERE submitter = $1 AND day < $2", s.submitter, oldest); err != nil {
			return err
		}
	}
	_, err := s.db.ExecContext(ctx, "DELETE FROM tlsrpt_relays WHERE submitter = $1 AND seen < $2", s.submitter, now.Add(-keepDays-relaysFor))
	return err
}

// column reads rows of one value.
func column[T any](rows *sql.Rows, err error) (all []T, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
