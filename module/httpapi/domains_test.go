package httpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/api"
	"tlscontrol/internal/policy"
	"tlscontrol/module/tlspolicy"
)

// settled is a table of settings that answers with an error, if it has one.
type settled struct {
	tlspolicy.Domains
	err     error
	changes tlspolicy.Changes
}

func (s *settled) Names(context.Context) ([]string, error) {
	return []string{"*.example.com", "A.example", "a.example", "xn--bcher-kva.example"}, s.err
}

func (s *settled) Get(_ context.Context, name string) (tlspolicy.Domain, error) {
	return tlspolicy.Domain{Name: name, Settings: policy.Settings{RequireTLS: true, RequireTLSSource: policy.FromTable, SkipVerificationSource: policy.FromDefault}}, s.err
}

func (s *settled) Set(ctx context.Context, name string, changes tlspolicy.Changes) (tlspolicy.Domain, error) {
	s.changes = changes
	return s.Get(ctx, name)
}

func TestDomainSettings(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := &settled{}
	d := domains{s, &log.Logger{Out: log.NopOutput{}}}
	names, err := d.Names(ctx)
	if err != nil || !slices.Equal(names, []string{"a.example"}) {
		t.Errorf("%v, %v", names, err)
	}
	got, err := d.Set(ctx, "a.example", api.Change{RequireTLS: policy.Yes})
	if err != nil || got != (api.Domain{Name: "a.example", RequireTLS: true, RequireTLSSource: "table", SkipVerificationSource: "default"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if !maps.Equal(s.changes, tlspolicy.Changes{"require_tls": "yes"}) {
		t.Errorf("changes %v", s.changes)
	}
	if _, err := d.Set(ctx, "a.example", api.Change{SkipVerification: policy.No}); err != nil || !maps.Equal(s.changes, tlspolicy.Changes{"skip_verification": "no"}) {
		t.Errorf("changes %v, %v", s.changes, err)
	}

	for _, tt := range []struct {
		err    error
		status int
	}{
		{&tlspolicy.InvalidError{Err: errors.New("bad domain")}, 400},
		{&tlspolicy.ReadOnlyError{Domain: "a.example", Place: "maddy.conf:7"}, 409},
		{&tlspolicy.ConflictError{Domain: "a.example"}, 409},
		{tlspolicy.ErrNoTable, 409},
		{tlspolicy.ErrReadOnlyTable, 409},
		{&tlspolicy.TableError{Key: "a.example", Broken: true, Err: errors.New("secret")}, 503},
		{&tlspolicy.TableError{Key: "a.example", Err: fmt.Errorf("%w: secret", tlspolicy.ErrNotWritable)}, 409},
		{&tlspolicy.TableError{Key: "a.example", Err: errors.New("secret")}, 503},
		{errors.New("secret"), 503},
	} {
		s.err = tt.err
		_, get := d.Get(ctx, "a.example")
		_, set := d.Set(ctx, "a.example", api.Change{RequireTLS: policy.No})
		_, list := d.Names(ctx)
		for _, err := range []error{get, set, list} {
			if err == list && tt.err == tlspolicy.ErrReadOnlyTable {
				if err != nil {
					t.Errorf("names of a table that does not tell them: %v", err)
				}
				continue
			}
			var e *api.Error
			if broken := (*tlspolicy.TableError)(nil); errors.As(tt.err, &broken) && errors.As(err, &e) && e.Broken != broken.Broken {
				t.Errorf("%v: %+v", tt.err, e)
			}
			if !errors.As(err, &e) || e.Status != tt.status || strings.Contains(e.Text, "secret") || (e.Status == 503) != (e.RetryAfter > 0) {
				t.Errorf("%v: %+v", tt.err, err)
			}
		}
	}
}
