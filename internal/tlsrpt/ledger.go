package tlsrpt

import (
	"context"
	"time"
)

// ledger is where the counts of days are, and what became of the reports about
// them: files, for a relay that reports for itself (local.go), or a database, for
// relays that report together (shared.go).
type ledger interface {
	// now is the time by which reports are due.
	now(ctx context.Context) (time.Time, error)
	// due lists the reports that may be attempted at a time.
	due(ctx context.Context, now time.Time) ([]task, error)
	// begin notes that an attempt begins now, and when the next one is due if this one
	// fails. It returns false if another relay was first.
	begin(ctx context.Context, t task, now, next time.Time) (bool, error)
	// note writes down what became of a report, also if ctx has just ended.
	note(ctx context.Context, t task, l progressLine) error
	// taken is how many reports about a day were taken.
	taken(ctx context.Context, day string) (int, error)
	// counts is what a report is about, and a salt that tells the reports of this
	// ledger apart from those of others. After begin neither changes any more.
	counts(ctx context.Context, t task) (salt string, _ *tally, err error)
}

// task is a report that is to be sent.
type task struct {
	day, domain string
	progress    // a copy
}
