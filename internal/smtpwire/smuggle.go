package smtpwire

import "encoding/binary"

// A server should discard the octets of a chunk that it refuses (RFC 3030,
// section 2). Some read on and take them for commands, go-smtp among them when
// no recipient was accepted. Two rules keep such a server from being led on by
// the text of a message:
//
//   - a message goes out before it is known that the server wants it only if it
//     could not name a recipient: without RCPT no list of commands sends mail;
//   - after a refused chunk the session is over, because a body full of "NOOP"
//     would yield replies that pass for those to the next message.

// namesRecipient reports whether b contains RCPT, in any letter case and
// anywhere: where a server takes a line to begin is not for us to know. Eight
// octets are looked at at once, for a C with a P behind it.
func namesRecipient(b []byte) bool {
	const (
		each  = 0x0101010101010101
		lower = 0x20 * each
		high  = 0x80 * each
	)
	i := 0
	for ; i+8 <= len(b); i += 7 { // the last octet is the next one's first
		w := binary.LittleEndian.Uint64(b[i:]) | lower
		c, p := w^('c'*each), w^('p'*each)
		// The high bit of an octet is set where it was zero, and perhaps in octets
		// after such a one: too often is looked at below, too seldom never.
		c, p = (c-each)&^c&high, (p-each)&^p&high
		if c<<8&p == 0 {
			continue
		}
		if hasRCPT(b[max(i-1, 0):min(i+9, len(b))]) {
			return true
		}
	}
	return hasRCPT(b[max(i-2, 0):])
}

func hasRCPT(b []byte) bool {
	for i := range b {
		if isRCPT(b[i:]) {
			return true
		}
	}
	return false
}

func isRCPT(b []byte) bool {
	return len(b) >= 4 && b[0]|0x20 == 'r' && b[1]|0x20 == 'c' && b[2]|0x20 == 'p' && b[3]|0x20 == 't'
}
