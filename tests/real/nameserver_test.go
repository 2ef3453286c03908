package real

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// signing is how a zone is signed, or not.
type signing string

const (
	nsec     signing = "nsec"     // as it should be
	nsec3    signing = "nsec3"    // as it should be
	optOut   signing = "opt-out"  // NSEC3 that says nothing about names without records
	unsigned signing = "unsigned" // and the parent says so: an insecure delegation
	island   signing = "island"   // signed, but the parent says it is not
	stripped signing = "stripped" // not signed, but the parent says it is
	alien    signing = "alien"    // signed with another key than the parent says
	expired  signing = "expired"  // signed, until 2021
	altered  signing = "altered"  // signed, then its IPv4 addresses were changed
)

// delegated reports whether the parent says that the zone is signed.
func (s signing) delegated() bool { return s != unsigned && s != island }

// zone is a zone under the top-level domain test. The names of records are
// relative to it.
type zone struct {
	name    string // without .test; "" for more records of test itself
	signing signing
	records string
}

// nameserver is a whole DNS of its own: NSD serves a signed root, the signed
// zone test and zones below it, and Unbound, which knows nothing but the key of
// that root, resolves and validates.
type nameserver struct {
	*testing.T
	dir      string
	resolver string // of Unbound, host:port
	port53   string // an address where it listens on port 53, which libc wants
}

// startNameserver signs and serves zones.
func startNameserver(t *testing.T, zones ...zone) *nameserver {
	t.Helper()
	need(t, nsdPart, unboundPart, ldnsPart)
	n := &nameserver{T: t, dir: publicDir(t)}
	delegations := ""
	names := []string{".", "test"}
	for _, z := range zones {
		if z.name == "" {
			delegations += z.records
			continue
		}
		name := z.name + ".test"
		names = append(names, name)
		delegations += z.name + " NS ns\n" + n.makeZone(name, z.signing, z.records)
	}
	ds := n.makeZone("test", nsec, "ns A 127.0.0.1\n"+delegations)
	n.makeZone(".", nsec, "test. NS ns.test.\nns.test. A 127.0.0.1\n"+ds)
	ips, port := addresses(t, 2)
	n.startNSD(fmt.Sprintf("%s@%d", ips[0], port), names)
	n.startUnbound(fmt.Sprintf("%s@%d", ips[0], port), ips[1], port, names)
	return n
}

// path is a file in the directory.
func (n *nameserver) path(name string) string { return filepath.Join(n.dir, name) }

// zoneFile is where a zone is served from.
func (n *nameserver) zoneFile(zone string) string { return n.path("zones/" + zone + ".zone") }

// makeZone writes the file of a zone, signed as it is to be, and returns the DS
// record for the parent, if there is to be one.
func (n *nameserver) makeZone(name string, s signing, records string) string {
	n.Helper()
	write(n.T, n.zoneFile(name), "$ORIGIN "+dns.Fqdn(name)+"\n$TTL 300\n"+
		"@ SOA ns.test. hostmaster.test. 1 3600 600 86400 300\n@ NS ns.test.\n"+records)
	if s == unsigned {
		return ""
	}
	key := n.makeKey(name)
	ds, err := os.ReadFile(key + ".ds")
	if err != nil {
		n.Fatal(err)
	}
	if s == alien {
		key = n.makeKey(name)
	}
	if s != stripped {
		n.sign(name, s, key)
	}
	if !s.delegated() {
		return ""
	}
	return string(ds)
}

// makeKey makes a key for a zone and returns the name of its files.
func (n *nameserver) makeKey(zone string) string {
	n.Helper()
	keygen := exec.Command("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", "-r", "/dev/urandom", dns.Fqdn(zone))
	keygen.Dir = n.dir
	out, err := keygen.Output()
	if err != nil {
		n.Fatalf("ldns-keygen: %v", err)
	}
	return n.path(strings.TrimSpace(string(out)))
}

