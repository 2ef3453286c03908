package apikey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/table"
)

// memory is a table that can be written.
type memory struct {
	lock sync.Mutex
	rows map[string]string
	err  error
}

func (m *memory) Lookup(_ context.Context, key string) (string, bool, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	v, ok := m.rows[key]
	return v, ok, m.err
}

func (m *memory) Keys() ([]string, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Sorted(maps.Keys(m.rows)), m.err
}

func (m *memory) SetKey(key, value string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.rows[key] = value
	return m.err
}

func (m *memory) RemoveKey(key string) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	delete(m.rows, key)
	return m.err
}

// only hides that a table can be written.
type only struct{ table.Table }

func TestLifeOfAKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	s.now = func() time.Time { return time.Date(2026, 11, 26, 13, 0, 0, 5, time.FixedZone("", 3600)) }

	secret, key, err := s.Create(ctx, "XN--bcher-kva.example.", "", "50% off, a+b = ü")
	if err != nil {
		t.Fatal(err)
	}
	want := Key{ID: key.ID, Domain: "bücher.example", Role: Sending, Comment: "50% off, a+b = ü", Created: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}
	if key != want {
		t.Errorf("got  %+v\nwant %+v", key, want)
	}
	if got, ok, err := s.Authenticate(ctx, secret); got != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	// The file of table.file would be split at a comma, and cut at the end of the line.
	if row := m.rows[key.ID]; strings.ContainsAny(row, ",\n") || strings.Contains(row, secret[len(prefix)+len(key.ID)+1:]) {
		t.Errorf("row %q", row)
	}

	// Another key changes nothing for the first.
	other, full, err := s.Create(ctx, "", "", "")
	if err != nil || full.ID == key.ID || full.Domain != "" || full.Role != Full {
		t.Fatalf("%+v, %v", full, err)
	}
	if keys, err := s.List(ctx); err != nil || len(keys) != 2 {
		t.Errorf("got %+v, %v", keys, err)
	}
	if err := s.Revoke(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Authenticate(ctx, secret); ok || err != nil {
		t.Errorf("revoked: %v, %v", ok, err)
	}
	if got, ok, _ := s.Authenticate(ctx, other); !ok || got != full {
		t.Errorf("got %+v, %v", got, ok)
	}
	if err := s.Revoke(ctx, key.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoked again: %v", err)
	}
}

func TestWrongSecrets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	secret, key, err := s.Create(ctx, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	last := "a"
	if strings.HasSuffix(secret, "a") {
		last = "b"
	}
	other, _, _ := s.Create(ctx, "", "", "")
	for _, wrong := range []string{
		"", "key-", secret[1:], secret[:len(secret)-1], secret + "a", secret[:len(secret)-1] + last,
		strings.ToUpper(secret), " " + secret, secret + "\n", key.ID, m.rows[key.ID],
		prefix + strings.Repeat("a", 16) + secret[len(prefix)+16:], // another ID, right secret
		other[:len(prefix)+16] + secret[len(prefix)+16:],           // the ID of another key
		strings.Repeat("key-", 1<<20),
	} {
		if got, ok, err := s.Authenticate(ctx, wrong); ok || err != nil || got != (Key{}) {
			t.Errorf("%.80q: %+v, %v, %v", wrong, got, ok, err)
		}
	}
}

// A key for one domain does not become one for all, or a reading one, when a full
// disk or a narrow column has cut its row off.
func TestRowsThatWereCutOff(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	for _, role := range []Role{Sending, Reading} {
		secret, key, err := s.Create(ctx, "example.com", role, "billing server")
		if err != nil {
			t.Fatal(err)
		}
		row := m.rows[key.ID]
		for end := range row {
			m.rows[key.ID] = row[:end]
			if got, ok, _ := s.Authenticate(ctx, secret); ok && (got.Domain != key.Domain || got.Role != key.Role) {
				t.Errorf("%q: %+v", row[:end], got)
			}
		}
	}
}

