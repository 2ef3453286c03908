package tlsrpt

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	mox "github.com/mjl-/mox/tlsrpt"
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
	// settled is how long after midnight the day before can still be written to.
	settled = time.Minute
	// maxShared bounds the rows of one day: different counts, of all relays. What
	// is known is counted beyond that.
	maxShared       = 500_000
	maxSharedOctets = 512 << 20 // of their policies and failures
	rowsAtOnce      = 5000
	partsSuffix     = ".part"
)

var errSharedFull = errors.New("the database has no room for more of the day, sessions that are unlike others are not counted")

// row is a row of tlsrpt_counts.
type row struct {
	id              string // of 16 octets
	domain          string
	policy, failure string
	sessions        int64
}

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
		ctx, cancel := context.WithTimeout(context.Background(), leaveWithin)
		defer cancel()
		if err := s.upload(ctx, true); err != nil {
			s.cfg.Log.Warn("TLS report data stays here until the next start", "error", err)
		}
		// Close only reports what the end of the process mends.
		_ = s.db.Close()
	})
}

// upload brings everything that has been counted to the database, and says up to
// which day that is all. leaving says that no more will come.
func (s *shared) upload(ctx context.Context, leaving bool) error {
	s.uploads.Lock()
	defer s.uploads.Unlock()
	now := s.cfg.Now().UTC()
	s.flush()
	if err := s.own(); err != nil {
		return err
	}
	return s.do(ctx, uploadWithin, func(ctx context.Context) error {
		// A part that is left from before keeps the file of its day from being cut.
		// After the second round everything is there that was counted when this began;
		// on a busy relay there would always be a reason for another one.
		for range 2 {
			names, err := s.cut()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := s.uploadPart(ctx, name, now); err != nil {
					return err
				}
			}
		}
		return s.sign(ctx, now, leaving)
	})
}

// sign says of this relay how far it has come. One that leaves owes nothing.
func (s *shared) sign(ctx context.Context, now time.Time, leaving bool) error {
	if leaving {
		_, err := s.db.ExecContext(ctx, "DELETE FROM tlsrpt_relays WHERE submitter = $1 AND relay = $2 AND process = $3",
			s.submitter, cmp.Or(s.relay, s.id), s.process)
		return err
	}
	// The row of this relay's id is its own at the first time, whoever wrote it: that
	// was before its start.
	free, err := s.signAs(ctx, cmp.Or(s.relay, s.id), s.relay == "", now)
	if err != nil {
		return err
	}
	if free {
		s.relay = cmp.Or(s.relay, s.id)
		return nil
	}
	// A copied machine: each of the two would speak for both.
	s.cfg.Log.Error("another relay counts TLS reports under the id of this one; remove the file id from one of the two directories",
		"directory", s.cfg.Dir)
	s.relay = rand.Text()
	_, err = s.signAs(ctx, s.relay, true, now)
	return err
}

