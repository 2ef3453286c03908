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
	// rounds is how often the list of servers is gone through.
	rounds = 2
	// udpSize is the largest answer taken over UDP, which passes every network
	// without fragments (DNS Flag Day 2020; RFC 9715).
	udpSize = 1232
)

// Resolver asks recursive resolvers. It holds no connections and may be used
// from several goroutines.
type Resolver struct {
	servers []string
}

// NewResolver returns a resolver that asks servers, each host:port, in the order
// given.
func NewResolver(servers []string) *Resolver {
	return &Resolver{servers: append([]string(nil), servers...)}
}

// answer is what a resolver said: that a name exists or not (rcode NOERROR or
// NXDOMAIN) and the records it has.
type answer struct {
	records   []dns.RR
	rcode     int
	authentic bool // AD, from a resolver whose word counts
	negative  bool // an SOA record marks the absence of records (RFC 2308, 2.2)
	server    string
}

// exchange asks one question until a server answers it. Errors are *Error of
// kind Temporary: silence, refusals and nonsense say nothing about the name.
// name is without final dot.
func (r *Resolver) exchange(ctx context.Context, name string, qtype uint16) (answer, error) {
	failure := &Error{
		Kind: Temporary, Name: name, Type: dns.TypeToString[qtype], Err: errors.New("no resolver configured"),
	}
	for range rounds {
		for _, server := range r.servers {
			reply, err := ask(ctx, server, name, qtype)
			failure.Server, failure.Rcode, failure.Err = server, "", err
			if ctx.Err() != nil {
				failure.Err = context.Cause(ctx)
				return answer{}, failure
			}
			if err != nil {
				continue
			}
			switch reply.Rcode {
			case dns.RcodeSuccess, dns.RcodeNameError:
				return newAnswer(reply, server), nil
			}
			failure.Rcode = rcodeText(reply.Rcode)
		}
	}
	return answer{}, failure
}

func newAnswer(reply *dns.Msg, server string) answer {
	a := answer{
		records:   reply.Answer,
		rcode:     reply.Rcode,
		authentic: reply.AuthenticatedData && trustedServer(server),
		server:    server,
	}
	for _, rr := range reply.Ns {
		a.negative = a.negative || rr.Header().Rrtype == dns.TypeSOA
	}
	return a
}

// ask puts one question to one server: with EDNS0, without it if the server does
// not understand it (RFC 6891, section 7), and over TCP if the answer was cut.
func ask(ctx context.Context, server, name string, qtype uint16) (*dns.Msg, error) {
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
func exchangeOnce(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var dialer net.Dialer
	bare, err := dialer.DialContext(ctx, network, server)
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
