package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"tlscontrol/internal/events"
)

// everything is the scope of an API for all domains.
const everything = "*"

// scope is whose events the page shows: those of all domains that the API is for,
// or of the one that the parameter "domain" names, or that the key is for.
func (a *API) scope(r *http.Request, key Key) ([]string, error) {
	name := r.URL.Query().Get("domain")
	if name == "" {
		name = key.Domain
	}
	if name != "" {
		domain, err := a.own(key, name)
		return []string{domain}, err
	}
	if len(a.sending) == 0 {
		return []string{everything}, nil
	}
	return a.sending, nil
}

// uiEventsAnswer is a page, with whether it is worth while to ask for the next one.
type uiEventsAnswer struct {
	eventsAnswer
	More bool `json:"more"`
}

// uiEvents is getEvents for all domains together.
func (a *API) uiEvents(w http.ResponseWriter, r *http.Request, c call) error {
	raw, err := without(r.URL.RawQuery, "domain")
	if err != nil {
		return err
	}
	q, err := readQuestion(raw, time.Now())
	if err != nil {
		return err
	}
	return a.uiPage(w, r, c, q, place{})
}

// without takes a parameter out of a query.
func without(raw, name string) (string, error) {
	values, err := parameters(raw)
	if err != nil {
		return "", err
	}
	values.Del(name)
	return values.Encode(), nil
}

func (a *API) uiEventsPage(w http.ResponseWriter, r *http.Request, c call) error {
	if err := noParameters(r, "domain"); err != nil {
		return err
	}
	q, at, err := parseToken(c.page)
	if err != nil {
		return err
	}
	return a.uiPage(w, r, c, q, at)
}

// uiPage answers with the events of a question at a place; the pages around it
// are tokens.
func (a *API) uiPage(w http.ResponseWriter, r *http.Request, c call, q question, at place) error {
	domains, err := a.scope(r, c.key)
	if err != nil {
		return err
	}
	found, err := a.ask(r.Context(), domains, q, at)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, uiEventsAnswer{eventsAnswer{found.Items, links("", q, at, found)}, found.More})
	return nil
}

// uiMessage answers with all events of a message, by its queue ID or message ID.
func (a *API) uiMessage(w http.ResponseWriter, r *http.Request, c call) error {
	if err := noParameters(r); err != nil {
		return err
	}
	if a.Events == nil {
		return nothingKept()
	}
	domains, err := a.scope(r, c.key)
	if err != nil {
		return err
	}
	story, err := a.Events.Message(r.Context(), strings.Trim(c.page, "<>"), domains)
	if err != nil {
		return err
	}
	if len(story) == 0 {
		return &Error{Status: http.StatusNotFound, Text: "Nothing is known of message " + shown(c.page) + " (any more)"}
	}
	answer(w, r, http.StatusOK, struct {
		Items []json.RawMessage `json:"items"`
	}{story})
	return nil
}

// spans are the times that charts show, with the length of a part.
var spans = map[string]struct{ length, part time.Duration }{
	"hour":  {time.Hour, time.Minute},
	"day":   {24 * time.Hour, 30 * time.Minute},
	"week":  {7 * 24 * time.Hour, 6 * time.Hour},
	"month": {30 * 24 * time.Hour, 24 * time.Hour},
}

// statsAnswer is what charts show.
type statsAnswer struct {
	Begin       time.Time `json:"begin"`
	End         time.Time `json:"end"`
	PartSeconds int       `json:"part-seconds"`
	events.Stats
}

func (a *API) uiStats(w http.ResponseWriter, r *http.Request, c call) error {
	if err := noParameters(r, "span", "domain"); err != nil {
		return err
	}
	if a.Events == nil {
		return nothingKept()
	}
	span, ok := spans[r.URL.Query().Get("span")]
	if !ok {
		return bad("span parameter: unexpected %s, expected hour, day, week or month", shown(r.URL.Query().Get("span")))
	}
	domains, err := a.scope(r, c.key)
	if err != nil {
		return err
	}
	// The last part is the one that is not over.
	end := time.Now().UTC().Truncate(span.part).Add(span.part)
	begin := end.Add(-span.length)
	stats, err := a.Events.Stats(r.Context(), begin, end, span.part, domains)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, statsAnswer{begin, end, int(span.part.Seconds()), stats})
	return nil
}
