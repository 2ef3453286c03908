package api

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// Crowd bounds the connections of a listener, so that strangers who open many, and
// say little or much on them, do not keep out those who have a key.
//
// A connection is a guest. It is a stranger until a request on it brought a good
// key. Guests whose request is being served stay. When there are too many, one
// that waits has to go: a stranger from the newcomer's network, if that has a
// quarter of the places, or the stranger who has been there for longest, or if
// there are none, the guest who has waited for longest since the last request.
// That is also why a full Crowd accepts connections: good ones are among them.
//
// What guests have sent who wait is bounded, too. Fields of a request's header
// cost many times their octets, and no key has been seen yet. When there is too
// much, whoever has sent more than the average may not go on.
type Crowd struct {
	most int
	full func()

	mu        sync.Mutex
	open      int
	strangers list.List                   // of *guest, the one who has been there for longest first
	known     list.List                   // of *guest, the one who has waited for longest first
	from      map[netip.Prefix]*list.List // strangers by network
	read      int                         // octets, of all who wait
}

// average is what each guest who waits may have sent, if all do: a TLS handshake and
// a request with a few fields.
const average = 4 << 10

// NewCrowd makes one of so many connections. full is called when one had to go; it
// must not block.
func NewCrowd(most int, full func()) *Crowd {
	return &Crowd{most: most, full: full, from: make(map[netip.Prefix]*list.List)}
}

// Listen returns a listener whose connections are guests. Those of TLS may be
// wrapped around them.
func (c *Crowd) Listen(l net.Listener) net.Listener { return &door{l, c} }

// door lets guests in.
type door struct {
	net.Listener
	crowd *Crowd
}

func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return d.crowd.enter(conn), nil
}

// guest is a connection.
type guest struct {
	net.Conn
	crowd   *Crowd
	network netip.Prefix

	// These are of the crowd, and under its lock.
	in    []spot // where it waits: nowhere while it is served, or gone
	gone  bool
	greet bool // it brought a good key
	read  int  // octets since it began to wait
}

// spot is a place in a list.
type spot struct {
	of *list.List
	at *list.Element
}

// enter takes a connection in, and shows another one out if need be.
func (c *Crowd) enter(conn net.Conn) *guest {
	g := &guest{Conn: conn, crowd: c}
	if from, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		g.network = network(from.Addr().Unmap().WithZone(""))
	}
	c.mu.Lock()
	c.open++
	c.wait(g)
	var out *guest
	if c.open > c.most {
		out = c.chooses(g)
		c.leave(out)
	}
	c.mu.Unlock()
	if out != nil {
		c.full()
		_ = out.Conn.Close() // what it was doing fails with it
	}
	return g
}

// chooses returns who has to go for a newcomer: the newcomer if all others are
// being served.
func (c *Crowd) chooses(newcomer *guest) *guest {
	if own := c.from[newcomer.network]; own.Len() > max(1, c.most/4) {
		return own.Front().Value.(*guest)
	}
	first := c.strangers.Front().Value.(*guest)
	if first == newcomer && c.known.Len() > 0 {
		first = c.known.Front().Value.(*guest)
	}
	return first
}

// wait puts a guest behind those who wait.
func (c *Crowd) wait(g *guest) {
	lists := []*list.List{&c.known}
	if !g.greet {
		own := c.from[g.network]
		if own == nil {
			own = list.New()
			c.from[g.network] = own
		}
		lists = []*list.List{&c.strangers, own}
	}
	for _, l := range lists {
		g.in = append(g.in, spot{l, l.PushBack(g)})
	}
}

// stop takes a guest away from those who wait.
func (c *Crowd) stop(g *guest) {
	for _, s := range g.in {
		s.of.Remove(s.at)
	}
	g.in = nil
	if own := c.from[g.network]; own != nil && own.Len() == 0 {
		delete(c.from, g.network)
	}
	c.read -= g.read
	g.read = 0
}

// errTooMuch ends connections of guests who send too much before their key was
// seen.
var errTooMuch = errors.New("too much in headers at a time")

// Read implements net.Conn.
func (g *guest) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if !g.crowd.hears(g, n) {
		return 0, errTooMuch
	}
	return n, err
}

// hears counts octets that a guest has sent, and reports whether they may be
// listened to.
func (c *Crowd) hears(g *guest, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(g.in) == 0 { // its body, which is counted elsewhere
		return true
	}
	g.read += n
	c.read += n
	return g.read <= average || c.read <= c.most*average
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.crowd.mu.Lock()
	g.crowd.leave(g)
	g.crowd.mu.Unlock()
	return g.Conn.Close()
}

func (c *Crowd) leave(g *guest) {
	if !g.gone {
		g.gone = true
		c.open--
		c.stop(g)
	}
}

// serve keeps the guest until leave is called. Of one who had to go just now nothing
// is taken any more.
func (g *guest) serve() (leave func()) {
	c := g.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.gone {
		panic(http.ErrAbortHandler)
	}
	g.greet = true
	c.stop(g)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !g.gone {
			c.wait(g)
		}
	}
}

// guestKey is the key of a *guest in contexts.
type guestKey struct{}

// ConnContext is that of a http.Server that serves an API.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	return context.WithValue(ctx, guestKey{}, conn)
}

// greet keeps the connection of a request with a good key until leave is called.
func greet(r *http.Request) (leave func()) {
	if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
		return g.serve()
	}
	return func() {} // it is not one of a Crowd
}
