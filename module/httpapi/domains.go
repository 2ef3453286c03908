package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/api"
	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

// domains are the settings that a tls_policy block knows.
type domains struct {
	of  tlspolicy.Domains
	log *log.Logger
}

var _ api.Domains = domains{}

// Names returns the domains with settings of their own, without what is not a
// domain: patterns, and keys that are never found.
func (d domains) Names(ctx context.Context) ([]string, error) {
	names, err := d.of.Names(ctx)
	if err != nil && !errors.Is(err, tlspolicy.ErrReadOnlyTable) {
		return nil, d.explain(err)
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		normal, err := policy.ParseDomain(name)
		return err != nil || normal != name
	}), nil
}

func (d domains) Get(ctx context.Context, name string) (api.Domain, error) {
	found, err := d.of.Get(ctx, name)
	if err != nil {
		return api.Domain{}, d.explain(err)
	}
	return shown(found), nil
}

func (d domains) Set(ctx context.Context, name string, change api.Change) (api.Domain, error) {
	changes := tlspolicy.Changes{}
	if change.RequireTLS != policy.Unset {
		changes["require_tls"] = change.RequireTLS.String()
	}
	if change.SkipVerification != policy.Unset {
		changes["skip_verification"] = change.SkipVerification.String()
	}
	found, err := d.of.Set(ctx, name, changes)
	if err != nil {
		return api.Domain{}, d.explain(err)
	}
	return shown(found), nil
}

func shown(d tlspolicy.Domain) api.Domain {
	found := api.Domain{
		Name:                   d.Name,
		RequireTLS:             d.Settings.RequireTLS,
		SkipVerification:       d.Settings.SkipVerification,
		RequireTLSSource:       string(d.Settings.RequireTLSSource),
		SkipVerificationSource: string(d.Settings.SkipVerificationSource),
		ReadOnly:               d.Block != "",
	}
	if d.Before != nil {
		found.Before = api.Change{RequireTLS: switched(d.Before.RequireTLS), SkipVerification: switched(d.Before.SkipVerification)}
	}
	return found
}

func switched(on bool) policy.Switch {
	if on {
		return policy.Yes
	}
	return policy.No
}

// explain gives errors a status. Their words are for who may change settings,
// except what the table itself said.
func (d domains) explain(err error) error {
	var (
		invalid  *tlspolicy.InvalidError
		readOnly *tlspolicy.ReadOnlyError
		conflict *tlspolicy.ConflictError
		table    *tlspolicy.TableError
	)
	switch {
	case errors.As(err, &invalid):
		return &api.Error{Status: http.StatusBadRequest, Text: err.Error()}
	case errors.As(err, &readOnly), errors.As(err, &conflict), errors.Is(err, tlspolicy.ErrNoTable), errors.Is(err, tlspolicy.ErrReadOnlyTable):
		return &api.Error{Status: http.StatusConflict, Text: err.Error()}
	case errors.Is(err, tlspolicy.ErrNotWritable):
		d.log.Error("domains table cannot be written", err)
		return &api.Error{Status: http.StatusConflict, Text: "The domain settings cannot be changed: " + tlspolicy.ErrNotWritable.Error()}
	case errors.As(err, &table) && table.Broken:
		d.log.Error("row of the domains table cannot be read", err)
		return &api.Error{Status: http.StatusServiceUnavailable, RetryAfter: 60, Broken: true,
			Text: "The row of domain " + policy.Quote(table.Key) + " in the domains table cannot be read; the server's log says why"}
	}
	d.log.Error("domains table failed", err)
	return &api.Error{Status: http.StatusServiceUnavailable, RetryAfter: 10, Text: "The domains table does not answer now, try again later"}
}
