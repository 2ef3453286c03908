package sink

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// deadHost makes an address that neither accepts nor refuses connections: it
// listens with the shortest queue there is, fills it, and never accepts. The
// kernel then drops what else comes, as a firewall does.
func deadHost(address netip.AddrPort) error {
	l, err := net.Listen("tcp4", address.String())
	if err != nil {
		return fmt.Errorf("sink: dead host: %w", err)
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return fmt.Errorf("sink: dead host: %w", err)
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }); err != nil {
		return fmt.Errorf("sink: dead host: %w", err)
	}
	if listenErr != nil {
		return fmt.Errorf("sink: dead host: %w", os.NewSyscallError("listen", listenErr))
	}
	held := []any{l}
	for range 8 {
		c, err := net.DialTimeout("tcp4", address.String(), 200*time.Millisecond)
		if err != nil {
			// The queue is full. It is kept so for as long as the process lives.
			deadHeld = append(deadHeld, held...)
			return nil
		}
		held = append(held, c)
	}
	return fmt.Errorf("sink: dead host: %s goes on taking connections", address)
}

// deadHeld keeps sockets from being closed by the garbage collector.
var deadHeld []any
