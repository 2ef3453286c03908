package remotetls

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/internet"
)

// privateDirective reads which addresses may be dialled that are not on the
// Internet: yes, no, or networks.
func privateDirective(m *config.Map, node config.Node) (interface{}, error) {
	if len(node.Args) == 0 && node.Children == nil {
		return internet.Admission{All: true}, nil
	}
	args, err := words(node, "yes, no, or networks such as 10.1.0.0/16")
	if err != nil {
		return nil, err
	}
	if len(args) == 1 {
		if all, err := config.ParseBool(args[0]); err == nil {
			return internet.Admission{All: all}, nil
		}
	}
	var a internet.Admission
	for _, arg := range args {
		network, err := internet.Network(arg)
		if err != nil && len(args) == 1 && !strings.ContainsAny(arg, ".:") { // it was not meant as a network
			return nil, unexpected(node, arg, "yes, no, or networks such as 10.1.0.0/16")
		}
		if err != nil {
			return nil, unexpected(node, arg, err.Error())
		}
		a.Networks = append(a.Networks, network)
	}
	return a, nil
}

// admits is nil where every address may be dialled.
func (d *settings) admits() func(netip.Addr) bool {
	if d.allowPrivate.All {
		return nil
	}
	return d.allowPrivate.Admits
}

// loopPort is where servers take mail from each other. On other ports, filters and
// gateways do, which may well greet with the name of the server that they work for.
const loopPort = 25

// checksLoops is whether hosts are ourselves that greet with our name.
func (d *settings) checksLoops() bool {
	if _, set := d.seen["loop_check"]; set {
		return d.loopCheck
	}
	return d.port == loopPort
}

// ownNames are the names by which we know ourselves: ours, and the global hostname,
// with which maddy's endpoints greet. Names that many servers have say nothing.
func (d *settings) ownNames() (names []string) {
	for _, name := range []string{d.hostname, d.globalHostname} {
		helo, ok := heloName(name)
		helo = strings.ToLower(strings.TrimSuffix(helo, "."))
		if ok && !commonName(helo) && !slices.Contains(names, helo) {
			names = append(names, helo)
		}
	}
	return names
}

// commonName reports whether servers that have nothing to do with each other may
// have this name.
func commonName(name string) bool {
	_, domain, qualified := strings.Cut(name, ".")
	return !qualified || strings.HasPrefix(name, "[") || strings.HasPrefix(name, "localhost.") || domain == "localdomain" || domain == "local"
}

// localIPNotice warns of a local_ip that this machine does not have. It is no mistake
// of the configuration: the address may come later, as one that is shared by two
// machines does.
func (d *settings) localIPNotice(logger log.Logger) {
	if !d.localIP.IsValid() {
		return
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.localIP, 0)))
	if err != nil {
		logger.Error("local_ip cannot be used at present; until it can, deliveries fail", err, "local_ip", d.localIP.String())
		return
	}
	_ = c.Close()
}
