package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Pages of events.
const (
	defaultLimit = 100
	maxLimit     = 300
)

// question is what the parameters of a request ask for. It is what a page token
// holds (paging.go).
type question struct {
	// Begin and End are microseconds since 1970, the first inclusive, the second
	// exclusive; nil is no bound.
	Begin     *int64 `json:"b,omitempty"`
	End       *int64 `json:"e,omitempty"`
	Ascending bool   `json:"a,omitempty"`
	Limit     int    `json:"l"`
	// Filters are expressions under the names of their parameters.
	Filters map[string]string `json:"f,omitempty"`
}

// eventsAnswer is a page.
type eventsAnswer struct {
	Items  []json.RawMessage `json:"items"`
	Paging paging            `json:"paging"`
}

func (a *API) getEvents(w http.ResponseWriter, r *http.Request, c call) error {
	q, err := readQuestion(r.URL.RawQuery, time.Now())
	if err != nil {
		return err
	}
	return a.page(w, r, c, q, place{})
}

// getEventsPage answers with a page of a question that was asked before. Some clients
// repeat its parameters.
func (a *API) getEventsPage(w http.ResponseWriter, r *http.Request, c call) error {
	q, at, err := parseToken(c.page)
	if err != nil {
		return err
	}
	if err := q.repeats(r.URL); err != nil {
		return err
	}
	if limit := r.URL.Query().Get("limit"); limit != "" {
		if q.Limit, err = number("limit", limit, 1, maxLimit); err != nil {
			return err
		}
	}
	return a.page(w, r, c, q, at)
}

// repeats refuses parameters that ask for something else than the question does.
func (q *question) repeats(u *url.URL) error {
	asked, err := readQuestion(u.RawQuery, time.Now())
	if err != nil {
		return err
	}
	given := u.Query()
	same := func(a, b *int64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
	for name := range given {
		if _, ok := filters[name]; ok && asked.Filters[name] != q.Filters[name] {
			return bad("%s parameter is not that of the page: take page URLs as they are", name)
		}
	}
	span := given.Has("begin") || given.Has("end") || given.Has("ascending")
	if span && (!same(asked.Begin, q.Begin) || !same(asked.End, q.End) || asked.Ascending != q.Ascending) {
		return bad("begin, end and ascending parameters are not those of the page: take page URLs as they are")
	}
	return nil
}

// page answers with the events of a question at a place.
func (a *API) page(w http.ResponseWriter, r *http.Request, c call, q question, at place) error {
	found, err := a.ask(r.Context(), []string{c.domain}, q, at)
	if err != nil {
		return err
	}
	base := a.base(r) + "/v3/" + url.PathEscape(c.domain) + "/events/"
	answer(w, r, http.StatusOK, eventsAnswer{found.Items, links(base, q, at, found)})
	return nil
}

// ask asks a question about domains, at a place.
func (a *API) ask(ctx context.Context, domains []string, q question, at place) (Page, error) {
	if a.Events == nil {
		return Page{}, nothingKept()
	}
	filter, err := q.filter()
	if err != nil {
		return Page{}, err
	}
	asked := Query{
		Domains: domains, Filter: filter, Begin: timeOf(q.Begin), End: timeOf(q.End),
		Ascending: q.Ascending, Limit: q.Limit,
	}
	asked.After, asked.Before = at.cursors(q.Ascending)
	found, err := a.Events.Query(ctx, asked)
	if found.Items == nil {
		found.Items = []json.RawMessage{} // [], and not null
	}
	return found, err
}

func nothingKept() *Error {
	return &Error{Status: http.StatusNotFound, Text: "Nothing keeps events here: the http_api block has no store"}
}

func timeOf(micros *int64) time.Time {
	if micros == nil {
		return time.Time{}
	}
	return time.UnixMicro(*micros)
}

// readQuestion reads the parameters of a request.
func readQuestion(raw string, now time.Time) (question, error) {
	q := question{Limit: defaultLimit}
	values, err := parameters(raw)
	if err != nil {
		return q, err
	}
	var span span
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			return q, bad("%s parameter is there more than once", shown(name))
		}
		if err := q.parameter(&span, name, values[name][0]); err != nil {
			return q, err
		}
	}
	if err := q.during(span, now); err != nil {
		return q, err
	}
	if _, err = q.filter(); err == nil && len(q.token(place{})) > maxToken-maxCursor {
		err = bad("The expressions are too long together")
	}
	return q, err
}

