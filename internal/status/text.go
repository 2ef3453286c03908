package status

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// plain are the octets that stand for themselves in a string of JSON: what
// prints in ASCII, but for the quote and the backslash. It is only read.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString appends s as a string of JSON (RFC 8259, section 7). Beyond
// what JSON demands it escapes whatever does not print: DEL, the C1 controls
// (terminals obey them, some line splitters take NEL for a newline), direction
// marks, line and paragraph separators. An invalid octet becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError && n == 1
		if invalid || r == '"' || r == '\\' || !unicode.IsPrint(r) {
			b = append(b, s[done:i]...)
			b = appendEscape(b, r)
			done = i + n
		}
		i += n
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

// appendEscape appends the short form, where there is one, else \uXXXX, twice
// for what needs two.
func appendEscape(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return appendEscape(appendEscape(b, high), low)
	}
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// clip makes s valid UTF-8 of at most limit octets, cut between characters.
func clip(s string, limit int) string {
	if len(s) <= limit && utf8.ValidString(s) {
		return s
	}
	// Cut twice: before, so that the work is bounded, and after, because a
	// replacement is longer than the octet it replaces.
	return cut(strings.ToValidUTF8(cut(s, limit), string(utf8.RuneError)), limit)
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for back := 1; back < utf8.UTFMax && back <= limit; back++ {
		if utf8.RuneStart(s[end]) {
			break
		}
		end--
	}
	return s[:end]
}
