package api

import (
	"strings"
	"testing"
)

// However a list is malformed, the answer is a line that says which address it is.
func FuzzBadAddress(f *testing.F) {
	for _, list := range []string{"", "a@b.example, x", `"a, b" <a@b.example>, (c, (d)) y`, `"a\", b`, "g: a@b.example, b;", "a@b.example,", "\u202e@x", `\`, "(,"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		one := firstBad(list)
		if !strings.Contains(list, one) || one == "" && strings.TrimSpace(list) != "" {
			t.Errorf("%q is none of %q", one, list)
		}
		text := badAddress("to", one).Text
		if len(text) > 600 || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%q: got %q", list, text)
		}
	})
}
