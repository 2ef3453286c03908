package mailtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxQueries bounds the record of queries; later ones are answered unrecorded.
const maxQueries = 100_000

// DNS answers like a validating recursive resolver, on one loopback address and
// the same port for UDP and TCP. All methods may be called at any time and take
// effect with the next query. Names are absolute with or without the final dot
// and compared without regard to case; they are in DNS presentation form, so a
// hostile octet is written as \000.
//
// A name without any record is NXDOMAIN; a name that has others but not of the
// type asked is an empty NOERROR. Both carry an SOA record for negative caching
// (RFC 2308). CNAMEs are followed within the answer.
type DNS struct {
	addr netip.AddrPort
	udp  *dns.Server
	tcp  *dns.Server
	done sync.WaitGroup

	mu        sync.Mutex
	zone      map[string]map[uint16][]dns.RR
	faults    map[string]*fault
	allSecure bool
	ttl       uint32
	queries   []string
}

// fault is how answers about one name differ from plain ones.
type fault struct {
	authentic bool
	drop      bool
	truncate  bool
	tcpToo    bool
	malformed bool
	noChase   bool
	rcodes    map[uint16]int // by query type; TypeANY stands for all
}

// NewDNS starts a resolver on 127.0.0.1 and a free port.
func NewDNS() (*DNS, error) { return NewDNSAt("127.0.0.1") }

// NewDNSAt starts a resolver on the given address and a port that is free for
// both UDP and TCP.
func NewDNSAt(ip string) (*DNS, error) {
	var failure error
	for range 50 {
		packets, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return nil, fmt.Errorf("mailtest: DNS: %w", err)
		}
		streams, err := net.Listen("tcp", packets.LocalAddr().String())
		if err != nil {
			// Somebody else's TCP port; draw another.
			packets.Close()
			failure = err
			continue
		}
		return serveDNS(packets, streams)
	}
	return nil, fmt.Errorf("mailtest: DNS: no port free for both UDP and TCP: %w", failure)
}

func serveDNS(packets net.PacketConn, streams net.Listener) (*DNS, error) {
	d := &DNS{
		addr:   packets.LocalAddr().(*net.UDPAddr).AddrPort(),
		zone:   make(map[string]map[uint16][]dns.RR),
		faults: make(map[string]*fault),
		ttl:    300,
	}
	d.udp = &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(d.serve)}
	d.tcp = &dns.Server{Listener: streams, Handler: dns.HandlerFunc(d.serve)}
	started := make(chan error, 4)
	for _, server := range []*dns.Server{d.udp, d.tcp} {
		// Close must not come before the server is ready to hear of it.
		server.NotifyStartedFunc = func() { started <- nil }
		d.done.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				started <- err
			}
		})
	}
	for range 2 {
		if err := <-started; err != nil {
			packets.Close()
			streams.Close()
			d.done.Wait()
			return nil, fmt.Errorf("mailtest: DNS: %w", err)
		}
	}
	return d, nil
}

// Addr returns the address of the resolver as host:port.
func (d *DNS) Addr() string { return d.addr.String() }

// Close stops the resolver and waits for its goroutines.
func (d *DNS) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := errors.Join(d.udp.ShutdownContext(ctx), d.tcp.ShutdownContext(ctx))
	d.done.Wait()
	return err
}

// MX adds an MX record. The host "." makes it a null MX (RFC 7505).
func (d *DNS) MX(domain string, pref uint16, host string) {
	d.add(domain, dns.TypeMX, func(h dns.RR_Header) dns.RR {
		return &dns.MX{Hdr: h, Preference: pref, Mx: dns.Fqdn(host)}
	})
}

// A adds address records: A or AAAA by the form of each address. What is no
// address is left out.
func (d *DNS) A(host string, ips ...string) {
	for _, text := range ips {
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil:
		case ip.Is4():
			d.add(host, dns.TypeA, func(h dns.RR_Header) dns.RR { return &dns.A{Hdr: h, A: ip.AsSlice()} })
		default:
			d.add(host, dns.TypeAAAA, func(h dns.RR_Header) dns.RR { return &dns.AAAA{Hdr: h, AAAA: ip.AsSlice()} })
		}
	}
}

// CNAME makes name an alias.
func (d *DNS) CNAME(name, target string) {
	d.add(name, dns.TypeCNAME, func(h dns.RR_Header) dns.RR {
		return &dns.CNAME{Hdr: h, Target: dns.Fqdn(target)}
	})
}

