package apikey

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// What a key is for is what its row says; rows without a word about it mean what
// they meant before there was one.
func TestRolesOfRows(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	secret, key, err := s.Create(ctx, "example.com", Reading, "")
	if err != nil {
		t.Fatal(err)
	}
	good := m.rows[key.ID]
	v, rest, ok := strings.Cut(good, " domain=example.com role=reading")
	if !ok {
		t.Fatalf("row %q", good)
	}
	head := v + rest
	for _, tt := range []struct {
		row  string
		want Role // "" if nobody gets in
	}{
		{good, Reading},
		{head + " role=reading domain=example.com", Reading},
		{head + " domain=example.com", Sending},
		{head + " domain=example.com role=sending", Sending},
		{head, Full},
		{head + " role=full", Full},
		// A word was lost, or is of a later version: none becomes more than it was.
		{head + " role=reading", ""},
		{head + " role=sending", ""},
		{head + " domain=example.com role=full", ""},
		{head + " domain=example.com role=", ""},
		{head + " domain=example.com role=READING", ""},
		{head + " domain=example.com role=reading,full", ""},
		{head + " domain=example.com role=support", ""},
		{head + " domain=example.com role=reading role=reading", ""},
		{head + " domain=example.com roles=reading", ""},
		{head + " domain=example.com role=reading since=2027", ""},
		{strings.Replace(good, "v=1", "v=2", 1), ""},
	} {
		m.rows[key.ID] = tt.row
		got, ok, err := s.Authenticate(ctx, secret)
		if broken := (*RowError)(nil); ok != (tt.want != "") || got.Role != tt.want || (err == nil) != ok || !ok && !errors.As(err, &broken) {
			t.Errorf("%s: %+v, %v, %v", tt.row[len(head):], got, ok, err)
		}
		if ok && (got.Domain == "") != (got.Role == Full) {
			t.Errorf("%s: %+v", tt.row[len(head):], got)
		}
	}
}

// A relay of the version before roles lets nobody in with a row that has one: it
// would take a reading key for one that only sends. What it knew are these words;
// rows of the other keys have no others.
func TestRowsOfUsualKeysHaveNoNewWords(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	for _, tt := range []struct {
		domain string
		role   Role
	}{{"", ""}, {"", Full}, {"example.com", ""}, {"example.com", Sending}} {
		_, key, err := New(m).Create(ctx, tt.domain, tt.role, "")
		if err != nil || strings.Contains(m.rows[key.ID], "role") {
			t.Errorf("%+v: %q, %v", tt, m.rows[key.ID], err)
		}
	}
}
