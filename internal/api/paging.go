package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
)

// Page tokens hold the question and a place, as JSON in base64 without slashes,
// because one client library takes the last segment of a page URL for the token
// and the other wants the URL whole. They are not signed: they say nothing that a
// client could not ask for in parameters, the domain is in the path, and what is
// read from one is looked at as closely as parameters are.

// paging has absolute URLs of the other pages, always all of them.
type paging struct {
	Previous string `json:"previous"`
	First    string `json:"first"`
	Last     string `json:"last"`
	Next     string `json:"next"`
}

// side is on which side of the cursor the page is.
type side string

const (
	start  side = ""  // the first page
	behind side = "n" // next: behind the cursor
	before side = "p" // previous: it ends before the cursor
	end    side = "l" // the last page
)

// place is where a page is.
type place struct {
	Side   side   `json:"s,omitempty"`
	Micros int64  `json:"t,omitempty"`
	ID     string `json:"i,omitempty"`
}

// cursors returns the place as a Query has it. The last page ends before the end
// of all time.
func (p place) cursors(ascending bool) (after, until *Cursor) {
	switch p.Side {
	case behind:
		return &Cursor{p.Micros, p.ID}, nil
	case before:
		return nil, &Cursor{p.Micros, p.ID}
	case end:
		if ascending {
			return nil, &Cursor{Micros: math.MaxInt64}
		}
		return nil, &Cursor{Micros: math.MinInt64}
	}
	return nil, nil
}

// tokenContent is what a token holds.
type tokenContent struct {
	question
	place
}

// Bounds of a token: that of the URL of a question, in JSON and base64.
const (
	maxToken   = 12 << 10
	maxEventID = 128
	maxCursor  = 1 << 10 // what a place adds to a token, at most
)

func (q question) token(at place) string {
	text, err := json.Marshal(tokenContent{q, at})
	if err != nil {
		panic(err) // numbers and strings can be marshalled
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// parseToken reads a token, which may be anything.
func parseToken(s string) (question, place, error) {
	fail := func() (question, place, error) {
		return question{}, place{}, bad("The page token is malformed: take page URLs as they are")
	}
	if len(s) > maxToken {
		return fail()
	}
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return fail()
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var t tokenContent
	if err := d.Decode(&t); err != nil || d.InputOffset() != int64(len(text)) {
		return fail()
	}
	if _, err := d.Token(); err != io.EOF {
		return fail()
	}
	if !t.question.sane() || !t.place.sane() {
		return fail()
	}
	if _, err := t.question.filter(); err != nil {
		return fail()
	}
	return t.question, t.place, nil
}

func (q *question) sane() bool {
	for _, bound := range []*int64{q.Begin, q.End} {
		if bound != nil && (*bound < minMicros || *bound > maxMicros+1) {
			return false
		}
	}
	for name := range q.Filters {
		if _, ok := filters[name]; !ok {
			return false
		}
	}
	return 1 <= q.Limit && q.Limit <= maxLimit
}

func (p *place) sane() bool {
	switch p.Side {
	case behind, before:
		return len(p.ID) <= maxEventID && !strings.ContainsFunc(p.ID, control) &&
			minMicros <= p.Micros && p.Micros <= maxMicros+1
	case start, end:
		return p.Micros == 0 && p.ID == ""
	}
	return false
}

// links are the URLs of the pages around one, which begin with base.
func links(base string, q question, at place, found Page) paging {
	// Without events there is nothing beyond the cursor: what comes in there later is
	// found from the same place, and what is on the other side from its end.
	next, previous := place{Side: start}, place{Side: end}
	switch at.Side {
	case behind:
		next = at
	case before:
		previous = at
	}
	if found.First != nil {
		previous = place{before, found.First.Micros, found.First.ID}
	}
	if found.Last != nil {
		next = place{behind, found.Last.Micros, found.Last.ID}
	}
	return paging{
		Previous: base + q.token(previous),
		First:    base + q.token(place{Side: start}),
		Last:     base + q.token(place{Side: end}),
		Next:     base + q.token(next),
	}
}

// base is the URL under which clients reach the API: as configured, or as they
// did this time.
func (a *API) base(r *http.Request) string {
	if a.PublicURL != "" {
		return strings.TrimSuffix(a.PublicURL, "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if !plainHost(r.Host) {
		return scheme + "://" + localHost(r)
	}
	return scheme + "://" + r.Host
}

// plainHost reports whether a Host header is nothing but a host and a port: it
// ends up in answers.
func plainHost(host string) bool {
	return host != "" && !strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-:[]_", c))
	})
}

// localHost is the address on which the request came in.
func localHost(r *http.Request) string {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return addr.String()
	}
	return "localhost"
}
