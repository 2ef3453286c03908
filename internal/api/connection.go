package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tlscontrol/internal/policy"
)

// parseBool reads the yes and no of forms, in any letter case.
func parseBool(name, value string) (policy.Switch, error) {
	switch strings.ToLower(value) {
	case "yes", "true":
		return policy.Yes, nil
	case "no", "false":
		return policy.No, nil
	}
	return policy.Unset, bad("%s parameter: unexpected %s, expected yes, no, true or false", name, policy.Quote(value))
}

// boolField reads a field that may be absent.
func (f *form) boolField(name string) (policy.Switch, error) {
	value, ok, err := f.one(name)
	if err != nil || !ok {
		return policy.Unset, err
	}
	return parseBool(name, value)
}

// expect refuses fields that are none of names.
func (f *form) expect(names ...string) error {
	for _, name := range f.names {
		if !contains(names, name) {
			return bad("%s parameter is not supported, expected %s", shown(name), words(names))
		}
	}
	for _, file := range f.files {
		return bad("%s parameter is not supported, expected %s", shown(file.field), words(names))
	}
	return nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// words puts choices into a sentence.
func words(choices []string) string {
	if len(choices) == 1 {
		return choices[0]
	}
	last := len(choices) - 1
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}

// connection is the pair of settings.
type connection struct {
	RequireTLS       bool `json:"require_tls"`
	SkipVerification bool `json:"skip_verification"`
}

// connectionAnswer has them twice: one client library looks for them inside of
// "connection", the documentation and the other have them at the top.
type connectionAnswer struct {
	Connection connection `json:"connection"`
	connection
}

func (a *API) getConnection(w http.ResponseWriter, r *http.Request, c call) error {
	if err := noParameters(r); err != nil {
		return err
	}
	d, err := a.Domains.Get(r.Context(), c.domain)
	if err != nil {
		return err
	}
	both := connection{d.RequireTLS, d.SkipVerification}
	answer(w, r, http.StatusOK, connectionAnswer{both, both})
	return nil
}

// parameters reads those in the URL. What cannot be read is refused, too: URL.Query
// passes over it.
func parameters(raw string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, bad("The parameters are malformed: expected %%XX after a percent sign, and & between them")
	}
	return values, nil
}

// noParameters refuses parameters in the URL.
func noParameters(r *http.Request, but ...string) error {
	values, err := parameters(r.URL.RawQuery)
	if err != nil {
		return err
	}
	for name := range values {
		if name != "pretty" && !contains(but, name) {
			return bad("%s parameter is not supported", shown(name))
		}
	}
	return nil
}

// changedAnswer has the settings in both spellings that clients know.
type changedAnswer struct {
	Message string `json:"message"`
	connection
	RequireTLS       bool `json:"require-tls"`
	SkipVerification bool `json:"skip-verification"`
}

func (a *API) putConnection(w http.ResponseWriter, r *http.Request, c call) error {
	d, err := a.change(w, r, c)
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, changedAnswer{
		Message:          "Domain connection settings have been updated",
		connection:       connection{d.RequireTLS, d.SkipVerification},
		RequireTLS:       d.RequireTLS,
		SkipVerification: d.SkipVerification,
	})
	return nil
}

// change does what a form says to the settings of a domain.
func (a *API) change(w http.ResponseWriter, r *http.Request, c call) (Domain, error) {
	f, err := readForm(w, r, maxForm)
	if err != nil {
		return Domain{}, err
	}
	if err := f.expect("require_tls", "skip_verification"); err != nil {
		return Domain{}, err
	}
	var change Change
	if change.RequireTLS, err = f.boolField("require_tls"); err != nil {
		return Domain{}, err
	}
	if change.SkipVerification, err = f.boolField("skip_verification"); err != nil {
		return Domain{}, err
	}
	if change == (Change{}) {
		return Domain{}, missing("require_tls or skip_verification")
	}
	d, err := a.Domains.Set(r.Context(), c.domain, change)
	if err != nil {
		return Domain{}, err
	}
	a.Log("domain settings changed", "key", c.key.ID, "domain", c.domain,
		"require_tls", fmt.Sprint(d.RequireTLS), "require_tls_before", told(d.Before.RequireTLS),
		"skip_verification", fmt.Sprint(d.SkipVerification), "skip_verification_before", told(d.Before.SkipVerification))
	return d, nil
}

// told is a setting as the log has it.
func told(s policy.Switch) string {
	if s == policy.Unset {
		return "unreadable"
	}
	return fmt.Sprint(s == policy.Yes)
}
