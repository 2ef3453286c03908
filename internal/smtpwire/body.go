package smtpwire

import (
	"bytes"
	"io"
	"sync"
)

// The sizes of the buffers a message passes through.
const (
	readSize = 32 << 10 // read from Content at once
	// smallBody is the largest message that goes out in one flight with its envelope.
	// It is what fits the socket buffers of both sides, so that writing it
	// cannot wait for a server that itself waits for us to read its replies.
	smallBody = 64 << 10
	headRoom  = 8 << 10 // for the commands in front of a small message
	slack     = 64      // for what finish and the final dot add
	minRoom   = 512     // a buffer with less room than this is full
)

// buffers are what one transaction needs: raw input, and the encoded message with
// room for the commands in front of it.
type buffers struct {
	raw [readSize]byte
	out [headRoom + smallBody + slack]byte
}

var buffersPool = sync.Pool{New: func() any { return new(buffers) }}

// encoder turns a message into what goes over the wire. CRLF, a lone LF and a
// lone CR each become CRLF: a line end that some server reads differently than we
// do is how a body ends too early and smuggles in a second message. Nothing
// else is changed: NUL and 8-bit octets pass. In a header that would make fields of
// a field; it comes here without any (delivery.render).
type encoder struct {
	stuff bool // double the dot at the start of a line (RFC 5321, section 4.5.2)
	cr    bool // the last block ended in a CR, written as CRLF: skip an LF
	mid   bool // in the middle of a line
}

// encode appends src, a block of the message cut anywhere, to dst. The result is
// at most twice as long as src.
func (e *encoder) encode(dst, src []byte) []byte {
	if e.cr && len(src) > 0 {
		e.cr = false
		if src[0] == '\n' {
			src = src[1:]
		}
	}
	if onlyCRLF(src) && !(e.stuff && (bytes.Contains(src, lineDot) || !e.mid && src[0] == '.')) {
		e.mid = src[len(src)-1] != '\n'
		return append(dst, src...)
	}
	for len(src) > 0 {
		lf := bytes.IndexByte(src, '\n')
		if lf < 0 {
			return e.segment(dst, src, false)
		}
		dst = e.segment(dst, src[:lf], true)
		src = src[lf+1:]
	}
	return dst
}

// onlyCRLF reports whether b, which is not empty, has no CR and no LF but as line
// ends, as almost all mail: then nothing in it changes.
func onlyCRLF(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	lines := 0
	for rest := b; ; lines++ {
		lf := bytes.IndexByte(rest, '\n')
		if lf < 0 {
			return bytes.Count(b, carriageReturn) == lines
		}
		if lf == 0 || rest[lf-1] != '\r' {
			return false
		}
		rest = rest[lf+1:]
	}
}

// segment appends what lies between two LF, the second of which is there if lf
// is set. A CR right before that LF belongs to it.
func (e *encoder) segment(dst, seg []byte, lf bool) []byte {
	for {
		if e.stuff && !e.mid && len(seg) > 0 && seg[0] == '.' {
			dst = append(dst, '.')
		}
		cr := bytes.IndexByte(seg, '\r')
		if cr < 0 {
			dst = append(dst, seg...)
			if lf {
				e.mid = false
				return append(dst, '\r', '\n')
			}
			e.mid = e.mid || len(seg) > 0
			return dst
		}
		dst = append(dst, seg[:cr]...)
		dst = append(dst, '\r', '\n')
		e.mid = false
		if seg = seg[cr+1:]; len(seg) == 0 {
			e.cr = !lf
			return dst
		}
	}
}

// finish appends the CRLF that the last line lacks.
func (e *encoder) finish(dst []byte) []byte {
	if e.mid {
		e.mid = false
		return append(dst, '\r', '\n')
	}
	return dst
}

// counter tells how long a message is once it is encoded, without stuffed dots.
type counter struct {
	n    int64
	any  bool
	last byte // if any
}

// add counts a block of the message, cut anywhere.
func (c *counter) add(src []byte) {
	c.n += int64(len(src))
	if !onlyCRLF(src) {
		// Each LF and each CR that has not the other beside it gets it.
		lf, cr, crlf := bytes.Count(src, lineFeed), bytes.Count(src, carriageReturn), bytes.Count(src, lineEnd)
		c.n += int64(lf + cr - 2*crlf)
		if c.any && c.last == '\r' && src[0] == '\n' {
			c.n -= 2 // the block was cut between them
		}
	}
	c.any, c.last = true, src[len(src)-1]
}

// total is the length with the CRLF that the last line may lack.
func (c *counter) total() int64 {
	if !c.any || c.last == '\n' || c.last == '\r' {
		return c.n
	}
	return c.n + 2
}

var lineFeed, carriageReturn, lineEnd, lineDot = []byte("\n"), []byte("\r"), []byte("\r\n"), []byte("\n.")

// source is the message as a stream of encoded blocks: the header, then the
// content, which is opened when the header is used up.
type source struct {
	enc     encoder
	pending []byte // raw octets that are still to be encoded
	raw     []byte // where the content is read into
	open    func() (io.ReadCloser, error)
	content io.ReadCloser
	eof     bool
}

// next appends encoded octets to dst until it has about limit of them, never
// more, or the message is complete. dst must have room for slack octets beyond
// limit. It is not to be called again after done or an error.
func (s *source) next(dst []byte, limit int) (_ []byte, done bool, err error) {
	for {
		// Looking for the next octets before looking for room tells a block
		// that happens to be the last.
		if err := s.read(); err != nil {
			return dst, false, err
		}
		if len(s.pending) == 0 {
			return s.enc.finish(dst), true, nil
		}
		room := limit - len(dst)
		if room < minRoom {
			return dst, false, nil
		}
		n := min(len(s.pending), room/2)
		dst = s.enc.encode(dst, s.pending[:n])
		s.pending = s.pending[n:]
	}
}

// read makes pending non-empty, unless the message has ended.
func (s *source) read() error {
	for empty := 0; len(s.pending) == 0 && !s.eof; empty++ {
		if s.content == nil {
			if s.open == nil {
				s.eof = true
				return nil
			}
			content, err := s.open()
			if err != nil {
				return err
			}
			if s.content = content; content == nil {
				s.eof = true
				return nil
			}
		}
		n, err := s.content.Read(s.raw)
		s.pending = s.raw[:n]
		if err == io.EOF {
			s.eof = true
		} else if err != nil {
			return err
		} else if empty == 100 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// close closes the content if it was opened.
func (s *source) close() {
	if s.content != nil {
		s.content.Close()
		s.content = nil
	}
}
