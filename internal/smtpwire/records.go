package smtpwire

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"
)

// records is the socket as the TLS layer reads it: never beyond the end of a
// record (RFC 8446, section 5.1). So the TLS layer has nothing read ahead that
// nobody can see, and what came early is known without asking it. Writes go
// through.
type records struct {
	net.Conn
	early []byte // read from the socket and not yet passed on; of buf
	buf   *[recordBuffer]byte
	left  int    // octets of the present record that are still to come
	head  []byte // what was passed on of the next record's header
	store [recordHeader]byte
}

const (
	recordHeader = 5
	// recordBuffer is read at once. Replies are small; longer records take several
	// turns.
	recordBuffer = 4 << 10
)

// recordBuffers are used while something is read, not by idle sessions.
var recordBuffers = sync.Pool{New: func() any { return new([recordBuffer]byte) }}

// Read implements net.Conn.
func (r *records) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.early) == 0 {
		buf := recordBuffers.Get().(*[recordBuffer]byte)
		n, err := r.Conn.Read(buf[:])
		if n <= 0 {
			recordBuffers.Put(buf)
			return n, err
		}
		r.buf, r.early = buf, buf[:n]
	}
	n := r.pass(p)
	if len(r.early) == 0 {
		recordBuffers.Put(r.buf)
		r.buf, r.early = nil, nil
	}
	return n, nil
}

// pass moves octets up to the end of the present record.
func (r *records) pass(p []byte) (n int) {
	for n < len(p) && len(r.early) > 0 {
		if r.left == 0 {
			if r.head == nil {
				r.head = r.store[:0]
			}
			p[n] = r.early[0]
			r.head = append(r.head, r.early[0])
			r.early = r.early[1:]
			n++
			if len(r.head) == recordHeader {
				r.left = int(binary.BigEndian.Uint16(r.head[3:]))
				r.head = r.head[:0]
			}
			continue
		}
		moved := copy(p[n:], r.early[:min(r.left, len(r.early))])
		r.early = r.early[moved:]
		r.left -= moved
		n += moved
		if r.left == 0 {
			return n
		}
	}
	return n
}

// begun reports whether something was read from the socket that the TLS layer has
// not got to the end of: octets that it has not asked for, or a part of a record.
func (r *records) begun() bool { return len(r.early) > 0 || r.left > 0 || len(r.head) > 0 }

// plainReader is the TLS layer as replies are read from it.
type plainReader struct {
	tls *tls.Conn
	// full tells that the last read filled the buffer, so that there may be more of
	// the same record.
	full bool
}

// Read implements io.Reader.
func (p *plainReader) Read(b []byte) (int, error) {
	n, err := p.tls.Read(b)
	p.full = n == len(b)
	return n, err
}
