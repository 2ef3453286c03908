package status

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"tlscontrol/internal/delivery"
)

// maxKept is the size up to which buffers are kept for the next document; a
// usual line has one to two KiB.
const maxKept = 64 << 10

// Append appends the document of one attempt to dst: one line with its
// newline, whatever the strings in it hold.
func Append(dst []byte, a *delivery.Attempt, opts Options) []byte {
	e := encoders.Get().(*encoder)
	defer e.release()
	// A Document holds nothing that cannot be encoded; if that ever changes,
	// a panic is seen (observers are recovered), a missing line is not.
	if err := e.json.Encode(Build(a, opts)); err != nil {
		panic("status: " + err.Error())
	}
	return appendPrintable(dst, e.buf.Bytes())
}

// encoder is a buffer and the json.Encoder that writes to it.
type encoder struct {
	buf  bytes.Buffer
	json *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(&e.buf)
	// A log is not HTML: "<" stays readable.
	e.json.SetEscapeHTML(false)
	return e
}}

func (e *encoder) release() {
	if e.buf.Cap() > maxKept {
		return
	}
	e.buf.Reset()
	encoders.Put(e)
}

// appendPrintable copies a line of JSON and escapes what encoding/json lets
// through although it does not print: DEL, the C1 controls (terminals obey
// them, some line splitters take NEL for a newline), direction marks, line
// and paragraph separators. Such characters occur inside strings only, so the
// meaning of the JSON does not change.
func appendPrintable(dst, line []byte) []byte {
	done := 0
	for i := 0; i < len(line); {
		if c := line[i]; c < utf8.RuneSelf && c != 0x7f {
			i++
			continue
		}
		r, n := utf8.DecodeRune(line[i:])
		if !unicode.IsPrint(r) {
			dst = append(dst, line[done:i]...)
			dst = appendEscape(dst, r)
			done = i + n
		}
		i += n
	}
	return append(dst, line[done:]...)
}

// appendEscape appends \uXXXX, twice for what needs two (RFC 8259, section 7).
func appendEscape(dst []byte, r rune) []byte {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return appendEscape(appendEscape(dst, high), low)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
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
