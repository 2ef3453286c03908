package sink

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Counts is what has come since the start.
type Counts struct {
	Connections int64
	Handshakes  int64 // completed
	Resumed     int64 // of these, without a certificate
	Messages    int64
}

// Sub returns what has come since earlier.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		Connections: c.Connections - earlier.Connections,
		Handshakes:  c.Handshakes - earlier.Handshakes,
		Resumed:     c.Resumed - earlier.Resumed,
		Messages:    c.Messages - earlier.Messages,
	}
}

// server is all services together.
type server struct {
	tls *tls.Config

	connections, handshakes, resumed, messages atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]bool
}

func (s *server) counts() Counts {
	return Counts{
		Connections: s.connections.Load(), Handshakes: s.handshakes.Load(),
		Resumed: s.resumed.Load(), Messages: s.messages.Load(),
	}
}

// listen opens a service and returns its port.
func (s *server) listen(service Service) (int, error) {
	host := "127.0.0.1"
	if runtime.GOOS == "linux" && !service.HalfDead {
		host = "" // all of 127.0.0.0/8; accept turns others away
	}
	l, err := net.Listen("tcp4", host+":0")
	if err != nil {
		return 0, fmt.Errorf("sink: %w", err)
	}
	go s.accept(l, service)
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *server) accept(l net.Listener, service Service) {
	for {
		nc, err := l.Accept()
		if err != nil {
			// Too many open files, most likely; they get fewer.
			time.Sleep(time.Millisecond)
			continue
		}
		if !nc.LocalAddr().(*net.TCPAddr).IP.IsLoopback() {
			nc.Close()
			continue
		}
		s.connections.Add(1)
		s.mu.Lock()
		s.open[nc] = true
		s.mu.Unlock()
		go s.serve(nc, service)
	}
}

func (s *server) serve(nc net.Conn, service Service) {
	conn := nc
	if service.Delay > 0 {
		conn = newLateConn(nc, service.Delay)
	}
	newSession(s, conn, service.Chunking).run()
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, nc)
}

// hangUp closes all connections.
func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.open {
		nc.Close()
	}
	clear(s.open)
}
