package api

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// visitorFrom is a connection from an address.
type visitorFrom struct {
	net.Conn
	from string
}

func (v visitorFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(v.from), Port: 1} }

// When strangers have sent too much, a network that has sent more than a quarter makes
// room for itself, and for all others those who have been there for longest do.
// Nobody has to go for having sent much just now: what a good client sends first may
// be the header and the beginning of a message at once. Those who are known do not
// mind.
func TestOctetsMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	c := NewCrowd(most, func() {})
	c.strangers.most = most * average
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
	gone("a known one")
	newcomer := enter("192.0.2.7")
	if !c.hears(newcomer, average*3/2) {
		t.Error("a newcomer had to go for what strangers have sent")
	}
	gone("a newcomer", 0)
	if c.hears(strangers[4], average) {
		t.Error("one that has sent more than a quarter stays")
	}
	gone("a loud one", 0, 4)
	if known.gone || newcomer.gone {
		t.Error("somebody else had to go for a loud one")
	}
	for _, g := range append(strangers, known, newcomer) {
		g.Close()
	}
	if c.open != 0 || c.strangers.read != 0 || c.known.read != 0 || len(c.groups) != 0 || len(c.large) != 0 {
		t.Errorf("left behind: %d open, %d octets, %d groups, %d large ones", c.open, c.strangers.read+c.known.read, len(c.groups), len(c.large))
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

// A guest is one under TLS, too, and stays known for what it sends next, of which the
// header and megabytes of the message may come at once.
func TestGuestsUnderTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := &crowded{world: w, crowd: NewCrowd(2, func() {})}
	c.srv = httptest.NewUnstartedServer(c.api)
	c.srv.Listener = c.crowd.Listen(c.srv.Listener)
	c.srv.Config.ConnContext = ConnContext
	c.srv.StartTLS()
	t.Cleanup(c.srv.Close)
	for range 3 {
		r, err := http.NewRequest("POST", c.srv.URL+messagesPath, strings.NewReader(letter("html", strings.Repeat("x", 1<<20)).Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("api", domainKey)
		res, err := c.srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("got %d", res.StatusCode)
		}
		c.until("the connection is known", func() bool { return c.crowd.known.Len() == 1 && c.crowd.strangers.Len() == 0 })
	}
}
