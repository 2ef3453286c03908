package delivery

import (
	"bytes"
	"fmt"

	"github.com/emersion/go-message/textproto"
)

// usualHeader is room for the header of most messages.
const usualHeader = 2 << 10

// render writes a header as it is sent, with the empty line behind it. What was
// one field to those who judged the message is one field on the wire.
func render(h textproto.Header) ([]byte, error) {
	b := make([]byte, 0, usualHeader)
	for fields := h.Fields(); fields.Next(); {
		raw, err := fields.Raw()
		if err != nil {
			return nil, fmt.Errorf("the header cannot be written: %s: %w", printable(fields.Key(), maxStatusText), err)
		}
		b = appendField(b, raw)
	}
	return append(b, '\r', '\n'), nil
}

// appendField appends one field, as it came, and makes sure that it stays one. A CR
// or LF that is no folding (CRLF before a space or tab, RFC 5322, section 2.2.3)
// becomes a space. Sent as a line end, as in the body, it would begin a field that
// nobody looked at, or the body; sent as it is, some servers take it for a line end.
func appendField(dst, raw []byte) []byte {
	// At the start it would fold the field into the one before.
	raw = bytes.TrimLeft(raw, " \t\r\n")
	line := bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	start := len(dst)
	dst = append(dst, line...)
	for rest := dst[start:]; ; {
		at := bytes.IndexAny(rest, "\r\n")
		if at < 0 {
			return append(dst, '\r', '\n')
		}
		if rest = rest[at:]; isFolding(rest) {
			rest = rest[3:]
		} else {
			rest[0], rest = ' ', rest[1:]
		}
	}
}

// isFolding reports whether b begins with a folding.
func isFolding(b []byte) bool {
	return len(b) > 2 && b[0] == '\r' && b[1] == '\n' && (b[2] == ' ' || b[2] == '\t')
}
