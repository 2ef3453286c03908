//go:build unix

package smtpwire

import (
	"net"
	"syscall"
)

// pending returns how much of what has arrived on a connection waits to be
// read, 0 or 1, without waiting and without taking it.
func pending(nc net.Conn) (n int, err error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failure error
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, failure = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	switch {
	case err != nil:
		return 0, err
	case failure == syscall.EAGAIN || failure == syscall.EWOULDBLOCK || failure == syscall.EINTR:
		return 0, nil
	case failure != nil:
		return 0, failure
	case n == 0:
		return 0, errGone
	}
	return n, nil
}
