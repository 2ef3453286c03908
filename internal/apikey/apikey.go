// Package apikey keeps the keys with which clients log in to the HTTP API.
//
// A key opens the whole API, or it belongs to a domain: then it sends mail of that
// domain, and, if it is a reading one, sees what became of it (role.go). What a
// client is given is one word,
//
//	key-ID-SECRET
//
// where ID names the key in lists and SECRET is 256 random bits, both in
// lower-case base32. It is shown once, when the key is made. The table holds,
// under the ID, a row without it (row.go):
//
//	v=1 domain=example.com role=reading sha256=HEX created=2026-11-26T12:00:00Z comment=billing%20server
//
// where sha256 is the hash of the whole word.
//
// One round of SHA-256, and no slow hash like bcrypt, is right here: slow hashes
// make it expensive to try the few million passwords that people choose. Nobody
// tries 2^256 keys at any speed, and a slow hash would only let strangers burn
// the server's time, one wrong key a request. Hashes are compared in constant
// time, also for an ID that does not exist, so a guess learns nothing from how
// long the refusal took, except what an ID alone is good for, which is nothing.
package apikey

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/table"
)

// Key is a key as far as others may know it.
type Key struct {
	ID      string
	Domain  string // the only domain it is for, normalised; "" for all
	Role    Role   // Full exactly if there is no domain
	Comment string
	Created time.Time
}

// Store is a table of keys. It is safe for concurrent use, also beside other
// processes that use the same table; nothing is kept in memory, so a key that
// was revoked anywhere is refused from the next request on.
type Store struct {
	table *table.Guard
	now   func() time.Time
}

// New returns the keys in a table of maddy. One that cannot be written
// (table.file) will do for Authenticate.
func New(t table.Table) *Store {
	return &Store{table: table.New(t), now: time.Now}
}

// ErrUnknown reports that there is no key of an ID.
var ErrUnknown = errors.New("there is no such key")

// InvalidError reports a domain, a role or a comment that cannot be meant.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }
func (e *InvalidError) Unwrap() error { return e.Err }

// RowError reports a row of the table that is not one of a key.
type RowError struct {
	ID  string
	Err error
}

func (e *RowError) Error() string {
	return "keys table, row " + policy.Quote(e.ID) + ": " + e.Err.Error()
}

func (e *RowError) Unwrap() error { return e.Err }

// Authenticate returns the key that secret, the whole word, belongs to, and
// whether there is one. An error means that nobody knows: the table failed, or
// the key's row is broken (*RowError). Neither error nor key holds the secret.
func (s *Store) Authenticate(ctx context.Context, secret string) (Key, bool, error) {
	id, ok := idOf(secret)
	if !ok {
		return Key{}, false, nil
	}
	value, found, err := s.table.Lookup(ctx, id)
	if err != nil {
		return Key{}, false, fmt.Errorf("keys table: %w", err)
	}
	var r row
	if found {
		if r, err = parseRow(value); err != nil {
			return Key{}, false, &RowError{id, err}
		}
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], r.hash[:]) != 1 || !found {
		return Key{}, false, nil
	}
	return r.key(id), true, nil
}

// Create makes a key for a domain, or for all if it is "". The role may be "" for
// the usual one. The word that it returns is kept nowhere else. A domain, a role
// or a comment that cannot be meant is an *InvalidError.
func (s *Store) Create(ctx context.Context, domain string, role Role, comment string) (secret string, key Key, err error) {
	if domain != "" {
		if domain, err = policy.ParseDomain(domain); err != nil {
			return "", Key{}, &InvalidError{err}
		}
	}
	if role == "" {
		role = usualRole(domain)
	}
	if err := checkRole(role, domain); err != nil {
		return "", Key{}, &InvalidError{err}
	}
	if err := checkComment(comment); err != nil {
		return "", Key{}, &InvalidError{err}
	}
	id, secret := generate()
	r := row{hash: sha256.Sum256([]byte(secret)), created: s.now().UTC().Truncate(time.Second), domain: domain, role: role, comment: comment}
	if err := s.table.Set(ctx, id, r.String()); err != nil {
		return "", Key{}, fmt.Errorf("keys table: %w", err)
	}
	return secret, r.key(id), nil
}

// List returns all keys, the oldest first. Rows that cannot be read are left out
// and make the error, a *RowError each, joined; the keys are good all the same.
func (s *Store) List(ctx context.Context) ([]Key, error) {
	ids, err := s.table.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("keys table: %w", err)
	}
	var (
		keys   []Key
		broken []error
	)
	for _, id := range ids {
		value, found, err := s.table.Lookup(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("keys table: %w", err)
		}
		if !found {
			continue // revoked meanwhile
		}
		r, err := parseRow(value)
		if err != nil {
			broken = append(broken, &RowError{id, err})
			continue
		}
		keys = append(keys, r.key(id))
	}
	slices.SortStableFunc(keys, func(a, b Key) int { return a.Created.Compare(b.Created) })
	return keys, errors.Join(broken...)
}

// Revoke removes a key, or a row that cannot be read. ErrUnknown if there is
// none.
func (s *Store) Revoke(ctx context.Context, id string) error {
	_, found, err := s.table.Lookup(ctx, id)
	if values := (*table.ValuesError)(nil); err != nil && !errors.As(err, &values) {
		return fmt.Errorf("keys table: %w", err)
	}
	if err == nil && !found {
		return ErrUnknown
	}
	if err := s.table.Remove(ctx, id); err != nil {
		return fmt.Errorf("keys table: %w", err)
	}
	return nil
}

const (
	prefix      = "key-"
	idBytes     = 10 // 16 characters; 2^80 keep two keys from one ID
	secretBytes = 32
)

// letters has no 0, 1, 8 and 9, and no letter case to get wrong.
var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// generate makes an ID and the whole word.
func generate() (id, secret string) {
	var random [idBytes + secretBytes]byte
	rand.Read(random[:]) // never fails since Go 1.24
	id = letters.EncodeToString(random[:idBytes])
	return id, prefix + id + "-" + letters.EncodeToString(random[idBytes:])
}

// idOf returns the ID in a word that has the form of a key.
func idOf(secret string) (string, bool) {
	rest, ok := strings.CutPrefix(secret, prefix)
	if !ok {
		return "", false
	}
	id, random, ok := strings.Cut(rest, "-")
	if !ok || len(id) != letters.EncodedLen(idBytes) || len(random) != letters.EncodedLen(secretBytes) {
		return "", false
	}
	for _, part := range []string{id, random} {
		if _, err := letters.DecodeString(part); err != nil {
			return "", false
		}
	}
	return id, true
}
