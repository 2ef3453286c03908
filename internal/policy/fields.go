package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Fields names the header fields in which a message may ask for its own
// settings.
type Fields struct {
	RequireTLS       []string
	SkipVerification []string
}

// DefaultFields returns the fields that are read unless others are configured.
func DefaultFields() Fields {
	return Fields{
		RequireTLS:       []string{"X-Require-TLS", "X-Mailgun-Require-TLS"},
		SkipVerification: []string{"X-Skip-Verification", "X-Mailgun-Skip-Verification"},
	}
}

// Names returns the names of all override fields. Together with StampField
// these are what has to be removed before a message leaves.
func (f Fields) Names() []string {
	return slices.Concat(f.RequireTLS, f.SkipVerification)
}

// FieldError reports an override field that cannot be followed.
type FieldError struct {
	// Field is the name of the field.
	Field string
	// Value is its value as it may be shown: quoted, escaped and cut.
	Value string
	// Contradicts names the field that says the opposite (it may be another
	// instance of the same one); "" if the value itself is malformed.
	Contradicts string
}

func (e *FieldError) Error() string {
	if e.Contradicts != "" {
		return fmt.Sprintf("header field %s: %s contradicts %s", e.Field, e.Value, e.Contradicts)
	}
	return fmt.Sprintf("header field %s: unexpected %s, expected yes or no", e.Field, e.Value)
}

// Read returns what the override fields of a message ask for. The function
// returns all values of a field; it must ignore the letter case of the name, as
// textproto.Header.Values does. A malformed value, or two that contradict each
// other, is a *FieldError; the same value twice is not.
//
// Read is for messages of clients that may override. For anybody else's see
// ReadTightening.
func (f Fields) Read(values func(name string) []string) (Override, error) {
	require, err := readSwitch(f.RequireTLS, values)
	if err != nil {
		return Override{}, err
	}
	skip, err := readSwitch(f.SkipVerification, values)
	if err != nil {
		return Override{}, err
	}
	return Override{RequireTLS: require, SkipVerification: skip}, nil
}

func readSwitch(names []string, values func(string) []string) (Switch, error) {
	said, saidBy := Unset, ""
	for _, name := range names {
		for _, value := range values(name) {
			value = trimField(value)
			v, err := ParseSwitch(value)
			if err != nil {
				return Unset, &FieldError{Field: name, Value: Quote(value)}
			}
			if said != Unset && v != said {
				return Unset, &FieldError{Field: name, Value: Quote(value), Contradicts: saidBy}
			}
			said, saidBy = v, name
		}
	}
	return said, nil
}

// trimField removes the white space that folding leaves around a value.
func trimField(value string) string { return strings.Trim(value, " \t\r\n") }

// ReadTightening returns what may be honoured in a message that carries no
// valid stamp: only RequireTLS=Yes and SkipVerification=No survive. A field
// that says the tightening value counts whatever the others say; everything
// else counts as absent.
func (f Fields) ReadTightening(values func(name string) []string) Override {
	var o Override
	if anySays(f.RequireTLS, values, Yes) {
		o.RequireTLS = Yes
	}
	if anySays(f.SkipVerification, values, No) {
		o.SkipVerification = No
	}
	return o
}

func anySays(names []string, values func(string) []string, want Switch) bool {
	for _, name := range names {
		for _, value := range values(name) {
			if v, err := ParseSwitch(trimField(value)); err == nil && v == want {
				return true
			}
		}
	}
	return false
}
