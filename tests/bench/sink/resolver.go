package sink

import (
	"fmt"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// Nothing expires during a run, but for the records of Once and OnceApart.
const (
	longTTL  = 3600
	briefTTL = 5
)

// serveDNS starts the resolver and returns its address, the same for UDP and TCP.
func serveDNS() (string, error) {
	var lastErr error
	for range 10 {
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("sink: resolver: %w", err)
		}
		address := packets.LocalAddr().String()
		l, err := net.Listen("tcp4", address)
		if err != nil { // taken for TCP
			packets.Close()
			lastErr = err
			continue
		}
		handler := dns.HandlerFunc(answer)
		go (&dns.Server{PacketConn: packets, Handler: handler}).ActivateAndServe()
		go (&dns.Server{Listener: l, Handler: handler}).ActivateAndServe()
		return address, nil
	}
	return "", fmt.Errorf("sink: resolver: %w", lastErr)
}

// answer knows the MX of every domain and the address of every host of this
// package. Names of the zone without such records exist; others do not.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(m)
		return
	}
	question := q.Question[0]
	name := strings.TrimSuffix(question.Name, ".")
	ttl := uint32(longTTL)
	if brief(name) {
		ttl = briefTTL
	}
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
	switch question.Qtype {
	case dns.TypeMX:
		if host, ok := MX(name); ok {
			m.Answer = append(m.Answer, &dns.MX{Hdr: header, Preference: 10, Mx: dns.Fqdn(host)})
		}
	case dns.TypeA:
		if ip, ok := Address(name); ok {
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: ip.AsSlice()})
		}
	}
	if !dns.IsSubDomain(zone+".", strings.ToLower(question.Name)) {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 { // how long that is true (RFC 2308)
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns:  "ns." + zone + ".", Mbox: "hostmaster." + zone + ".",
			Serial: 1, Refresh: ttl, Retry: ttl, Expire: ttl, Minttl: ttl,
		}}
	}
	_ = w.WriteMsg(m)
}
