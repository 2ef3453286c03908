package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"tlscontrol/internal/internet"
)

// A record is a stranger's: its https URI may name a host of ours. So reports go
// to addresses on the Internet only, unless the operator allows others.

// connectTimeout bounds one connection to one address.
const connectTimeout = 15 * time.Second

// maxDialled is how many addresses of a host are tried.
const maxDialled = 4

// dial connects to a host through the configured resolver and the guard.
func (r *Reporter) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ips, err := r.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTimeout, Control: r.guard}
	failure := errors.New("no address")
	for _, ip := range ips[:min(len(ips), maxDialled)] {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			return conn, nil
		}
		failure = err
	}
	return nil, failure
}

func (r *Reporter) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	found, err := r.cfg.Resolver.Addresses(ctx, host, false)
	return found.IPs, err
}

var errNotPublic = errors.New("is no address on the Internet")

// guard is asked by the dialer for each address that it is about to connect to.
func (r *Reporter) guard(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !r.cfg.AllowPrivate && !internet.Public(to.Addr().Unmap()) {
		return fmt.Errorf("%v %w", to.Addr(), errNotPublic)
	}
	return nil
}
