package smtpwire

import "encoding/binary"

// A server should discard the octets of a chunk that it refuses (RFC 3030,
// section 2). Some read on and take them for commands, go-smtp among them when
// no recipient was accepted. Two rules keep such a server from being led on by
// the text of a message:
//
//   - a message goes out before it is known that the server wants it only if no
//     line of it could name a recipient: without RCPT no list of commands sends
//     mail;
//   - after a refused chunk the session is over, because a body full of "NOOP"
//     would yield replies that pass for those to the next message.

// namesRecipient reports whether a line of a message could be taken for a RCPT
// command: see scanner.
func namesRecipient(b []byte) bool {
	var s scanner
	s.add(b)
	return s.found
}

// scanner looks through a message, block by block, for RCPT in any letter case and
// at any place of a line, since where a server takes a command to begin is not for
// us to know. What tells a command from chance (base64 of a MiB has about one) is
// the rest of the line: a command goes on with a space, a colon, an address, and
// base64 with nothing of that kind.
type scanner struct {
	found bool
	open  bool // RCPT was seen in a line that is not at its end yet
	end   [3]byte
	ended int // octets in end, the last ones of the block before
}

// add looks through the next block.
func (s *scanner) add(b []byte) {
	if s.open {
		s.rest(b)
	}
	// The word may be cut in two.
	seam := append(append(make([]byte, 0, 6), s.end[:s.ended]...), b[:min(3, len(b))]...)
	if firstRCPT(seam) >= 0 {
		s.rest(b)
	}
	for left := b; !s.found; {
		at := firstRCPT(left)
		if at < 0 {
			break
		}
		left = left[at+4:]
		left = left[s.rest(left):] // another RCPT in this line has the same rest, or less of it
	}
	if len(b) >= 3 {
		seam = b
	}
	s.ended = copy(s.end[:], seam[max(0, len(seam)-3):])
}

// rest looks at what follows RCPT in its line, or at the beginning of it, and returns
// how many octets that were.
func (s *scanner) rest(b []byte) int {
	for i, c := range b {
		switch {
		case c == '\r' || c == '\n':
			s.open = false
			return i
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '+', c == '/', c == '=':
		default:
			s.found = true
			return i
		}
	}
	s.open = true
	return len(b)
}

// firstRCPT returns where RCPT begins in b, in any letter case; -1 if it is not
// there. Eight octets are looked at at once, for a C with a P behind it.
func firstRCPT(b []byte) int {
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
		from := max(i-1, 0)
		if at := plainFirstRCPT(b[from:min(i+9, len(b))]); at >= 0 {
			return from + at
		}
	}
	from := max(i-2, 0)
	if at := plainFirstRCPT(b[from:]); at >= 0 {
		return from + at
	}
	return -1
}

func plainFirstRCPT(b []byte) int {
	for i := range b {
		if isRCPT(b[i:]) {
			return i
		}
	}
	return -1
}

func isRCPT(b []byte) bool {
	return len(b) >= 4 && b[0]|0x20 == 'r' && b[1]|0x20 == 'c' && b[2]|0x20 == 'p' && b[3]|0x20 == 't'
}