// sign replaces the file of a zone by a signed one.
func (n *nameserver) sign(zone string, s signing, key string) {
	n.Helper()
	args := []string{"-f", n.zoneFile(zone), "-o", dns.Fqdn(zone)}
	switch s {
	case nsec3:
		args = append(args, "-n", "-t", "0")
	case optOut:
		args = append(args, "-n", "-t", "0", "-p")
	case expired:
		args = append(args, "-i", "20200101", "-e", "20210101")
	}
	signzone := exec.Command("ldns-signzone", append(args, n.zoneFile(zone), key)...)
	if out, err := signzone.CombinedOutput(); err != nil {
		n.Fatalf("signing %s: %v\n%s", zone, err, out)
	}
	if s == altered {
		text, err := os.ReadFile(n.zoneFile(zone))
		if err != nil {
			n.Fatal(err)
		}
		write(n.T, n.zoneFile(zone), strings.ReplaceAll(string(text), "127.0.0.1", "127.0.0.9"))
	}
}

// nsdConf is a server that is authoritative and nothing else.
const nsdConf = `server:
  ip-address: {at}
  do-ip6: no
  username: nsd
  chroot: ""
  database: ""
  zonesdir: "{dir}/zones"
  pidfile: ""
  xfrdfile: "{dir}/nsd/xfrd.state"
  xfrdir: "{dir}/nsd"
  zonelistfile: "{dir}/nsd/zone.list"
  server-count: 1
  verbosity: 1
remote-control:
  control-enable: no
`

func (n *nameserver) startNSD(at string, zones []string) {
	n.Helper()
	conf := fill(nsdConf, "at", at, "dir", n.dir)
	for _, zone := range zones {
		conf += fmt.Sprintf("zone:\n  name: %q\n  zonefile: %q\n", zone, n.zoneFile(zone))
	}
	write(n.T, n.path("nsd.conf"), conf)
	makeDirs(n.T, "nsd", n.path("nsd"))
	nsd, err := find("nsd")
	if err != nil {
		n.Fatal(err)
	}
	d := start(n.T, "nsd", exec.Command(nsd, "-d", "-c", n.path("nsd.conf")))
	n.answers(d, strings.Replace(at, "@", ":", 1), ".", false)
}

// unboundConf is a validating resolver. All zones are looked for at one address
// and port, since what a delegation says is always port 53.
const unboundConf = `server:
  interface: {ip}@{port}
  {port53}
  # It asks from ports that it takes on all addresses: not from those of addresses.
  outgoing-port-avoid: 0-32767
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  do-ip6: no
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  chroot: ""
  directory: "{dir}"
  username: unbound
  module-config: "validator iterator"
  trust-anchor-file: "{dir}/root.key"
  local-zone: "test." nodefault
  verbosity: 1
  val-log-level: 2
remote-control:
  control-enable: no
`

func (n *nameserver) startUnbound(authority, ip string, port int, zones []string) {
	n.Helper()
	key, err := filepath.Glob(n.path("K.+*.key"))
	if err != nil || len(key) != 1 {
		n.Fatalf("keys of the root: %v, %v", key, err)
	}
	anchor, err := os.ReadFile(key[0])
	if err != nil {
		n.Fatal(err)
	}
	write(n.T, n.path("root.key"), string(anchor))
	port53 := ""
	if l, err := net.ListenPacket("udp", ip+":53"); err == nil {
		l.Close()
		n.port53, port53 = ip, "interface: "+ip+"@53"
	}
	conf := fill(unboundConf, "ip", ip, "port", fmt.Sprint(port), "dir", n.dir, "port53", port53)
	for _, zone := range zones {
		conf += fmt.Sprintf("stub-zone:\n  name: %q\n  stub-addr: %s\n", zone, authority)
	}
	write(n.T, n.path("unbound.conf"), conf)
	unbound, err := find("unbound")
	if err != nil {
		n.Fatal(err)
	}
	d := start(n.T, "unbound", exec.Command(unbound, "-d", "-c", n.path("unbound.conf")))
	n.resolver = fmt.Sprintf("%s:%d", ip, port)
	n.answers(d, n.resolver, "ns.test.", true)
}

// answers waits until a server knows a name, validated if that is its work.
func (n *nameserver) answers(d *daemon, server, name string, validated bool) {
	n.Helper()
	query := new(dns.Msg)
	query.SetQuestion(name, dns.TypeA)
	query.SetEdns0(1232, true)
	d.eventually("answers for "+name, func() bool {
		reply, err := dns.Exchange(query, server)
		return err == nil && reply.Rcode == dns.RcodeSuccess && reply.AuthenticatedData == validated
	})
}
