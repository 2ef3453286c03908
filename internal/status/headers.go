package status

import (
	"encoding/json"
	"net/textproto"
	"slices"
	"strings"
)

// Headers are header fields under lower-case names: an object in the document.
// They are sorted by name, as encoding/json sorts a map, and no name stands
// there twice; HeaderNames sees to both. A map would cost two allocations for
// the one field that most documents have.
type Headers []HeaderField

// HeaderField is one of them.
type HeaderField struct{ Name, Value string }

// Get returns the value of the field with this lower-case name, and whether
// there is one.
func (h Headers) Get(name string) (value string, ok bool) {
	for _, f := range h {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

func (h Headers) encode(e *encoder) {
	e.begin()
	for _, f := range h {
		e.comma()
		e.b = append(appendString(e.b, f.Name), ':')
		e.b = appendString(e.b, f.Value)
	}
	e.end()
}

// MarshalJSON gives an object.
func (h Headers) MarshalJSON() ([]byte, error) {
	var e encoder
	h.encode(&e)
	return e.b, nil
}

// UnmarshalJSON takes an object.
func (h *Headers) UnmarshalJSON(text []byte) error {
	var fields map[string]string
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	*h = make(Headers, 0, len(fields))
	for name, value := range fields {
		*h = append(*h, HeaderField{name, value})
	}
	slices.SortFunc(*h, func(a, b HeaderField) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// HeaderName is the name of a header field to copy, in both spellings that
// Build needs: looking a field up under another one than the canonical spelling
// allocates.
type HeaderName struct{ lower, canonical string }

// HeaderNames prepares names: sorted, each once, however they are spelled.
func HeaderNames(names ...string) []HeaderName {
	out := make([]HeaderName, 0, len(names))
	for _, name := range names {
		out = append(out, HeaderName{strings.ToLower(name), textproto.CanonicalMIMEHeaderKey(name)})
	}
	slices.SortFunc(out, func(a, b HeaderName) int { return strings.Compare(a.lower, b.lower) })
	return slices.CompactFunc(out, func(a, b HeaderName) bool { return a.lower == b.lower })
}
