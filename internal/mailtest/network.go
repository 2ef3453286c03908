package mailtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
)

// networkTries is how many networks or ports are drawn before giving up.
const networkTries = 50

// NewMXs starts n hosts on n loopback addresses and one common port: the
// product dials all MX hosts on one port. The addresses are 127.x.y.2 and up in
// a network drawn at random, so that tests running at once do not meet; other
// addresses of the network refuse connections. A host without a behaviour of
// its own gets the last one given. Where the system has only 127.0.0.1 of that
// block, one host can be started, there.
func NewMXs(n int, behaviours ...Behaviour) ([]*MX, int, error) {
	if n < 1 || n > 200 {
		return nil, 0, fmt.Errorf("mailtest: %d MX hosts wanted, possible are 1 to 200", n)
	}
	var failure error
	for range networkTries {
		base := [4]byte{127, byte(rand.IntN(254) + 1), byte(rand.IntN(256)), 0}
		ips := make([]string, n)
		for i := range ips {
			base[3] = byte(i + 2)
			ips[i] = netip.AddrFrom4(base).String()
		}
		hosts, port, err := listenAll(ips, behaviours)
		if err == nil {
			return hosts, port, nil
		}
		failure = err
	}
	if n == 1 {
		return NewMXsOn([]string{"127.0.0.1"}, behaviours...)
	}
	return nil, 0, fmt.Errorf("mailtest: no network for %d MX hosts: %w", n, failure)
}

// NewMXsOn is NewMXs on the given addresses, IPv6 ones too.
func NewMXsOn(ips []string, behaviours ...Behaviour) ([]*MX, int, error) {
	if len(ips) == 0 {
		return nil, 0, errors.New("mailtest: MX hosts need an address")
	}
	var failure error
	for range networkTries {
		hosts, port, err := listenAll(ips, behaviours)
		if err == nil {
			return hosts, port, nil
		}
		failure = err
	}
	return nil, 0, failure
}

// listenAll takes a port that is free on the first address and tries it on the
// others.
func listenAll(ips []string, behaviours []Behaviour) ([]*MX, int, error) {
	var hosts []*MX
	port := 0
	for i, ip := range ips {
		var b Behaviour
		if len(behaviours) > 0 {
			b = behaviours[min(i, len(behaviours)-1)]
		}
		host, err := NewMX(net.JoinHostPort(ip, strconv.Itoa(port)), b)
		if err != nil {
			for _, started := range hosts {
				started.Close()
			}
			return nil, 0, err
		}
		hosts, port = append(hosts, host), host.Port()
	}
	return hosts, port, nil
}

// FreePort returns a TCP port on which nobody listened at any of ips a moment
// ago. It is for addresses that shall refuse connections; a server should rather
// listen on port 0.
func FreePort(ips ...string) (int, error) {
	hosts, port, err := NewMXsOn(ips)
	if err != nil {
		return 0, err
	}
	for _, host := range hosts {
		err = errors.Join(err, host.Close())
	}
	return port, err
}
