package tlsrpt

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/lib/pq"
	mox "github.com/mjl-/mox/tlsrpt"
)

// Counts in the database: one row for what is a line in a file.

const (
	// maxShared bounds the rows of one day: different counts, of all relays. What
	// is known is counted beyond that.
	maxShared       = 500_000
	maxSharedOctets = 512 << 20 // of their policies and failures
	rowsAtOnce      = 5000
)

var errSharedFull = errors.New("the database has no room for more of the day, sessions that are unlike others are not counted")

// row is a row of tlsrpt_counts.
type row struct {
	id              string // of 16 octets
	domain          string
	policy, failure string
	sessions        int64
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
