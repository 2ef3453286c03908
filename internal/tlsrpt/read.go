package tlsrpt

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"tlscontrol/internal/postgres"
)

// Source is where a Reporter keeps what it counts, and whose reports these are;
// the fields are those of Config.
type Source struct {
	Dir      string
	Database string
	Sender   Sender
}

// Read returns the reports of one UTC day as they would be sent, by domain, and
// what became of them. It only reads, also while a server writes; what that has
// counted in the last two seconds is missing, with a database in the last thirty.
// A directory or a database where nothing has been counted has no reports.
func (s Source) Read(ctx context.Context, day time.Time) ([]Document, error) {
	name := day.UTC().Format(dayForm)
	read := s.readFiles
	if s.Database != "" {
		read = s.readDatabase
	}
	salt, d, progressed, err := read(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []Document
	for domain, t := range d.domains {
		d, err := s.Sender.document(salt, name, domain, t)
		if err != nil {
			return nil, err
		}
		if p := progressed[domain]; p != nil {
			d.Told, d.Done = p.told, p.done
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Document) int { return cmp.Compare(a.Domain, b.Domain) })
	return all, nil
}

func (s Source) readFiles(_ context.Context, name string) (salt string, _ *day, _ map[string]*progress, err error) {
	if salt, err = readID(s.Dir); err != nil {
		return "", nil, nil, err
	}
	b, err := loadBatch(s.Dir, name)
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", s.Dir, err)
	}
	return salt, b.day, b.domains, nil
}

// readDatabase reads from one state of the database.
func (s Source) readDatabase(ctx context.Context, name string) (salt string, _ *day, _ map[string]*progress, err error) {
	c, err := postgres.Connector(s.Database)
	if err != nil {
		return "", nil, nil, err
	}
	db := sql.OpenDB(c)
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return "", nil, nil, fmt.Errorf("database: %w", err)
	}
	defer tx.Rollback() // nothing was changed
	d, submitter := newDay(name), s.Sender.Submitter()
	salt, err = saltOf(ctx, tx, submitter)
	if missing(err) {
		return "", d, nil, nil
	}
	var p map[string]*progress
	if err == nil {
		err = readCounts(ctx, tx, d, submitter, "")
	}
	if err == nil {
		p, err = readProgress(ctx, tx, submitter, name)
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("database: %w", err)
	}
	return salt, d, p, nil
}

// missing reports whether no relay of the submitter has been there yet.
func missing(err error) bool {
	const undefinedTable = "42P01"
	var e *pq.Error
	return errors.Is(err, sql.ErrNoRows) || errors.As(err, &e) && e.Code == undefinedTable
}

// readProgress returns by domain what became of the reports of a day.
func readProgress(ctx context.Context, q querier, submitter, name string) (map[string]*progress, error) {
	all := make(map[string]*progress)
	rows, err := q.QueryContext(ctx, "SELECT domain, done, coalesce(endpoint, ''), coalesce(result, '') FROM tlsrpt_reports "+
		"LEFT JOIN tlsrpt_told USING (submitter, day, domain) WHERE submitter = $1 AND day = $2", submitter, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var domain, done, endpoint, result string
		if err := rows.Scan(&domain, &done, &endpoint, &result); err != nil {
			return nil, err
		}
		p := all[domain]
		if p == nil {
			p = &progress{done: done, told: make(map[string]string)}
			all[domain] = p
		}
		if endpoint != "" {
			p.told[endpoint] = result
		}
	}
	return all, rows.Err()
}
