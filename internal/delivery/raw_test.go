package delivery_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
)

// rawHosts are hosts mx1.test, mx2.test, ... that are functions: for what a
// scripted host cannot do, such as telling what came in one flight.
type rawHosts struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	open  int
	total int
}

// peer is one connection to a raw host, seen from the host.
type peer struct {
	net.Conn
	w      *world
	r      *bufio.Reader
	number int // 1 for the first connection to any of the hosts
}

// rawWorld is a world of raw hosts. Their addresses are 192.0.2.1 and up; what
// is dialled is a loopback socket.
func rawWorld(t *testing.T, change func(*delivery.Config), hosts ...func(*peer)) (*world, *rawHosts) {
	t.Helper()
	raw := &rawHosts{conns: make(map[net.Conn]bool)}
	listeners := make(map[string]net.Listener)
	for i := range hosts {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		listeners[rawIP(i)] = l
	}
	w := newWorld(t, func(c *delivery.Config) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			ip, _, _ := net.SplitHostPort(address)
			return new(net.Dialer).DialContext(ctx, network, listeners[ip].Addr().String())
		}
		if change != nil {
			change(c)
		}
	})
	var done sync.WaitGroup
	for i, serve := range hosts {
		w.dns.A(hostName(i), rawIP(i))
		w.dns.MX("example.net", uint16(10*(i+1)), hostName(i))
		done.Go(func() { raw.listen(w, listeners[rawIP(i)], serve) })
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			l.Close()
		}
		raw.hangUp()
		done.Wait()
	})
	return w, raw
}

func rawIP(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// listen serves every connection; it returns when the listener and all of them
// are closed.
func (h *rawHosts) listen(w *world, l net.Listener, serve func(*peer)) {
	var done sync.WaitGroup
	defer done.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[c] = true
		h.open++
		h.total++
		p := &peer{Conn: c, w: w, r: bufio.NewReader(c), number: h.total}
		h.mu.Unlock()
		done.Go(func() {
			defer func() {
				c.Close()
				h.mu.Lock()
				defer h.mu.Unlock()
				delete(h.conns, c)
				h.open--
			}()
			serve(p)
		})
	}
}

func (h *rawHosts) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		c.Close()
	}
}

// count returns the connections made so far and those that are open.
func (h *rawHosts) count() (total, open int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total, h.open
}

// say sends lines in one packet.
func (p *peer) say(lines ...string) {
	_, _ = io.WriteString(p.Conn, strings.Join(lines, "\r\n")+"\r\n")
}

// command returns the next line, "" at the end of the connection.
func (p *peer) command() string {
	line, err := p.r.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimRight(line, "\r\n")
}

// hello greets and answers EHLO.
func (p *peer) hello(keywords ...string) {
	p.say("220 mx.invalid ESMTP")
	p.ehlo(keywords...)
}

func (p *peer) ehlo(keywords ...string) {
	if p.command() == "" {
		return
	}
	reply := []string{"250-mx.invalid"}
	for i, k := range keywords {
		reply = append(reply, "250-"+k)
		if i == len(keywords)-1 {
			reply[len(reply)-1] = "250 " + k
		}
	}
	p.say(reply...)
}

// secure goes on under TLS, with a good certificate.
func (p *peer) secure(host string, keywords ...string) {
	if p.command() != "STARTTLS" {
		return
	}
	cert, err := p.w.ca.Issue(mailtest.Good, host)
	if err != nil {
		p.w.Error(err)
		return
	}
	p.say("220 go ahead")
	p.Conn = tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{cert}})
	p.r.Reset(p.Conn)
	p.ehlo(keywords...)
}

// message reads commands, up to one BDAT LAST with its chunk or the end of what
// comes, and tells whether a whole message was there. heard is called after
// each command but QUIT.
func (p *peer) message(heard func(verb string)) (whole bool) {
	for line := p.command(); line != ""; line = p.command() {
		verb, rest, _ := strings.Cut(line, " ")
		if verb == "BDAT" {
			size, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			_, err := io.CopyN(io.Discard, p.r, size)
			return err == nil
		}
		if verb == "QUIT" {
			p.say("221 2.0.0 bye")
			return false
		}
		if heard != nil {
			heard(verb)
		}
	}
	return false
}

// taken answers a message for one recipient that came in one flight.
func (p *peer) taken() { p.say("250 2.1.0 ok", "250 2.1.5 ok", "250 2.0.0 taken") }
