package tlsrpt

// Result is how a report ended.
type Result string

// The results. A report that a receiver took or refused is over with that receiver,
// where mail is taken by whoever delivers it, and a receiver whom we may not connect to
// counts as one that refused; one that was given up, because nobody could be reached for a day or too many
// domains wanted one, is over with all whom it had not reached.
const (
	Sent    Result = "sent"
	Refused Result = "refused"
	GivenUp Result = "given_up"
)

// Results lists them all.
func Results() []Result { return []Result{Sent, Refused, GivenUp} }

// Counter is told what becomes of reports, for operators who watch. Its methods are
// called from several goroutines, must not block, and must not call the Reporter.
type Counter interface {
	// Reported counts a report that ended.
	Reported(Result)
	// Lost counts sessions that no report will have.
	Lost(sessions int64)
}

// uncounted is the Counter of those who do not watch.
type uncounted struct{}

func (uncounted) Reported(Result) {}
func (uncounted) Lost(int64)      {}
