package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// tryTimeout bounds one question to one server over one transport; five
	// seconds is the default of the C library's resolver.
	tryTimeout = 5 * time.Second
	// udpSize is the largest answer taken over UDP, which passes every network
	// without fragments (DNS Flag Day 2020; RFC 9715).
	udpSize = 1232
)

// answer is what a resolver said: that a name exists or not (rcode NOERROR or
// NXDOMAIN) and the records it has.
type answer struct {
	records   []dns.RR
	rcode     int
	authentic bool     // AD, from a resolver whose word counts
	soa       *dns.SOA // marks the absence of records (RFC 2308, 2.2), else nil
	server    string
	limit     time.Duration // how long it may be believed, whatever its records say
}

func newAnswer(reply *dns.Msg, server string) answer {
	a := answer{
		records:   reply.Answer,
		rcode:     reply.Rcode,
		authentic: reply.AuthenticatedData && trustedServer(server),
		server:    server,
		limit:     maxTTL,
	}
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok && a.soa == nil {
			a.soa = soa
		}
	}
	return a
}

// ask puts one question to one server: with EDNS0, without it if the server does
// not understand it (RFC 6891, section 7), and over TCP if the answer was cut.
func ask(ctx context.Context, server *server, name string, qtype uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	// RFC 6840, 5.7: this asks for the AD bit without asking for signatures.
	query.AuthenticatedData = true
	query.SetEdns0(udpSize, false)
	reply, err := exchangeOnce(ctx, "udp", server, query)
	if err == nil && reply.Rcode == dns.RcodeFormatError {
		query.Extra = nil
		reply, err = exchangeOnce(ctx, "udp", server, query)
	}
	if err != nil || !reply.Truncated {
		return reply, err
	}
	reply, err = exchangeOnce(ctx, "tcp", server, query)
	if err != nil {
		return nil, fmt.Errorf("truncated over UDP, and over TCP: %w", err)
	}
	if reply.Truncated {
		return nil, errors.New("truncated over UDP and TCP")
	}
	return reply, nil
}

// exchangeOnce sends a query and waits for the reply to it.
func exchangeOnce(ctx context.Context, network string, server *server, query *dns.Msg) (*dns.Msg, error) {
	if network == "udp" && server.line != nil {
		if reply, err := server.line.exchange(ctx, query); err != errBusy {
			return reply, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var dialer net.Dialer
	bare, err := dialer.DialContext(ctx, network, server.address)
	if err != nil {
		return nil, err
	}
	defer bare.Close()
	// Closing ends reads and writes at once when the context ends.
	defer context.AfterFunc(ctx, func() { bare.Close() })()
	conn := &dns.Conn{Conn: bare, UDPSize: udpSize}
	if err := conn.WriteMsg(query); err != nil {
		return nil, ended(ctx, err)
	}
	for {
		reply, err := conn.ReadMsg()
		if err != nil {
			return nil, ended(ctx, err)
		}
		if reply.Id == query.Id {
			return reply, answers(reply, query)
		}
		if network == "tcp" {
			return nil, errors.New("malformed reply: wrong ID")
		}
		// A late or forged packet: the true reply may still come.
	}
}

// ended prefers the reason why the connection was closed to "use of closed
// connection".
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answers refuses a reply that does not belong to the query.
func answers(reply, query *dns.Msg) error {
	if !reply.Response || reply.Opcode != dns.OpcodeQuery {
		return errors.New("malformed reply: not a response")
	}
	if len(reply.Question) == 0 && reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
		return nil // Some servers refuse a query without repeating it.
	}
	asked := query.Question[0]
	if len(reply.Question) != 1 || reply.Question[0].Qtype != asked.Qtype ||
		reply.Question[0].Qclass != asked.Qclass || !strings.EqualFold(reply.Question[0].Name, asked.Name) {
		return errors.New("malformed reply: to another question")
	}
	return nil
}

func rcodeText(rcode int) string {
	if text := dns.RcodeToString[rcode]; text != "" {
		return text
	}
	return fmt.Sprintf("RCODE%d", rcode)
}
