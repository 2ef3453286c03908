package api

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// Bounds of what the messages that are being taken hold in memory together. Large
// ones wait for each other, and small ones do not wait behind them.
const (
	maxLarge = 192 << 20
	maxSmall = 64 << 20
	// smallBody is the largest body of a small one, in octets.
	smallBody = 256 << 10
)

// memory is a part of what messages may hold, in octets.
type memory struct {
	small, large *semaphore.Weighted
	message      int64 // what a message may have at most
}

// newMemory makes so many parts of all there is. A message of the largest size
// must find room in each.
func newMemory(parts, message int64) memory {
	m := memory{message: message}
	m.small = semaphore.NewWeighted(maxSmall / parts)
	m.large = semaphore.NewWeighted(max(maxLarge/parts, m.need(message+formOverhead)))
	return m
}

// need is what a message takes at most whose form has a body of so many octets:
// what came in, the texts in it, and what is made of both, which may have three
// octets for one. The rest is for header fields.
func (m memory) need(body int64) int64 { return 2*body + min(3*body, m.message) + 256<<10 }

// take waits for memory for a body. It returns how to give it back.
func (m memory) take(ctx context.Context, body int64) (release func(), err error) {
	of := m.large
	if body <= smallBody {
		of = m.small
	}
	if err := of.Acquire(ctx, m.need(body)); err != nil {
		return nil, err
	}
	return func() { of.Release(m.need(body)) }, nil
}

// hold takes memory for the body of a request, of the key's share and of all,
// waiting for it if need be. It returns how to give it back.
//
// A client that does not say how long the body is (chunked) is taken for one with
// a small message until more has come.
func (a *API) hold(r *http.Request, limit int64, b *budget) (release func(), err error) {
	if r.ContentLength > limit {
		return nil, messageTooLarge(a.MaxMessage)
	}
	if r.ContentLength >= 0 {
		return a.take(r.Context(), r.ContentLength, b)
	}
	small := min(smallBody, limit)
	if release, err = a.take(r.Context(), small, b); err != nil {
		return nil, err
	}
	begin, err := io.ReadAll(io.LimitReader(r.Body, small+1))
	if err != nil {
		release()
		return nil, unreadable(err, limit)
	}
	if int64(len(begin)) <= small {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(begin)), int64(len(begin))
		return release, nil
	}
	all, err := a.take(r.Context(), limit, b)
	release()
	if err != nil {
		return nil, err
	}
	unread(r, begin)
	return all, nil
}

// unread puts back what was read of a body.
func unread(r *http.Request, begin []byte) {
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), r.Body), r.Body}
}

// take takes memory for a body of so many octets.
func (a *API) take(ctx context.Context, body int64, b *budget) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, placePatience)
	defer cancel()
	ofKey, err := b.memory.take(ctx, body)
	if err != nil {
		return nil, unavailable("Too many messages at a time with this key, try again later")
	}
	ofAll, err := a.memory.take(ctx, body)
	if err != nil {
		ofKey()
		return nil, unavailable("Too many messages at a time, try again later")
	}
	return func() { ofAll(); ofKey() }, nil
}

// room is where a body is read to: one piece for all of it. A piece that grew would
// be held twice while it is copied.
type room struct{ read []byte }

// newRoom makes one for a body that says how long it is, or -1, and may have limit
// octets. For one that does not say it there is memory for the longest (hold).
func newRoom(length, limit int64) *room {
	if length < 0 || length > limit {
		length = limit
	}
	return &room{make([]byte, 0, length+1)} // one more, to see the end
}

// all reads r to its end. The octets stay what they are when more is read.
func (m *room) all(r io.Reader) ([]byte, error) {
	start := len(m.read)
	for len(m.read) < cap(m.read) {
		n, err := r.Read(m.read[len(m.read):cap(m.read)])
		m.read = m.read[:len(m.read)+n]
		if err == io.EOF {
			return m.read[start:len(m.read):len(m.read)], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, io.ErrShortBuffer // the server gives no more than was announced
}

// forget uses the place of what was read last again.
func (m *room) forget(octets []byte) { m.read = m.read[:len(m.read)-len(octets)] }

// maxPartHeader bounds the header of a part, in a form or in a message, in octets.
// What reads headers takes whole ones, and a field costs many times its octets.
const maxPartHeader = 4 << 10

// parts reads the parts of a multipart, also of one inside of another, up to that
// bound. What is in a part has to be read before the next one is asked for.
type parts struct {
	from   io.Reader
	header bool  // one is being read
	left   int64 // octets that it may still have
}

// Read implements io.Reader, for the multipart.Reader.
func (p *parts) Read(b []byte) (int, error) {
	if !p.header {
		return p.from.Read(b)
	}
	if p.left == 0 {
		return 0, bad("The header of a part is longer than %d octets", maxPartHeader)
	}
	n, err := p.from.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	return n, err
}

// next returns the next part of a multipart that reads from p. Its encoding is not
// undone.
func (p *parts) next(of *multipart.Reader) (*multipart.Part, error) {
	p.header, p.left = true, maxPartHeader
	defer func() { p.header = false }()
	return of.NextRawPart()
}

// bounded takes what is written up to a limit, and then fails.
type bounded struct {
	bytes.Buffer
	limit int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.Len()+len(p)) > b.limit {
		return 0, messageTooLarge(b.limit)
	}
	return b.Buffer.Write(p)
}