// signAs writes the row of a relay. It is not free if another process wrote it
// last, unless it is to be taken over.
func (s *shared) signAs(ctx context.Context, relay string, takeOver bool, now time.Time) (free bool, err error) {
	through := now.Add(-settled).AddDate(0, 0, -1).Format(dayForm)
	res, err := s.db.ExecContext(ctx, "INSERT INTO tlsrpt_relays AS old (submitter, relay, name, process, seen, through) VALUES ($1, $2, $3, $4, $5, $6) "+
		"ON CONFLICT (submitter, relay) DO UPDATE SET name = excluded.name, process = excluded.process, seen = excluded.seen, through = excluded.through "+
		"WHERE $7 OR old.process = excluded.process",
		s.submitter, relay, clean(s.cfg.Relay, maxText), s.process, now, through, takeOver)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
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
		s.cfg.Log.Error("TLS report data is lost: it could not be brought to the database in time", "day", day)
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

// addShared adds rows to those that are there, in their order, so that relays do
// not wait for each other in a circle. Where there is no room ($9), new ones are
// left out.
const addShared = "INSERT INTO tlsrpt_counts AS old (submitter, day, id, domain, policy, failure, sessions) " +
	"SELECT $1::text, $2::date, new.* FROM unnest($3::bytea[], $4::text[], $5::text[], $6::text[], $7::bigint[]) AS new (id, domain, policy, failure, sessions) " +
	"WHERE $9::boolean OR EXISTS (SELECT FROM tlsrpt_counts known WHERE known.submitter = $1 AND known.day = $2 AND known.id = new.id) " +
	"ORDER BY new.id " +
	"ON CONFLICT (submitter, day, id) DO UPDATE SET sessions = least(old.sessions + excluded.sessions, $8::bigint)"

func (s *shared) addRows(ctx context.Context, tx *sql.Tx, day string, rows []row) error {
	var there, octets int
	if err := tx.QueryRowContext(ctx, "SELECT count(*), coalesce(sum(octet_length(policy) + octet_length(failure)), 0) FROM tlsrpt_counts "+
		"WHERE submitter = $1 AND day = $2", s.submitter, day).Scan(&there, &octets); err != nil {
		return err
	}
	for some := range slices.Chunk(rows, rowsAtOnce) {
		var ids [][]byte
		var domains, policies, failures []string
		var sessions []int64
		for _, r := range some {
			ids, domains = append(ids, []byte(r.id)), append(domains, r.domain)
			policies, failures = append(policies, r.policy), append(failures, r.failure)
			sessions = append(sessions, r.sessions)
			octets += len(r.policy) + len(r.failure)
		}
		there += len(some)
		room := there <= s.maxRows && octets <= maxSharedOctets
		res, err := tx.ExecContext(ctx, addShared, s.submitter, day, pq.Array(ids), pq.Array(domains), pq.Array(policies),
			pq.Array(failures), pq.Array(sessions), int64(maxCount), room)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n < int64(len(some)) {
			s.complain(errors.Join(errSharedFull, err))
		}
	}
	return nil
}

// rows writes the day as rows of the database, in the order in which all relays
// lock them.
func (d *day) rows() []row {
	var rows []row
	for l := range d.all() {
		r := row{domain: l.Domain, policy: encode(l.Policy), sessions: l.Count}
		if l.Failure != nil {
			r.failure = encode(*l.Failure)
		}
		sum := sha256.Sum256([]byte(r.domain + "\x00" + r.policy + "\x00" + r.failure))
		r.id = string(sum[:16])
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.id, b.id) })
	return rows
}

// counts implements ledger.
func (s *shared) counts(ctx context.Context, t task) (salt string, _ *tally, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if salt, err = saltOf(ctx, s.db, s.submitter); err != nil {
		return "", nil, err
	}
	d := newDay(t.day)
	if err := readCounts(ctx, s.db, d, s.submitter, t.domain); err != nil {
		return "", nil, err
	}
	s.warnOf(d)
	if d.domains[t.domain] == nil {
		return "", nil, errors.New("the counts are gone")
	}
	return salt, d.domains[t.domain], nil
}

// readCounts adds up what the database has about a day, of all domains or of one.
func readCounts(ctx context.Context, db querier, d *day, submitter, domain string) error {
	rows, err := db.QueryContext(ctx, "SELECT domain, policy, failure, sessions FROM tlsrpt_counts "+
		"WHERE submitter = $1 AND day = $2 AND ($3 = '' OR domain = $3) ORDER BY id LIMIT $4", submitter, d.name, domain, maxShared)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.domain, &r.policy, &r.failure, &r.sessions); err != nil {
			return err
		}
		if d.takeRow(r) != nil {
			d.bad++
		}
	}
	return rows.Err()
}

// takeRow adds a row. The database is no stranger's, but others can write to it.
func (d *day) takeRow(r row) error {
	if len(r.policy)+len(r.failure) > maxLine {
		return errLine
	}
	l := countsLine{Domain: r.domain, Count: r.sessions}
	if err := json.Unmarshal([]byte(r.policy), &l.Policy); err != nil {
		return err
	}
	if r.failure != "" {
		l.Failure = new(mox.FailureDetailsJSON)
		if err := json.Unmarshal([]byte(r.failure), l.Failure); err != nil {
			return err
		}
	}
	return d.takeLine(l)
}
