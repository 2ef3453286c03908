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
// that waits has to go: one of those with the same key, or of strangers from the
// same network, if more than a quarter of the places are theirs; or else the
// stranger who has been there for longest; or if there are none, the guest who has
// waited for longest since the last request. A full Crowd accepts connections, since
// good ones are among them.
//
// What guests have sent who wait is bounded, too. Fields of a request's header
// cost many times their octets, and no key has been seen yet. When strangers have
// sent too much together, the oldest of the same network has to go, if more than a
// quarter of it is theirs, or else the oldest of all. So it is with those who are no
// strangers, by key.
type Crowd struct {
	most int
	full func()

	mu        sync.Mutex
	open      int
	strangers hall
	known     hall
	groups    map[string]*group // by key or network
	large     map[*group]bool   // those who have more than a quarter of the places
}

// hall is where guests wait.
type hall struct {
	list.List     // of *guest, the one who has been there for longest first
	read      int // octets that they have sent
	most      int // that they may have sent
}

// group are the guests with one key, or strangers from one network, who wait.
type group struct {
	list.List     // of *guest, the one who has waited for longest first
	read      int // octets
}

// average is what each stranger who waits may have sent, if all do: a TLS handshake
// and a request with a few fields. Those who are known may have sent twice as much:
// what TLS reads ahead of a message is among it.
const average = 4 << 10

// least is how many guests octets are counted for at least: a quarter of them must
// do for one that sends the longest header and the beginning of a message.
const least = 64

// NewCrowd makes one of so many connections. full is called when one had to go; it
// must not block.
func NewCrowd(most int, full func()) *Crowd {
	c := &Crowd{most: most, full: full, groups: make(map[string]*group), large: make(map[*group]bool)}
	c.strangers.most = max(least, most) * average
	c.known.most = 2 * c.strangers.most
	return c
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
	crowd *Crowd

	// These are of the crowd, and under its lock.
	in    []spot // where it waits: nowhere while it is served, or gone
	gone  bool
	known bool   // it brought a good key
	group string // the key, or a stranger's network
	read  int    // octets since it began to wait
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
		g.group = network(from.Addr().Unmap().WithZone("")).String()
	}
	var out []*guest
	c.mu.Lock()
	c.open++
	c.wait(g)
	if c.open > c.most {
		out = append(out, c.chooses(g))
		c.leave(out[0])
	}
	c.mu.Unlock()
	c.showOut(out)
	return g
}

// showOut closes connections of guests who had to go: what they were doing fails
// with it.
func (c *Crowd) showOut(all []*guest) {
	for _, g := range all {
		c.full()
		_ = g.Conn.Close()
	}
}

// chooses returns who has to go for a newcomer: the newcomer if all others are
// being served.
func (c *Crowd) chooses(newcomer *guest) *guest {
	for group := range c.large {
		return first(&group.List)
	}
	oldest := first(&c.strangers.List)
	if oldest == newcomer && c.known.Len() > 0 {
		oldest = first(&c.known.List)
	}
	return oldest
}

// first is the guest who stands first in a list that has some.
func first(l *list.List) *guest { return l.Front().Value.(*guest) }

// wait puts a guest behind those who wait.
func (c *Crowd) wait(g *guest) {
	mine := c.groups[g.group]
	if mine == nil {
		mine = &group{}
		c.groups[g.group] = mine
	}
	for _, l := range []*list.List{&c.hall(g).List, &mine.List} {
		g.in = append(g.in, spot{l, l.PushBack(g)})
	}
	c.weigh(g.group, mine)
}

// hall is where a guest waits.
func (c *Crowd) hall(g *guest) *hall {
	if g.known {
		return &c.known
	}
	return &c.strangers
}

// stop takes a guest away from those who wait, if it is one of them.
func (c *Crowd) stop(g *guest) {
	if len(g.in) == 0 {
		return
	}
	for _, s := range g.in {
		s.of.Remove(s.at)
	}
	g.in = nil
	mine := c.groups[g.group]
	mine.read -= g.read
	c.hall(g).read -= g.read
	g.read = 0
	c.weigh(g.group, mine)
}

// weigh keeps in mind what became of a group.
func (c *Crowd) weigh(name string, g *group) {
	if g.Len() == 0 {
		delete(c.groups, name)
	}
	if g.Len() > max(1, c.most/4) {
		c.large[g] = true
	} else {
		delete(c.large, g)
	}
}

// errGone ends connections of guests who had to go.
var errGone = errors.New("closed to make room for others")

// Read implements net.Conn.
func (g *guest) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if err == nil && !g.crowd.hears(g, n) {
		return 0, errGone
	}
	return n, err
}

// hears counts octets that a guest has sent, and reports whether it may stay.
func (c *Crowd) hears(g *guest, n int) bool {
	var out []*guest
	c.mu.Lock()
	if len(g.in) > 0 { // else it is its body, which is counted elsewhere
		mine, hall := c.groups[g.group], c.hall(g)
		g.read += n
		mine.read += n
		hall.read += n
		for hall.read > hall.most {
			loud := first(&hall.List)
			if mine.read > hall.most/4 {
				loud = first(&mine.List)
			}
			c.leave(loud)
			out = append(out, loud)
		}
	}
	stays := !g.gone
	c.mu.Unlock()
	c.showOut(out)
	return stays
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
func (g *guest) serve(key Key) (leave func()) {
	c := g.crowd
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.gone {
		panic(http.ErrAbortHandler)
	}
	c.stop(g)
	g.known, g.group = true, "key "+key.ID
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
func greet(r *http.Request, key Key) (leave func()) {
	if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
		return g.serve(key)
	}
	return func() {} // it is not one of a Crowd
}
