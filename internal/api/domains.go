package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a list of domains.
const (
	defaultDomains = 100
	maxDomains     = 1000
)

// domainDocument is a domain in Mailgun's shape. What a relay has no notion of
// has the value that means nothing to clients.
type domainDocument struct {
	ID               string `json:"id"`
	Name             string `json:"name"`
	CreatedAt        string `json:"created_at"`
	State            string `json:"state"`
	Type             string `json:"type"`
	IsDisabled       bool   `json:"is_disabled"`
	Wildcard         bool   `json:"wildcard"`
	SpamAction       string `json:"spam_action"`
	SMTPLogin        string `json:"smtp_login"`
	WebScheme        string `json:"web_scheme"`
	WebPrefix        string `json:"web_prefix"`
	RequireTLS       bool   `json:"require_tls"`
	SkipVerification bool   `json:"skip_verification"`
	// Ours.
	RequireTLSSource       string `json:"require_tls_source,omitempty"`
	SkipVerificationSource string `json:"skip_verification_source,omitempty"`
	ReadOnly               bool   `json:"read_only,omitempty"`
	Error                  string `json:"error,omitempty"` // why the settings cannot be told
}

// unknownCreation is when domains were made: nobody knows. The tables of maddy keep
// a key and a value, and when a relay saw a row first would be another time on each,
// and after each restart. One client library cannot read a domain without a time,
// in RFC 1123's form.
const unknownCreation = "Thu, 01 Jan 1970 00:00:00 GMT"

func document(d Domain) domainDocument {
	return domainDocument{
		ID: d.Name, Name: d.Name, CreatedAt: unknownCreation, State: "active", Type: "custom",
		SpamAction: "disabled", WebScheme: "https",
		RequireTLS: d.RequireTLS, SkipVerification: d.SkipVerification,
		RequireTLSSource: d.RequireTLSSource, SkipVerificationSource: d.SkipVerificationSource, ReadOnly: d.ReadOnly,
	}
}

// brokenDocument is a domain whose row cannot be read. Its mail waits until somebody
// has mended the row, which clients know as disabled; the settings are the
// strictest, for those that look at nothing else.
func brokenDocument(name string, err *Error) domainDocument {
	d := document(Domain{Name: name, RequireTLS: true})
	d.State, d.IsDisabled, d.Error = "disabled", true, err.Text
	return d
}

// record is a DNS record that a domain needs. There are none that we would know.
type record struct {
	Type     string   `json:"record_type"`
	Priority string   `json:"priority"`
	Valid    string   `json:"valid"`
	Name     string   `json:"name"`
	Value    string   `json:"value"`
	Cached   []string `json:"cached"`
}

type domainAnswer struct {
	Message   string         `json:"message,omitempty"`
	Domain    domainDocument `json:"domain"`
	Receiving []record       `json:"receiving_dns_records"`
	Sending   []record       `json:"sending_dns_records"`
}

func (a *API) getDomain(w http.ResponseWriter, r *http.Request, c call) error {
	// The two are what mailgun.js sends with every request.
	if err := noParameters(r, "h:extended", "h:with_dns"); err != nil {
		return err
	}
	d, err := a.Domains.Get(r.Context(), c.domain)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, domainAnswer{Domain: document(d), Receiving: []record{}, Sending: []record{}})
	return nil
}

func (a *API) putDomain(w http.ResponseWriter, r *http.Request, c call) error {
	d, err := a.change(w, r, c)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, domainAnswer{
		Message: "Domain has been updated", Domain: document(d), Receiving: []record{}, Sending: []record{},
	})
	return nil
}

type domainsAnswer struct {
	TotalCount int              `json:"total_count"`
	Items      []domainDocument `json:"items"`
}

func (a *API) listDomains(w http.ResponseWriter, r *http.Request, c call) error {
	limit, skip, search, err := listParameters(r)
	if err != nil {
		return err
	}
	names, err := a.listed(r.Context(), c.key)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(name, search) })
	list := domainsAnswer{TotalCount: len(names), Items: []domainDocument{}}
	for _, name := range names[min(skip, len(names)):min(skip+limit, len(names))] {
		d, err := a.Domains.Get(r.Context(), name)
		broken := (*Error)(nil)
		switch {
		case err == nil:
			list.Items = append(list.Items, document(d))
		case errors.As(err, &broken) && broken.Broken:
			list.Items = append(list.Items, brokenDocument(name, broken))
		default: // the others will not be told either
			return err
		}
	}
	answer(w, r, http.StatusOK, list)
	return nil
}

func listParameters(r *http.Request) (limit, skip int, search string, err error) {
	limit = defaultDomains
	all, err := parameters(r.URL.RawQuery)
	if err != nil {
		return 0, 0, "", err
	}
	for name, values := range all {
		if len(values) != 1 {
			return 0, 0, "", bad("%s parameter is there more than once", shown(name))
		}
		switch name {
		case "limit":
			limit, err = number(name, values[0], 1, maxDomains)
		case "skip":
			skip, err = number(name, values[0], 0, 1<<30)
		case "search":
			search = strings.ToLower(values[0])
		case "pretty":
		default:
			err = bad("%s parameter is not supported, expected limit, skip or search", shown(name))
		}
		if err != nil {
			return 0, 0, "", err
		}
	}
	return limit, skip, search, nil
}

// number reads a number within bounds.
func number(name, value string, least, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, bad("%s parameter: unexpected %s, expected a number from %d to %d", name, shown(value), least, most)
	}
	return n, nil
}
