package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"tlscontrol/internal/policy"
)

// Error is an answer that is not a success. Its text may be shown to the client.
type Error struct {
	Status     int
	Text       string
	RetryAfter int      // seconds; 0 if there is no point in it
	Broken     bool     // of a domain: what is said about it cannot be read
	bare       bool     // the text alone, not JSON
	allow      []string // methods; for 405
}

func (e *Error) Error() string { return e.Text }

// bad is the client's mistake.
func bad(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

// missing is a parameter that has to be there, in Mailgun's words.
func missing(name string) *Error { return bad("%s parameter is missing", name) }

// unavailable is for failures that pass.
func unavailable(text string) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Text: text, RetryAfter: 10}
}

func notFound() *Error { return &Error{Status: http.StatusNotFound, Text: "Not found"} }

// domainNotFound is in Mailgun's words. The name is the client's.
func domainNotFound(name string) *Error {
	return &Error{Status: http.StatusNotFound, Text: "Domain not found: " + shown(name)}
}

// shown is foreign text as it may be shown: as it is if that is harmless, else
// quoted, escaped and cut.
func shown(s string) string {
	if q := policy.Quote(s); s == "" || q != `"`+s+`"` {
		return q
	}
	return s
}

// maxPlain bounds foreign text in a line of the log, in octets.
const maxPlain = 256

// Plain is foreign text for a field of the log, which is written as JSON. JSON
// escapes the control characters of ASCII; others that a terminal may obey, and
// what cannot be seen, are replaced.
func Plain(s string) string {
	cut := ""
	if len(s) > maxPlain {
		s, cut = strings.ToValidUTF8(s[:maxPlain], ""), "..."
	}
	return strings.Map(func(c rune) rune {
		if c >= 0x7f && !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, s) + cut
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, r *http.Request, status int, value any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // scripts look for the brackets of message IDs
	if pretty(r) {
		e.SetIndent("", "  ")
	}
	if err := e.Encode(value); err != nil { // a document of the store that is no JSON
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"message":"Internal server error"}` + "\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone
}

// pretty reports whether the client wants JSON that people can read.
func pretty(r *http.Request) bool {
	switch r.URL.Query().Get("pretty") {
	case "yes", "true":
		return true
	}
	return false
}

// errorAnswer is the body of an error.
type errorAnswer struct {
	Message string `json:"message"`
}

// fail answers with an error. What is not an *Error is nobody's business but the
// operator's.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			// Nobody listens, or so it seems: to return would be to answer 200.
			panic(http.ErrAbortHandler)
		}
		a.Log("request failed", "path", Plain(r.URL.Path), "reason", err.Error())
		e = &Error{Status: http.StatusInternalServerError, Text: "Internal server error"}
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if len(e.allow) > 0 { // RFC 9110, section 15.5.6
		w.Header().Set("Allow", strings.Join(e.allow, ", "))
	}
	if e.Status == http.StatusUnauthorized && !forUI(r) { // there a browser would ask for a password
		w.Header().Set("WWW-Authenticate", `Basic realm="API", charset="UTF-8"`)
	}
	if e.bare {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(e.Status)
		_, _ = w.Write([]byte(e.Text))
		return
	}
	answer(w, r, e.Status, errorAnswer{e.Text})
}
