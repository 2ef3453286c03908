//go:build unix

package smtpwire

import (
	"net"
	"syscall"
)

// peeker looks into a socket. It is kept with the session, so that looking, once
// or twice a message, allocates nothing.
type peeker struct {
	socket  syscall.RawConn
	look    func(fd uintptr) bool
	n       int
	failure error
	b       [1]byte
}

// pending returns how much of what has arrived on a connection waits to be
// read, 0 or 1, without waiting and without taking it.
func (p *peeker) pending(nc net.Conn) (n int, err error) {
	if p.socket == nil {
		sc, ok := nc.(syscall.Conn)
		if !ok {
			return 0, nil
		}
		if p.socket, err = sc.SyscallConn(); err != nil {
			return 0, err
		}
		p.look = func(fd uintptr) bool {
			p.n, _, p.failure = syscall.Recvfrom(int(fd), p.b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return true
		}
	}
	err = p.socket.Read(p.look)
	switch {
	case err != nil:
		return 0, err
	case p.failure == syscall.EAGAIN || p.failure == syscall.EWOULDBLOCK || p.failure == syscall.EINTR:
		return 0, nil
	case p.failure != nil:
		return 0, p.failure
	case p.n == 0:
		return 0, errGone
	}
	return p.n, nil
}
