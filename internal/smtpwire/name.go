package smtpwire

import "bytes"

// maxName is what is kept of a server's name (RFC 5321, section 4.5.3.1.2).
const maxName = 255

// nameIn is the first word of a reply.
func nameIn(text []byte) string {
	if end := bytes.IndexAny(text, " \t\r\n"); end >= 0 {
		text = text[:end]
	}
	return string(text[:min(len(text), maxName)])
}
