package tlsrpt

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
)

// Counts come to the database as files. The file of a day is renamed to a part,
// which has a name that is never used again; the part is added to what is there
// in one transaction that also notes its name, and removed. If anything goes
// wrong in between, it is added again, and the name tells whether it was. While the
// database is away the counts stay in the file of the day and one part, with the
// bounds that these have.

const (
	uploadEvery  = 30 * time.Second
	uploadWithin = 2 * time.Minute
	// leaveWithin is how long Close waits for the database.
	leaveWithin = 3 * time.Second
	partsSuffix = ".part"
)

// tryUpload uploads, and says if it must wait.
func (s *shared) tryUpload(ctx context.Context) {
	err := s.upload(ctx, false)
	switch away := s.away.Swap(err != nil); {
	case err != nil:
		s.complainThat("TLS report data waits for the database", err)
	case away:
		s.cfg.Log.Info("TLS report data has come to the database again")
	}
}

// leave uploads what there is and closes the database.
func (s *shared) leave() {
	s.left.Do(func() {
		// Closing only reports what the end of the process mends.
		defer s.db.Close()
		defer s.recovered("uploading TLS report data")
		ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(s.cfg.leaveWithin, leaveWithin))
		defer cancel()
		if err := s.upload(ctx, true); err != nil {
			s.cfg.Log.Warn("TLS report data stays here until the next start", "error", err)
		}
	})
}

// upload brings everything that has been counted to the database, and says up to
// which day that is all. leaving says that no more will come.
func (s *shared) upload(ctx context.Context, leaving bool) error {
	s.uploads.Lock()
	defer s.uploads.Unlock()
	s.flush()
	if err := s.own(); err != nil {
		return err
	}
	return s.do(ctx, uploadWithin, func(ctx context.Context) error {
		now, err := s.now(ctx)
		if err != nil {
			return err
		}
		// A part that is left from before keeps the file of its day from being cut.
		// After the second round everything is there that was counted when this began;
		// on a busy relay there would always be a reason for another one.
		for range 2 {
			names, err := s.cut()
			if err != nil {
				return err
			}
			var failed error
			for _, name := range names { // one that cannot be read does not keep others back
				failed = errors.Join(failed, s.uploadPart(ctx, name, now))
			}
			if failed != nil {
				return failed
			}
		}
		return s.sign(ctx, now, leaving)
	})
}

// cut makes a part of each file of counts that has none yet, and lists all parts.
func (s *shared) cut() ([]string, error) {
	s.files.Lock()
	defer s.files.Unlock()
	parts, err := s.parts()
	if err != nil {
		return nil, err
	}
	for _, day := range s.days() {
		if s.begun(day) || slices.ContainsFunc(parts, func(part string) bool { return strings.HasPrefix(part, day) }) {
			continue
		}
		part := day + "." + rand.Text() + partsSuffix
		if err := os.Rename(countsPath(s.cfg.Dir, day), filepath.Join(s.cfg.Dir, part)); err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if s.full == day {
			s.full = ""
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	// A part that came to the database must not be the file of the day again after
	// the power failed.
	return parts, syncDir(s.cfg.Dir)
}

// parts lists the files that are on their way.
func (s *shared) parts() ([]string, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody may have removed it
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, _, ok := partName(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// partName takes the name of a part apart.
func partName(name string) (day, id string, ok bool) {
	day, rest, _ := strings.Cut(name, ".")
	id, ok = strings.CutSuffix(rest, partsSuffix)
	_, err := time.Parse(dayForm, day)
	return day, id, ok && err == nil && id != ""
}

// uploadPart adds a part to the database and removes it.
func (s *shared) uploadPart(ctx context.Context, name string, now time.Time) error {
	day, id, _ := partName(name)
	path := filepath.Join(s.cfg.Dir, name)
	if tooOld(day, now) {
		d, err := loadCounts(path, day)
		sessions := d.sessions()
		s.cfg.Log.Error("TLS report data is lost: it could not be brought to the database in time", "day", day, "sessions", sessions, "error", err)
		s.cfg.Count.Lost(sessions)
		return os.Remove(path)
	}
	d, err := loadCounts(path, day)
	if errors.Is(err, errForeign) {
		s.cfg.Log.Error("TLS report data is damaged, the file is renamed aside", "error", err, "path", path)
		return setAside(path)
	}
	if err != nil {
		return err
	}
	s.warnOf(d)
	late, err := s.add(ctx, id, d)
	if err != nil {
		return err
	}
	s.cfg.Count.Lost(plus(d.lost, late))
	if late > 0 {
		s.cfg.Log.Warn("TLS report data came too late, the report has gone out", "day", day, "sessions", late)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// add adds the counts of a part, unless that has been done, and returns how many
// sessions were too late.
func (s *shared) add(ctx context.Context, part string, d *day) (late int64, err error) {
	// Whatever the default is: the statements have to see what others committed.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // after Commit it does nothing
	// A machine that freezes here must not keep the others waiting.
	if _, err := tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = '30s'"); err != nil {
		return 0, err
	}
	res, err := tx.ExecContext(ctx, "INSERT INTO tlsrpt_parts (submitter, part, day) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", s.submitter, part, d.name)
	if err != nil {
		return 0, err
	}
	if n, err := res.RowsAffected(); n == 0 || err != nil {
		return 0, err
	}
	open, err := s.openDomains(ctx, tx, d)
	if err != nil {
		return 0, err
	}
	var rows []row
	for _, r := range d.rows() {
		if open[r.domain] {
			rows = append(rows, r)
		} else {
			late = plus(late, r.sessions)
		}
	}
	if err := s.addRows(ctx, tx, d.name, rows); err != nil {
		return 0, err
	}
	return late, tx.Commit()
}

// openDomains makes sure that there is a report about each domain, and returns
// those about which none has been begun. None will be before the transaction
// ends.
func (s *shared) openDomains(ctx context.Context, tx *sql.Tx, d *day) (map[string]bool, error) {
	salt, err := saltOf(ctx, tx, s.submitter)
	if err != nil {
		return nil, err
	}
	// All relays lock rows in the same order.
	domains := slices.Sorted(maps.Keys(d.domains))
	next := make([]int64, len(domains))
	for i, domain := range domains {
		next[i] = dueFirst(salt, d.name, domain).Unix()
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO tlsrpt_reports (submitter, day, domain, next) "+
		"SELECT $1, $2, domain, to_timestamp(next) FROM unnest($3::text[], $4::bigint[]) AS new (domain, next) ON CONFLICT DO NOTHING",
		s.submitter, d.name, pq.Array(domains), pq.Array(next)); err != nil {
		return nil, err
	}
	open, err := column[string](tx.QueryContext(ctx, "SELECT domain FROM tlsrpt_reports "+
		"WHERE submitter = $1 AND day = $2 AND domain = ANY($3) AND try = 0 AND done = '' ORDER BY domain FOR SHARE",
		s.submitter, d.name, pq.Array(domains)))
	all := make(map[string]bool, len(open))
	for _, domain := range open {
		all[domain] = true
	}
	return all, err
}
