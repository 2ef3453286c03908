package api

import (
	"strings"
	"testing"
)

// Foreign text in the log keeps what can be read, and nothing that a terminal
// obeys but JSON leaves as it is.
func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             "",
		`<a"\b@example.com>`:           `<a"\b@example.com>`,
		"bücher@example":               "bücher@example",
		"\x1b[2J\r\n":                  "\x1b[2J\r\n", // JSON escapes it
		"\x7f\u009b2J\u202eevil":       "\ufffd\ufffd2J\ufffdevil",
		"\xff\xfe":                     "\ufffd\ufffd",
		strings.Repeat("é", 200):       strings.Repeat("é", 128) + "...",
		"a" + strings.Repeat("é", 200): "a" + strings.Repeat("é", 127) + "...",
	} {
		if got := Plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