// span is when, as it was asked for.
type span struct {
	begin, end *int64
	ascending  *bool
}

func (q *question) parameter(s *span, name, value string) (err error) {
	switch name {
	case "begin":
		s.begin, err = parseTime(name, value)
	case "end":
		s.end, err = parseTime(name, value)
	case "ascending":
		v, err := parseBool(name, value)
		if err != nil {
			return err
		}
		up := v.String() == "yes"
		s.ascending = &up
	case "limit":
		q.Limit, err = number(name, value, 1, maxLimit)
	case "pretty":
	default:
		if _, ok := filters[name]; !ok {
			return bad("%s parameter is not supported, expected begin, end, ascending, limit, %s", shown(name),
				words(slices.Sorted(maps.Keys(filters))))
		}
		if q.Filters == nil {
			q.Filters = make(map[string]string)
		}
		q.Filters[name] = value
	}
	return err
}

// during settles bounds and order, as documented: from begin to end, which may be
// the earlier of the two; with begin alone from there on, in the direction of
// ascending; with neither backwards from now on.
func (q *question) during(s span, now time.Time) error {
	switch {
	case s.end != nil && s.begin == nil:
		return missing("begin")
	case s.begin == nil && s.ascending != nil && *s.ascending:
		q.Ascending = true
	case s.begin == nil:
	case s.end == nil && (s.ascending == nil || *s.ascending):
		q.Ascending, q.Begin = true, s.begin
	case s.end == nil:
		q.End = following(*s.begin)
	default:
		q.Ascending = *s.begin <= *s.end
		q.Begin, q.End = s.begin, following(*s.end)
		if !q.Ascending {
			q.Begin, q.End = s.end, following(*s.begin)
		}
		if s.ascending != nil {
			q.Ascending = *s.ascending
		}
	}
	return nil
}

// following makes an inclusive bound an exclusive one.
func following(micros int64) *int64 {
	micros++
	return &micros
}

// Bounds of times: the years that have four digits.
const (
	minMicros = -62135596800 * 1e6
	maxMicros = 253402300799 * 1e6
)

// parseTime reads seconds since 1970, with decimals or without, or a date as in a
// message.
func parseTime(name, value string) (*int64, error) {
	var micros int64
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && !strings.ContainsAny(value, "xXpP_nN") {
		if seconds < minMicros/1e6 || seconds > maxMicros/1e6 {
			return nil, bad("%s parameter: %s is out of range", name, shown(value))
		}
		micros = exactMicros(value, seconds)
	} else if t, err := parseDate(value); err == nil {
		micros = t.UnixMicro()
	} else if unclear := (*zoneError)(nil); errors.As(err, &unclear) {
		return nil, bad("%s parameter: %s", name, unclear)
	} else {
		return nil, bad("%s parameter: unexpected %s, expected seconds since 1970 or a date as in Thu, 13 Oct 2011 18:02:00 +0000",
			name, shown(value))
	}
	return &micros, nil
}

// exactMicros avoids the rounding of a float64 where the digits say it all.
func exactMicros(text string, seconds float64) int64 {
	whole, part, _ := strings.Cut(text, ".")
	if n, err := strconv.ParseInt(whole, 10, 64); err == nil && n >= 0 && len(part) <= 6 {
		if m, err := strconv.ParseInt((part + "000000")[:6], 10, 64); err == nil {
			return n*1e6 + m
		}
	}
	return int64(seconds * 1e6)
}

// filter is the condition of all expressions. Events of other names stay here:
// one client library cannot read a page that has one.
func (q *question) filter() (Filter, error) {
	all := And{Is{"event", eventWords}}
	for _, name := range slices.Sorted(maps.Keys(q.Filters)) {
		f, err := parseFilter(name, q.Filters[name])
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}
