package route

import (
	"sync/atomic"
	"time"
)

// demotedFor is how long a server that was silent or of no use is asked after the
// others. It is short, since all that it costs to try again is one hedge.
const demotedFor = 30 * time.Second

// server is one recursive resolver.
type server struct {
	address string // host:port
	trusted bool   // its AD bit counts
	line    *line  // for questions over UDP, nil if each has a socket of its own
	// demotedUntil is when it is asked in its place again, on the resolver's clock.
	demotedUntil atomic.Int64
}

// newServers also tells whether the AD bit counts from some and not from others.
func newServers(addresses []string) (servers []*server, mixed bool) {
	for _, address := range addresses {
		servers = append(servers, &server{address: address, trusted: trustedServer(address)})
	}
	for _, s := range servers {
		mixed = mixed || s.trusted != servers[0].trusted
	}
	return servers, mixed
}

// demote puts a server behind the others for a while. A trusted one keeps its
// place before those that are not, whose answers are no evidence: a resolver that
// is slow must not turn a signed domain into an unsigned one.
func (r *Resolver) demote(s *server) {
	if s.trusted && r.mixed {
		return
	}
	s.demotedUntil.Store(int64(r.now() + demotedFor))
}

// order returns the servers in the order to ask them: as given, but those that
// failed recently last.
func (r *Resolver) order() []*server {
	now := int64(r.now())
	order := make([]*server, 0, len(r.servers))
	var last []*server
	for _, s := range r.servers {
		if now < s.demotedUntil.Load() {
			last = append(last, s)
		} else {
			order = append(order, s)
		}
	}
	return append(order, last...)
}
