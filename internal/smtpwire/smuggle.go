package smtpwire

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
// anywhere: where a server takes a line to begin is not for us to know.
func namesRecipient(b []byte) bool {
	// Of four octets in a row one is at an index of the form 4n+3.
	for i := 3; i < len(b); i += 4 {
		switch b[i] | 0x20 {
		case 'r':
			if isRCPT(b[i:]) {
				return true
			}
		case 'c':
			if isRCPT(b[i-1:]) {
				return true
			}
		case 'p':
			if isRCPT(b[i-2:]) {
				return true
			}
		case 't':
			if isRCPT(b[i-3:]) {
				return true
			}
		}
	}
	return false
}

func isRCPT(b []byte) bool {
	return len(b) >= 4 && b[0]|0x20 == 'r' && b[1]|0x20 == 'c' && b[2]|0x20 == 'p' && b[3]|0x20 == 't'
}
