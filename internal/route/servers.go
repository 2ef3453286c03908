package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// resolvConf is where the system keeps its resolvers.
const resolvConf = "/etc/resolv.conf"

// ParseServers reads the arguments of the `resolver` directive, IP addresses
// with an optional port, and returns them as host:port. The error names the word
// that is wrong and what is expected.
func ParseServers(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, errors.New("no resolver given: expected an IP address with an optional port, as 127.0.0.1")
	}
	servers := make([]string, len(args))
	for i, arg := range args {
		server, ok := parseServer(arg)
		if !ok {
			return nil, fmt.Errorf("resolver %q: expected an IP address with an optional port, "+
				"as 127.0.0.1, 127.0.0.1:5353, ::1 or [::1]:5353", arg)
		}
		servers[i] = server.String()
	}
	return servers, nil
}

func parseServer(arg string) (netip.AddrPort, bool) {
	if server, err := netip.ParseAddrPort(arg); err == nil {
		return server, server.Port() != 0
	}
	bare := arg
	if inner, ok := strings.CutPrefix(arg, "["); ok {
		if bare, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.AddrPort{}, false
		}
	}
	ip, err := netip.ParseAddr(bare)
	return netip.AddrPortFrom(ip, 53), err == nil
}

// SystemServers returns the resolvers of the system as host:port.
func SystemServers() ([]string, error) { return serversFrom(resolvConf) }

func serversFrom(path string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("resolvers of the system: %w", err)
	}
	if len(config.Servers) == 0 {
		// resolv.conf(5): without a nameserver line, the one on this machine.
		config.Servers = []string{"127.0.0.1"}
	}
	servers := make([]string, len(config.Servers))
	for i, server := range config.Servers {
		servers[i] = net.JoinHostPort(server, config.Port)
	}
	return servers, nil
}

// trusted reports whether the AD bit of a resolver at this address counts: only
// if nobody can sit between it and us.
func trusted(server netip.Addr) bool { return server.Unmap().IsLoopback() }

// trustedServer is trusted for host:port.
func trustedServer(server string) bool {
	address, err := netip.ParseAddrPort(server)
	return err == nil && trusted(address.Addr())
}

// Validates reports whether there is a server whose word that an answer was
// authenticated counts. Without one nothing is ever authentic.
func (r *Resolver) Validates() bool {
	return slices.ContainsFunc(r.servers, func(s *server) bool { return s.trusted })
}
