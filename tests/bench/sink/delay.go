package sink

import (
	"net"
	"sync"
	"time"
)

// maxLate bounds the writes under way on one connection. A writer waits when
// there are more.
const maxLate = 1024

// lateConn delivers what is written to it later, without making the writer wait,
// in order, and each write as much later as the others. Write and Close must be
// called by one goroutine.
type lateConn struct {
	net.Conn
	delay  time.Duration
	queue  chan late
	finish sync.Once
}

// late is one write under way.
type late struct {
	due   time.Time
	bytes []byte
}

func newLateConn(c net.Conn, delay time.Duration) *lateConn {
	l := &lateConn{Conn: c, delay: delay, queue: make(chan late, maxLate)}
	go l.carry()
	return l
}

// Write implements net.Conn. Errors of the connection are found by reading.
func (l *lateConn) Write(p []byte) (int, error) {
	l.queue <- late{due: time.Now().Add(l.delay), bytes: append([]byte(nil), p...)}
	return len(p), nil
}

// Close closes the connection behind the last write.
func (l *lateConn) Close() error {
	l.finish.Do(func() { close(l.queue) })
	return nil
}

func (l *lateConn) carry() {
	defer l.Conn.Close()
	broken := false
	for w := range l.queue {
		if broken {
			continue
		}
		time.Sleep(time.Until(w.due))
		_, err := l.Conn.Write(w.bytes)
		broken = err != nil
	}
}
