package api

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

// Bounds of a request.
const (
	maxHead      = 16 << 10 // with the request line
	maxPath      = maxHead
	maxForm      = 64 << 10 // body of a form without a message
	formOverhead = 1 << 20  // what a form may have besides the message
)

// Deadlines of a request, from when its handler starts to read.
const (
	formPatience    = 30 * time.Second
	messagePatience = 5 * time.Minute // 25 MiB at 100 kB/s
	answerPatience  = time.Minute
	filePatience    = 10 * time.Second // to take a file
	placePatience   = 10 * time.Second // for memory
	momentPatience  = 2 * time.Second  // for a place
)

// Limits of a http.Server that serves an API. Handlers that need longer say so.
const (
	HeaderTimeout  = 10 * time.Second
	ReadTimeout    = formPatience
	WriteTimeout   = formPatience + answerPatience
	IdleTimeout    = 2 * time.Minute
	MaxHeaderBytes = maxHead - 4<<10 // net/http takes 4 KiB more
)

// count serves a request and tells how it was answered.
func (a *API) count(route string, w http.ResponseWriter, serve func(http.ResponseWriter)) {
	watched := &statusWriter{ResponseWriter: w}
	defer func() {
		if watched.status != 0 {
			a.Count(route, watched.status)
		}
	}()
	serve(watched)
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0 if there was none: the client has left
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// visit serves a file that needs no key, if there is a place: those who send mail
// must not wait for strangers who do not take what they asked for.
func (a *API) visit(w http.ResponseWriter, serve func() error) error {
	select {
	case a.visitors <- struct{}{}:
		defer func() { <-a.visitors }()
	default:
		w.Header().Set("Connection", "close") // who asks again has to come again
		return unavailable("Too many requests at a time, try again later")
	}
	// A writer that has no deadlines is one of a test.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(filePatience))
	return serve()
}

// hear reads what comes with a login, before it takes a place that it could keep
// for as long as it likes. A Crowd counts what strangers send.
func hear(r *http.Request) error {
	if r.URL.Path != uiData+"login" || r.Method != http.MethodPost {
		return nil
	}
	begin, err := io.ReadAll(io.LimitReader(r.Body, maxLogin+1))
	if err != nil {
		return unreadable(err, maxLogin)
	}
	unread(r, begin)
	return nil
}

// enter takes a place, waiting a moment for it: most requests are over in less, and
// all those with a wrong key.
func (a *API) enter() bool {
	select {
	case a.places <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(momentPatience)
	defer timer.Stop()
	select {
	case a.places <- struct{}{}:
		return true
	case <-timer.C:
		return false
	}
}

// guard serves a request if there is a place, and answers for it when it fails
// or panics.
func (a *API) guard(w http.ResponseWriter, r *http.Request, serve func() error) {
	if !a.enter() {
		a.fail(w, r, unavailable("Too many requests at a time, try again later"))
		return
	}
	defer func() { <-a.places }()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // net/http wants it
		}
		a.Log("panic in a request", "path", Plain(r.URL.Path), "reason", fmt.Sprint(p), "stack", string(debug.Stack()))
		a.fail(w, r, errors.New("panic"))
	}()
	if err := serve(); err != nil {
		a.fail(w, r, err)
	}
}

// messageTooLarge names the limit that was set (max_message_size), and not what a
// form with such a message may have.
func messageTooLarge(limit int64) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("Message is too large, expected at most %d octets", limit)}
}

func formTooLarge(limit int64) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("The form is too large, expected at most %d octets", limit)}
}

// patience sets how long the client may take to send the body, and to take the
// answer.
func patience(w http.ResponseWriter, d time.Duration) {
	control := http.NewResponseController(w)
	// A writer that has no deadlines is one of a test.
	_ = control.SetReadDeadline(time.Now().Add(d))
	_ = control.SetWriteDeadline(time.Now().Add(d + answerPatience))
}

// unreadable is why a body could not be read.
func unreadable(err error, limit int64) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return formTooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Error{Status: http.StatusRequestTimeout, Text: "The request took too long to arrive"}
	}
	return bad("The request body cannot be read: it is cut off or malformed")
}

// tooMany is for clients that have to wait.
func tooMany(text string, wait time.Duration) *Error {
	return &Error{Status: http.StatusTooManyRequests, Text: text, RetryAfter: max(1, int(math.Ceil(wait.Seconds())))}
}
