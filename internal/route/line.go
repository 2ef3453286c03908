package route

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAsked bounds the questions that wait on one line. Those beyond get a
	// socket of their own.
	maxAsked = 1000
	// lineIdle is how long a line is kept while nothing is asked.
	lineIdle = 10 * time.Second
)

// line is one UDP socket to a resolver on loopback, shared by all questions: to
// make a socket for each costs several times what the question does. Resolvers
// elsewhere get a socket, and so a port that nobody can guess, for each question
// (RFC 5452, section 9.2); to loopback only this machine can send.
type line struct {
	address string
	idle    time.Duration   // lineIdle
	running *sync.WaitGroup // counts the reader

	mu     sync.Mutex
	conn   net.Conn // nil while nobody has asked for a while
	asked  map[uint16]chan<- heard
	closed bool
}

// heard is how a question on a line ended.
type heard struct {
	reply *dns.Msg
	err   error
}

// errBusy means that a question has to go another way.
var errBusy = errors.New("too many questions on one socket")

// exchange sends a query, whose ID it chooses, and waits for the reply to it.
func (l *line) exchange(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	answered := make(chan heard, 1)
	conn, err := l.enter(query, answered)
	if err != nil {
		return nil, err
	}
	defer l.leave(query.Id, answered)
	packet, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	limit := time.NewTimer(tryTimeout)
	defer limit.Stop()
	select {
	case h := <-answered:
		if h.err != nil {
			return nil, h.err
		}
		return h.reply, answers(h.reply, query)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-limit.C:
		return nil, context.DeadlineExceeded
	}
}

// enter notes a question under an ID that no other one has.
func (l *line) enter(query *dns.Msg, answered chan<- heard) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errClosed
	case len(l.asked) >= maxAsked:
		return nil, errBusy
	}
	if l.conn == nil {
		conn, err := net.Dial("udp", l.address) // does not wait: UDP to an IP address
		if err != nil {
			return nil, err
		}
		l.conn, l.asked = conn, make(map[uint16]chan<- heard)
		l.running.Go(func() { l.read(conn) })
	}
	if len(l.asked) == 0 {
		_ = l.conn.SetReadDeadline(time.Time{})
	}
	for {
		query.Id = dns.Id()
		if _, taken := l.asked[query.Id]; !taken {
			break
		}
	}
	l.asked[query.Id] = answered
	return l.conn, nil
}

// leave forgets a question, unless the socket it went over is gone and its ID is
// by now another's.
func (l *line) leave(id uint16, answered chan<- heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked[id] != answered {
		return
	}
	delete(l.asked, id)
	if len(l.asked) == 0 && l.conn != nil && !l.closed {
		_ = l.conn.SetReadDeadline(time.Now().Add(l.idle))
	}
}

// read hands replies to those who asked until nobody does any more, or the
// socket fails, which all hear of who are waiting then.
func (l *line) read(conn net.Conn) {
	var packet [udpSize]byte
	for {
		n, err := conn.Read(packet[:])
		if err != nil {
			if l.hangUp(conn, err) {
				return
			}
			continue
		}
		if n < 2 {
			continue
		}
		l.mu.Lock()
		answered := l.asked[binary.BigEndian.Uint16(packet[:])]
		l.mu.Unlock()
		if answered == nil {
			continue // late: whoever asked has gone
		}
		select {
		case answered <- parse(packet[:n]):
		default: // the same reply twice
		}
	}
}

// parse reads a packet, which may be anything.
func parse(packet []byte) (h heard) {
	defer func() {
		if p := recover(); p != nil {
			h = heard{err: fmt.Errorf("malformed reply: %v", p)}
		}
	}()
	reply := new(dns.Msg)
	if err := reply.Unpack(packet); err != nil {
		return heard{err: fmt.Errorf("malformed reply: %w", err)}
	}
	return heard{reply: reply}
}

// hangUp closes the socket, unless all that happened is that a question came at
// the moment in which the line had been idle for long enough.
func (l *line) hangUp(conn net.Conn, why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var timeout net.Error
	if errors.As(why, &timeout) && timeout.Timeout() && len(l.asked) > 0 && !l.closed {
		return false
	}
	if l.closed {
		why = errClosed
	}
	for _, answered := range l.asked {
		select {
		case answered <- heard{err: why}:
		default:
		}
	}
	_ = conn.Close()
	l.conn, l.asked = nil, nil
	return true
}

// close ends the questions on the line and refuses others.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn != nil {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}
