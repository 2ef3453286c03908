package api

import (
	"net"
	"net/http"
	"testing"
)

// visitorFrom is a connection from an address.
type visitorFrom struct {
	net.Conn
	from string
}

func (v visitorFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(v.from), Port: 1} }

// When too much was sent, a network or a key that has sent more than a quarter makes
// room for itself, and for all others the strangers who have been there for longest
// do. Nobody has to go for having sent much just now: what a good client sends
// first may be the header and the beginning of a message at once.
func TestOctetsMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	c := NewCrowd(most, func() {})
	enter := func(from string) *guest {
		one, _ := net.Pipe()
		return c.enter(visitorFrom{one, from})
	}
	known := enter("192.0.2.1")
	known.serve(Key{ID: "k"})()
	var strangers []*guest
	for _, from := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"} {
		strangers = append(strangers, enter(from))
	}
	for _, s := range strangers {
		if !c.hears(s, average*3/2) {
			t.Fatal("a stranger had to go while there was room")
		}
	}
	gone := func(what string, want ...int) {
		t.Helper()
		for i, s := range strangers {
			out := false
			for _, w := range want {
				out = out || i == w
			}
			if s.gone != out {
				t.Errorf("%s: stranger %d: gone is %v", what, i, s.gone)
			}
		}
	}
	if !c.hears(known, average*5/4) {
		t.Error("a known one had to go for what strangers have sent")
	}
	gone("a known one", 0)
	newcomer := enter("192.0.2.7")
	if !c.hears(newcomer, average*3/2) {
		t.Error("a newcomer had to go for what strangers have sent")
	}
	gone("a newcomer", 0, 1)
	if c.hears(strangers[4], average) {
		t.Error("one that has sent more than a quarter stays")
	}
	gone("a loud one", 0, 1, 4)
	if known.gone || newcomer.gone {
		t.Error("somebody else had to go for a loud one")
	}
	for _, g := range append(strangers, known, newcomer) {
		g.Close()
	}
	if c.open != 0 || c.read != 0 || len(c.groups) != 0 || len(c.large) != 0 {
		t.Errorf("left behind: %d open, %d octets, %d groups, %d large ones", c.open, c.read, len(c.groups), len(c.large))
	}
}

// Who logs in to the page is no stranger from then on.
func TestLoginIsGreeted(t *testing.T) {
	t.Parallel()
	c := newCrowded(t, 8, func(cfg *Config) { cfg.UI = http.NotFoundHandler() })
	if got := c.login(fullKey); got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	c.until("the connection is known", func() bool { return c.crowd.known.Len() == 1 && c.crowd.strangers.Len() == 0 })
}