// Nobody gets in through a row that is not whole.
func TestBrokenRows(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	secret, key, err := s.Create(ctx, "example.com", "", "x")
	if err != nil {
		t.Fatal(err)
	}
	good := m.rows[key.ID]
	hash := good[strings.Index(good, "sha256=")+7:][:64]
	for _, tt := range []struct{ row, want string }{
		{"", "v is missing"},
		{strings.Replace(good, "v=1", "v=2", 1), `v: unexpected "2", expected 1`},
		{strings.Replace(good, hash, hash[1:], 1), "sha256: expected 64 hexadecimal digits"},
		{strings.Replace(good, hash, "x"+hash[1:], 1), "sha256: expected 64 hexadecimal digits"},
		{strings.Replace(good, "created=", "made=", 1), `unexpected "made", expected one of v, sha256, created, domain, role, comment`},
		{strings.Replace(good, "created=", "created=x", 1), `created: unexpected "x` + key.Created.Format(time.RFC3339) + `", expected a time like 2006-01-02T15:04:05Z`},
		{strings.Replace(good, "domain=example.com", "domain=", 1), `domain: bad domain "": no domain name`},
		{strings.Replace(good, "domain=example.com", "domain=*.com", 1), `domain: bad domain "*.com": character '*' not allowed`},
		{strings.Replace(good, "domain=", "domain example.com", 1), "unexpected word, expected key=value"},
		{good + " domain=example.org", `"domain" is set twice`},
		{good + "%1b", "comment: expected printable characters"},
		{good + "%1", "comment: unexpected % sign, expected %XX"},
		{good + strings.Repeat("x", 200), "comment: longer than 200 bytes"},
		{good + strings.Repeat(" ", 2048), "longer than 2048 bytes"},
	} {
		m.rows[key.ID] = tt.row
		_, ok, err := s.Authenticate(ctx, secret)
		broken := (*RowError)(nil)
		if ok || !errors.As(err, &broken) || broken.Err.Error() != tt.want {
			t.Errorf("%q:\n got %v, %v\nwant %s", tt.row, ok, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), hash[1:]) {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
	// The others are listed all the same, and the broken one can be revoked.
	_, whole, err := s.Create(ctx, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.List(ctx)
	if broken := (*RowError)(nil); !errors.As(err, &broken) || broken.ID != key.ID || len(keys) != 1 || keys[0] != whole {
		t.Errorf("got %+v, %v", keys, err)
	}
	if err := s.Revoke(ctx, key.ID); err != nil {
		t.Error(err)
	}
}

func TestFailingTable(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	m := &memory{rows: map[string]string{}}
	s := New(m)
	secret, key, err := s.Create(ctx, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("down")
	m.err = down
	_, ok, authenticate := s.Authenticate(ctx, secret)
	created, _, create := s.Create(ctx, "", "", "")
	_, list := s.List(ctx)
	for i, err := range []error{authenticate, create, list, s.Revoke(ctx, key.ID)} {
		if !errors.Is(err, down) || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if ok || created != "" {
		t.Errorf("let in: %v, made %q", ok, created)
	}

	m.err = nil
	read := New(only{m})
	if _, ok, err := read.Authenticate(ctx, secret); !ok || err != nil {
		t.Errorf("a table that cannot be written: %v, %v", ok, err)
	}
	if _, _, err := read.Create(ctx, "", "", ""); !errors.Is(err, table.ErrReadOnly) {
		t.Errorf("create: %v", err)
	}
}

func TestRefusedAtCreation(t *testing.T) {
	t.Parallel()
	m := &memory{rows: map[string]string{}}
	for _, tt := range []struct {
		domain        string
		role          Role
		comment, want string
	}{
		{"*.example.com", "", "", `bad domain "*.example.com": character '*' not allowed`},
		{"example com", "", "", `bad domain "example com": character ' ' not allowed`},
		{"", "", "a\nb", "comment: expected printable characters"},
		{"", "", "\xff", "comment: expected printable characters"},
		{"", "", strings.Repeat("x", 201), "comment: longer than 200 bytes"},
		{"", Reading, "", `role: unexpected "reading" without a domain, expected full, or a domain`},
		{"", Sending, "", `role: unexpected "sending" without a domain, expected full, or a domain`},
		{"example.com", Full, "", `role: unexpected "full" with a domain, expected sending or reading`},
		{"example.com", "admin", "", `role: unexpected "admin", expected sending, reading or full`},
		{"example.com", "Reading", "", `role: unexpected "Reading", expected sending, reading or full`},
	} {
		_, _, err := New(m).Create(context.Background(), tt.domain, tt.role, tt.comment)
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	if len(m.rows) != 0 {
		t.Errorf("rows %v", m.rows)
	}
}

// Keys are made, used and revoked at once.
func TestConcurrentKeys(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := New(&memory{rows: map[string]string{}})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			secret, key, err := s.Create(ctx, fmt.Sprintf("d%d.example", i), "", "")
			if err != nil {
				t.Error(err)
				return
			}
			if got, ok, err := s.Authenticate(ctx, secret); got != key || !ok || err != nil {
				t.Errorf("got %+v, %v, %v", got, ok, err)
			}
			if _, err := s.List(ctx); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := s.Revoke(ctx, key.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if keys, err := s.List(ctx); len(keys) != 8 || err != nil {
		t.Errorf("%d keys left, %v", len(keys), err)
	}
}

// A row that is read is written as one that is read the same.
func FuzzRow(f *testing.F) {
	f.Add("v=1 sha256=" + strings.Repeat("0a", 32) + " created=2026-11-26T12:00:00Z domain=example.com comment=a%20b")
	f.Add("v=1 sha256=" + strings.Repeat("0a", 32) + " created=2026-11-26T12:00:00Z domain=example.com role=reading")
	f.Add("v=1 sha256= created=0000-01-01T00:00:00+23:59 comment=%")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRow(text)
		if err != nil {
			if len(err.Error()) > 1024 || strings.ContainsAny(err.Error(), "\n\r\x1b\x00") {
				t.Errorf("error %q", err)
			}
			return
		}
		r.created = r.created.Truncate(time.Second)
		if r.created.Year() < 0 || r.created.Year() > 9999 {
			return // nobody makes one then
		}
		again, err := parseRow(r.String())
		if err != nil || !again.created.Equal(r.created) || again.hash != r.hash || again.key("") != r.key("") {
			t.Errorf("%q became %q: %+v, %v", text, r.String(), again, err)
		}
	})
}

// No word lets anybody in who was not given it.
func FuzzSecret(f *testing.F) {
	s := New(&memory{rows: map[string]string{}})
	secret, _, err := s.Create(context.Background(), "", "", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret[:len(secret)-1])
	f.Add("key-" + strings.Repeat("a", 16) + "-" + strings.Repeat("a", 52))
	f.Fuzz(func(t *testing.T, word string) {
		if _, ok, err := s.Authenticate(context.Background(), word); err != nil || ok && word != secret {
			t.Errorf("%q: %v, %v", word, ok, err)
		}
	})
}
