package sink

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
)

// zone is the domain that everything lies in. The certificate is for its direct
// children, and all MX hosts are such.
const zone = "bench.test"

// manyDomains is how many domains Many tells apart.
const manyDomains = 100

// deadHosts is how many addresses do not answer.
const deadHosts = 8

// sharedMX serves One, Many and Fresh.
const sharedMX = "mx." + zone

// One is a domain of its own MX host.
func One() string { return "one." + zone }

// Many is one of a hundred domains that share an MX host.
func Many(i int) string { return fmt.Sprintf("d%d.many.%s", i%manyDomains, zone) }

// Fresh is a domain for each i; all of them share an MX host.
func Fresh(i int) string { return fmt.Sprintf("d%d.fresh.%s", i, zone) }

// Apart is a domain for each i, each with an MX host and an address of its own.
func Apart(i int) string { return fmt.Sprintf("d%d.apart.%s", i, zone) }

// Once is as Fresh, and OnceApart as Apart, with records that soon expire.
func Once(i int) string { return fmt.Sprintf("d%d.once.%s", i, zone) }

// OnceApart is a domain for each i, each with an MX host and an address of its own.
func OnceApart(i int) string { return fmt.Sprintf("d%d.onceapart.%s", i, zone) }

// brief tells domains and hosts of Once and OnceApart.
func brief(name string) bool {
	first, rest, _ := strings.Cut(strings.ToLower(name), ".")
	_, host := numbered(first, "onceapart")
	return rest == "once."+zone || rest == "onceapart."+zone || rest == zone && host
}

// Live is one of eight domains, each with an MX host of its own that answers.
func Live(i int) string { return fmt.Sprintf("d%d.live.%s", i%deadHosts, zone) }

// Dead is one of eight domains whose MX hosts do not even refuse a connection.
func Dead(i int) string { return fmt.Sprintf("d%d.dead.%s", i%deadHosts, zone) }

// IsDead tells the mailboxes at domains of Dead.
func IsDead(address string) bool { return strings.HasSuffix(address, ".dead."+zone) }

// MX returns the host that the mail for domain goes to.
func MX(domain string) (host string, ok bool) {
	first, rest, _ := strings.Cut(strings.ToLower(domain), ".")
	kind, ours := strings.CutSuffix(rest, "."+zone)
	switch {
	case rest == zone && first == "one", ours && kind == "many", ours && kind == "fresh", ours && kind == "once":
		return sharedMX, true
	case ours && (kind == "apart" || kind == "onceapart" || kind == "live" || kind == "dead"):
		if n, ok := numbered(first, "d"); ok {
			return kind + strconv.Itoa(n) + "." + zone, true
		}
	}
	return "", false
}

// Address returns where an MX host is.
func Address(host string) (netip.Addr, bool) {
	host = strings.ToLower(host)
	name, ok := strings.CutSuffix(host, "."+zone)
	if !ok {
		return netip.Addr{}, false
	}
	for _, kind := range []string{"apart", "onceapart"} {
		if n, ok := numbered(name, kind); ok {
			return apartAddress(n), true
		}
	}
	if n, ok := numbered(name, "dead"); ok {
		return deadAddress(n), true
	}
	_, live := numbered(name, "live")
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), live || host == sharedMX
}

// apartAddress is another one for each of four million hosts, where loopback
// has more than one address.
func apartAddress(n int) netip.Addr {
	if runtime.GOOS != "linux" {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrFrom4([4]byte{127, 64 + byte(n>>16)&63, byte(n >> 8), byte(n)})
}

func deadAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(n)}) }

// numbered returns the number behind prefix.
func numbered(name, prefix string) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), err == nil
}
