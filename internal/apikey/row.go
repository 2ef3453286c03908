package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tlscontrol/internal/policy"
)

const (
	// maxComment bounds a comment, in bytes.
	maxComment = 200
	// maxRow bounds a row: a comment has up to three bytes for each of its own,
	// a domain as U-labels at most about as many as maxComment allows.
	maxRow = 2048
)

// row is what the table holds of a key.
type row struct {
	hash    [sha256.Size]byte
	created time.Time // in UTC, whole seconds
	domain  string
	role    Role
	comment string
}

func (r row) key(id string) Key {
	return Key{ID: id, Domain: r.domain, Role: r.role, Comment: r.comment, Created: r.created}
}

// String returns the row as it is written: words key=value, separated by a
// space, without the commas at which table.file would split it. What restricts the
// key stands before what must be there: a row whose end is lost opens nothing.
func (r row) String() string {
	text := "v=1"
	if r.domain != "" {
		text += " domain=" + r.domain
	}
	if r.role != usualRole(r.domain) {
		text += " role=" + string(r.role)
	}
	text += " sha256=" + hex.EncodeToString(r.hash[:]) + " created=" + r.created.Format(time.RFC3339)
	if r.comment != "" {
		text += " comment=" + strings.ReplaceAll(url.QueryEscape(r.comment), "+", "%20")
	}
	return text
}

// parseRow reads a row. One that cannot be read whole is an error; it never
// holds the hash.
func parseRow(s string) (row, error) {
	if len(s) > maxRow {
		return row{}, fmt.Errorf("longer than %d bytes", maxRow)
	}
	var r row
	seen := make(map[string]bool)
	for _, word := range strings.Fields(s) {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return row{}, errors.New("unexpected word, expected key=value")
		}
		if seen[key] {
			return row{}, fmt.Errorf("%s is set twice", policy.Quote(key))
		}
		seen[key] = true
		if err := r.set(key, value); err != nil {
			return row{}, err
		}
	}
	for _, key := range []string{"v", "sha256", "created"} {
		if !seen[key] {
			return row{}, fmt.Errorf("%s is missing", key)
		}
	}
	if !seen["role"] {
		r.role = usualRole(r.domain)
	}
	if err := checkRole(r.role, r.domain); err != nil {
		return row{}, err
	}
	return r, nil
}

// set reads one word of a row.
func (r *row) set(key, value string) (err error) {
	switch key {
	case "v":
		if value != "1" {
			return fmt.Errorf("v: unexpected %s, expected 1", policy.Quote(value))
		}
	case "sha256":
		if len(value) != 2*len(r.hash) {
			return fmt.Errorf("sha256: expected %d hexadecimal digits", 2*len(r.hash))
		}
		if _, err := hex.Decode(r.hash[:], []byte(value)); err != nil {
			return fmt.Errorf("sha256: expected %d hexadecimal digits", 2*len(r.hash))
		}
	case "created":
		at, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return fmt.Errorf("created: unexpected %s, expected a time like 2006-01-02T15:04:05Z", policy.Quote(value))
		}
		r.created = at.UTC()
	case "domain":
		if r.domain, err = policy.ParseDomain(value); err != nil {
			return fmt.Errorf("domain: %w", err)
		}
	case "role":
		r.role = Role(value)
	case "comment":
		if r.comment, err = url.PathUnescape(value); err != nil {
			return errors.New("comment: unexpected % sign, expected %XX")
		}
		return checkComment(r.comment)
	default:
		return fmt.Errorf("unexpected %s, expected one of v, sha256, created, domain, role, comment", policy.Quote(key))
	}
	return nil
}

// checkComment refuses what could not be shown in one line of a list.
func checkComment(comment string) error {
	if len(comment) > maxComment {
		return fmt.Errorf("comment: longer than %d bytes", maxComment)
	}
	if !utf8.ValidString(comment) || strings.ContainsFunc(comment, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("comment: expected printable characters")
	}
	return nil
}
