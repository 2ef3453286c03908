package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/api"
	"tlscontrol/internal/apikey"
	"tlscontrol/internal/events"
	"tlscontrol/internal/table"
	"tlscontrol/module/tlspolicy"
)

// keyPatience bounds the look-up of a key: a database that hangs must not hold the
// places of the API for as long as a table may be asked (internal/table).
const keyPatience = 10 * time.Second

// keys are rows of a table.
type keys struct {
	store    *apikey.Store
	table    *table.Guard
	patience time.Duration
}

var _ api.Keys = keys{}

func newKeys(t module.Table) keys { return keys{apikey.New(t), table.New(t), keyPatience} }

// Authenticate finds the key of a secret.
func (k keys) Authenticate(ctx context.Context, secret string) (api.Key, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, k.patience)
	defer cancel()
	found, ok, err := k.store.Authenticate(ctx, secret)
	return api.Key{ID: found.ID, Domain: found.Domain, Reads: found.Role == apikey.Reading}, ok, err
}

// probe is what tables are asked for to see whether they answer. It is reserved
// (RFC 2606).
const probe = "ready.invalid"

// checks are what /readyz asks.
func checks(k keys, d tlspolicy.Domains) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"keys": func(ctx context.Context) error {
			_, _, err := k.table.Lookup(ctx, probe)
			return err
		},
		"domains": func(ctx context.Context) error {
			_, err := d.Get(ctx, probe)
			return err
		},
	}
}

// store is an event_store block.
type store struct {
	*events.Store
	log      *log.Logger
	hostname string // "" if the block has none
}

var _ api.Events = store{}

// Accepted adds the event of a message that was taken over.
func (s store) Accepted(ctx context.Context, a api.Accepted) {
	e, err := events.Accepted{
		Time: a.Time, Hostname: s.hostname, QueueID: a.QueueID, Sender: a.Sender, Recipient: a.Recipient,
		Headers: a.Headers, Size: a.Size, Tags: a.Tags, Variables: a.Variables, Attachments: a.Attachments,
		Method: "http", KeyID: a.KeyID,
	}.Event()
	if err != nil {
		s.log.Error("accepted event is lost", err, "msg_id", a.QueueID)
		return
	}
	s.AddPatiently(ctx, e)
}

// Query asks for a page.
func (s store) Query(ctx context.Context, q api.Query) (api.Page, error) {
	asked := events.Query{
		Domains: scope(q.Domains), Filter: condition(q.Filter), Begin: q.Begin, End: q.End,
		Ascending: q.Ascending, Limit: q.Limit, After: cursor(q.After), Before: cursor(q.Before),
	}
	found, err := s.Store.Query(ctx, asked)
	if err != nil || len(found.Items) == 0 {
		return api.Page{}, s.explain(err)
	}
	return api.Page{Items: found.Items, First: place(found.First), Last: place(found.Last), More: found.More}, nil
}

// Message returns what is known of a message.
func (s store) Message(ctx context.Context, id string, domains []string) ([]json.RawMessage, error) {
	story, err := s.Store.Message(ctx, id, scope(domains))
	return story, s.explain(err)
}

// Stats counts.
func (s store) Stats(ctx context.Context, begin, end time.Time, part time.Duration, domains []string) (events.Stats, error) {
	stats, err := s.Store.Stats(ctx, begin, end, part, scope(domains))
	return stats, s.explain(err)
}

// explain gives errors a status.
func (s store) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, events.ErrFilter):
		return &api.Error{Status: http.StatusBadRequest, Text: err.Error()}
	}
	s.log.Error("event store does not answer", err)
	return &api.Error{Status: http.StatusServiceUnavailable, RetryAfter: 10, Text: "The event store does not answer now, try again later"}
}

// scope is whose events may be seen, as the store has it: nil for all, and never
// because nobody said whose.
func scope(domains []string) []string {
	if slices.Contains(domains, "*") {
		return nil
	}
	return append([]string{}, domains...)
}

func cursor(c *api.Cursor) *events.Cursor {
	if c == nil {
		return nil
	}
	return &events.Cursor{Micros: c.Micros, ID: c.ID}
}

func place(c *events.Cursor) *api.Cursor {
	if c == nil {
		return nil
	}
	return &api.Cursor{Micros: c.Micros, ID: c.ID}
}

// condition is a filter of the API as one of the store. Fields have the same
// names.
func condition(f api.Filter) events.Filter {
	switch f := f.(type) {
	case api.And:
		return events.And(conditions(f))
	case api.Or:
		return events.Or(conditions(f))
	case api.Not:
		return events.Not{Filter: condition(f.Filter)}
	case api.Is:
		return events.Is{Field: events.Field(f.Field), Values: f.Values}
	case api.Contains:
		return events.Contains{Field: events.Field(f.Field), Text: f.Text}
	case api.Compare:
		return events.Compare{Field: events.Field(f.Field), How: events.Comparison(f.How), Value: f.Value}
	}
	return nil
}

func conditions(all []api.Filter) []events.Filter {
	each := make([]events.Filter, len(all))
	for i, f := range all {
		each[i] = condition(f)
	}
	return each
}
