package mailtest

import (
	"encoding/binary"
	"net"

	"github.com/miekg/dns"
)

// maxChain bounds how many CNAMEs one answer follows.
const maxChain = 16

// serve answers one query.
func (d *DNS) serve(w dns.ResponseWriter, query *dns.Msg) {
	if len(query.Question) != 1 {
		reply := new(dns.Msg)
		_ = w.WriteMsg(reply.SetRcode(query, dns.RcodeFormatError))
		return
	}
	question := query.Question[0]
	_, overUDP := w.RemoteAddr().(*net.UDPAddr)
	reply, f := d.answer(query)
	switch {
	case f.drop:
	case f.truncate && f.tcpToo && !overUDP:
		_ = w.Close()
	case f.malformed:
		_, _ = w.Write(malformed(query.Id, question))
	default:
		if overUDP {
			if f.truncate {
				reply.Answer, reply.Ns, reply.Truncated = nil, nil, true
			}
			reply.Truncate(udpSize(query))
		}
		// The client may be gone; it is its business.
		_ = w.WriteMsg(reply)
	}
}

// answer records the query and composes the plain answer and the faults to
// apply to it.
func (d *DNS) answer(query *dns.Msg) (*dns.Msg, fault) {
	question := query.Question[0]
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queries) < maxQueries {
		d.queries = append(d.queries, dns.TypeToString[question.Qtype]+" "+question.Name)
	}
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	secure := d.fill(reply, question)
	if opt := query.IsEdns0(); opt != nil {
		reply.SetEdns0(1232, opt.Do())
		reply.AuthenticatedData = secure && (query.AuthenticatedData || opt.Do())
	} else {
		reply.AuthenticatedData = secure && query.AuthenticatedData
	}
	f := d.faultOf(key(question.Name))
	if rcode := f.rcode(question.Qtype); rcode != dns.RcodeSuccess {
		reply.Answer, reply.Ns, reply.AuthenticatedData = nil, nil, false
		reply.Rcode = rcode
	}
	return reply, f
}

// fill follows CNAMEs from the question and puts what it finds into reply. It
// reports whether every name on the way is authentic. It needs d.mu.
func (d *DNS) fill(reply *dns.Msg, question dns.Question) (secure bool) {
	name := key(question.Name)
	secure = true
	seen := make(map[string]bool)
	for range maxChain {
		f := d.faultOf(name)
		secure = secure && (d.allSecure || f.authentic)
		if len(seen) > 0 {
			// A resolver that cannot resolve the target of an alias fails as a whole.
			if rcode := f.rcode(question.Qtype); rcode != dns.RcodeSuccess {
				reply.Answer, reply.Rcode = nil, rcode
				return false
			}
		}
		records, known := d.zone[name]
		if !known {
			reply.Rcode = dns.RcodeNameError
			reply.Ns = []dns.RR{d.soa()}
			return secure
		}
		if found := records[question.Qtype]; len(found) > 0 {
			reply.Answer = append(reply.Answer, found...)
			return secure
		}
		alias := records[dns.TypeCNAME]
		if len(alias) == 0 {
			reply.Ns = []dns.RR{d.soa()}
			return secure
		}
		reply.Answer = append(reply.Answer, alias[0])
		seen[name] = true
		name = key(alias[0].(*dns.CNAME).Target)
		if f.noChase || seen[name] {
			return secure
		}
	}
	return secure
}

// soa is the record that gives negative answers their TTL (RFC 2308, section 3).
func (d *DNS) soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: d.ttl},
		Ns:  "ns.mailtest.invalid.", Mbox: "hostmaster.mailtest.invalid.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: d.ttl,
	}
}

// faultOf needs d.mu.
func (d *DNS) faultOf(name string) fault {
	if f := d.faults[name]; f != nil {
		return *f
	}
	return fault{}
}

// rcode returns the code to fail with. The caller holds DNS.mu, since the map is
// shared.
func (f fault) rcode(qtype uint16) int {
	if rcode := f.rcodes[qtype]; rcode != dns.RcodeSuccess {
		return rcode
	}
	return f.rcodes[dns.TypeANY]
}

// udpSize is how large an answer the client takes over UDP.
func udpSize(query *dns.Msg) int {
	if opt := query.IsEdns0(); opt != nil {
		return max(int(opt.UDPSize()), dns.MinMsgSize)
	}
	return dns.MinMsgSize
}

// malformed is a reply with the right ID and question that announces five
// answers and ends within the first.
func malformed(id uint16, question dns.Question) []byte {
	reply := &dns.Msg{Question: []dns.Question{question}}
	reply.Id, reply.Response = id, true
	packet, err := reply.Pack()
	if err != nil {
		packet = binary.BigEndian.AppendUint16(nil, id)
		return append(packet, 0xff)
	}
	binary.BigEndian.PutUint16(packet[6:], 5)
	return append(packet, 0xc0, 0x0c, 0x00)
}