// TXT adds one TXT record made of the given strings; one longer than 255 octets
// is cut into several.
func (d *DNS) TXT(name string, texts ...string) {
	var parts []string
	for _, text := range texts {
		for len(text) > 255 {
			parts, text = append(parts, text[:255]), text[255:]
		}
		parts = append(parts, text)
	}
	d.add(name, dns.TypeTXT, func(h dns.RR_Header) dns.RR { return &dns.TXT{Hdr: h, Txt: parts} })
}

// TLSA adds a TLSA record; name is the whole name, as in _25._tcp.mx.example.net.
func (d *DNS) TLSA(name string, usage, selector, matching uint8, data []byte) {
	d.add(name, dns.TypeTLSA, func(h dns.RR_Header) dns.RR {
		return &dns.TLSA{
			Hdr: h, Usage: usage, Selector: selector, MatchingType: matching,
			Certificate: fmt.Sprintf("%x", data),
		}
	})
}

// Add adds any record in presentation form, as `example.net. 60 IN MX 10 a.`.
func (d *DNS) Add(record string) error {
	rr, err := dns.NewRR(record)
	if err != nil {
		return fmt.Errorf("mailtest: record: %w", err)
	}
	if rr == nil {
		return fmt.Errorf("mailtest: record: nothing in %q", record)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(key(rr.Header().Name), rr.Header().Rrtype, rr)
	return nil
}

// Empty makes a name exist without any record.
func (d *DNS) Empty(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(key(name), dns.TypeNone)
}

// SetTTL sets the TTL of records added from now on and of negative answers; it
// begins as 300 seconds.
func (d *DNS) SetTTL(seconds uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ttl = seconds
}

// Authentic sets the AD bit in answers about name, of every type, denials too.
// An answer that passes CNAMEs has it only if every name on the way has.
// As with real resolvers, the client must have asked with AD or DO (RFC 6840,
// 5.7 and 5.8).
func (d *DNS) Authentic(name string) { d.change(name, func(f *fault) { f.authentic = true }) }

// SetAuthenticated sets the AD bit in all answers, or, with false, in those
// about names given to Authentic only.
func (d *DNS) SetAuthenticated(all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.allSecure = all
}

// Fail answers every query for name with the response code, as dns.RcodeServerFailure.
// RcodeSuccess takes it back.
func (d *DNS) Fail(name string, rcode int) { d.FailType(name, dns.TypeANY, rcode) }

// FailType is Fail for queries of one type.
func (d *DNS) FailType(name string, qtype uint16, rcode int) {
	d.change(name, func(f *fault) {
		if f.rcodes == nil {
			f.rcodes = make(map[uint16]int)
		}
		f.rcodes[qtype] = rcode
	})
}

// Drop leaves queries for name without an answer, on UDP and TCP.
func (d *DNS) Drop(name string) { d.change(name, func(f *fault) { f.drop = true }) }

// Truncate answers queries for name over UDP with TC and nothing else. With
// tcpToo, TCP connections that ask for it are closed without an answer.
func (d *DNS) Truncate(name string, tcpToo bool) {
	d.change(name, func(f *fault) { f.truncate, f.tcpToo = true, tcpToo })
}

// Malformed answers queries for name with a header that promises records which
// are not there.
func (d *DNS) Malformed(name string) { d.change(name, func(f *fault) { f.malformed = true }) }

// NoChase leaves the target of name's CNAME out of the answer, as forwarders
// without recursion do.
func (d *DNS) NoChase(name string) { d.change(name, func(f *fault) { f.noChase = true }) }

// Remove forgets all records and faults of name.
func (d *DNS) Remove(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.zone, key(name))
	delete(d.faults, key(name))
}

// Queries returns what was asked, in order, as "MX example.net.".
func (d *DNS) Queries() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.queries)
}

// Asked returns what was asked, sorted and each once: a resolver asks again when an
// answer is late.
func (d *DNS) Asked() []string {
	all := d.Queries()
	slices.Sort(all)
	return slices.Compact(all)
}

func (d *DNS) add(name string, rrtype uint16, build func(dns.RR_Header) dns.RR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(key(name), rrtype, build(dns.RR_Header{
		Name: dns.Fqdn(name), Rrtype: rrtype, Class: dns.ClassINET, Ttl: d.ttl,
	}))
}

// put needs d.mu.
func (d *DNS) put(name string, rrtype uint16, rrs ...dns.RR) {
	if d.zone[name] == nil {
		d.zone[name] = make(map[uint16][]dns.RR)
	}
	d.zone[name][rrtype] = append(d.zone[name][rrtype], rrs...)
}

func (d *DNS) change(name string, alter func(*fault)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.faults[key(name)]
	if f == nil {
		f = new(fault)
		d.faults[key(name)] = f
	}
	alter(f)
}

// key is the form under which names are kept.
func key(name string) string { return strings.ToLower(dns.Fqdn(name)) }
