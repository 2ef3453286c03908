package mailtest

import "net"

// TLS record layer as a bystander sees it (RFC 8446, 5.1): content type, version
// and length, then so many bytes.
const (
	recordHeader  = 5
	minRecordType = 20 // change_cipher_spec
	maxRecordType = 24 // heartbeat
	maxRecord     = 1<<14 + 2048
)

// clearRecorder is the raw connection. It keeps what the client sends in clear.
// From expectTLS on, bytes that form TLS records are passed over; with the first
// byte that does not belong to one, everything counts as clear again. That way a
// client that goes on in clear after a broken handshake is caught.
//
// It hides the ReadFrom and WriteTo of the TCP connection, which would read past
// it.
type clearRecorder struct {
	net.Conn
	tcp  *net.TCPConn // the same, for what only TCP can do
	keep func([]byte)

	tls     bool
	header  []byte // of the record being read
	payload int    // bytes of it still to come
}

// Read implements net.Conn.
func (c *clearRecorder) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if rest := c.passRecords(p[:n]); len(rest) > 0 {
		c.keep(rest)
	}
	return n, err
}

// expectTLS says that the client may start a handshake now.
func (c *clearRecorder) expectTLS() { c.tls = true }

// passRecords drops TLS records from the front of p and returns what is clear.
func (c *clearRecorder) passRecords(p []byte) []byte {
	for c.tls && len(p) > 0 {
		if c.payload > 0 {
			n := min(c.payload, len(p))
			c.payload -= n
			p = p[n:]
			continue
		}
		c.header = append(c.header, p[0])
		p = p[1:]
		if !plausibleHeader(c.header) {
			c.tls = false
			p = append(c.header, p...)
			c.header = nil
			return p
		}
		if len(c.header) == recordHeader {
			c.payload = int(c.header[3])<<8 | int(c.header[4])
			c.header = c.header[:0]
		}
	}
	return p
}

// plausibleHeader reports whether h can be the beginning of a record.
func plausibleHeader(h []byte) bool {
	if h[0] < minRecordType || h[0] > maxRecordType {
		return false
	}
	if len(h) >= 2 && h[1] != 3 {
		return false
	}
	if len(h) >= 3 && h[2] > 4 {
		return false
	}
	return len(h) < recordHeader || int(h[3])<<8|int(h[4]) <= maxRecord
}
