//go:build unix

package delivery_test

import (
	"net"
	"syscall"
	"testing"
)

// hasInput tells whether something waits to be read, without taking it.
func hasInput(conn net.Conn) bool {
	rc, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = rc.Read(func(fd uintptr) bool {
		n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return n > 0
}

// TestUnsolicitedReply: what a host says unasked on an idle session is never
// taken for a reply to the next message, which travels over a fresh connection.
func TestUnsolicitedReply(t *testing.T) {
	t.Parallel()
	const stray = "250 2.0.0 and once more"
	for _, tt := range []struct {
		name      string
		tls, late bool
		next      string // final reply to the next message
		want      string
	}{
		{"late, refused", false, true, "554 5.7.1 no", "554 5.7.1 data-rejected"},
		{"late, taken", false, true, "250 2.0.0 taken", "delivered"},
		{"late under TLS, refused", true, true, "554 5.7.1 no", "554 5.7.1 data-rejected"},
		{"late under TLS, taken", true, true, "250 2.0.0 taken", "delivered"},
		{"with the last reply, refused", false, false, "554 5.7.1 no", "554 5.7.1 data-rejected"},
		{"with the last reply, taken", false, false, "250 2.0.0 taken", "delivered"},
		{"with the last reply under TLS, refused", true, false, "554 5.7.1 no", "554 5.7.1 data-rejected"},
		{"with the last reply under TLS, taken", true, false, "250 2.0.0 taken", "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var (
				held  dialled
				speak = make(chan struct{})
			)
			w, raw := rawWorld(t, held.watch, func(p *peer) {
				keywords := []string{"PIPELINING", "CHUNKING"}
				if tt.tls {
					p.hello("STARTTLS")
					p.secure(hostName(0), keywords...)
				} else {
					p.hello(keywords...)
				}
				if p.number == 1 {
					p.message(nil)
					if tt.late {
						p.taken()
						<-speak
						p.say(stray)
					} else {
						p.say("250 2.1.0 ok", "250 2.1.5 ok", "250 2.0.0 taken", stray)
					}
				}
				// The envelope may come alone: the host was caught with a reply too many.
				if p.message(func(verb string) {
					if verb == "RCPT" {
						p.say("250 2.1.0 ok", "250 2.1.5 ok")
					}
				}) {
					p.say(tt.next)
				}
				p.message(nil)
			})
			if f := w.sendOne(); f != nil {
				t.Fatalf("the first message: %s", code(f))
			}
			close(speak)
			if tt.late {
				w.eventually("the stray reply arrives", func() bool { return hasInput(held.latest()) })
			}
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("the next message: %s, want %s", got, tt.want)
			}
			a := w.last()
			if total, _ := raw.count(); total != 2 || a.Connection.Reused || a.Connection.Outcome.TLS != tt.tls || len(a.Hosts) != 0 {
				t.Errorf("%d connections; the next message on %+v, hosts %+v", total, a.Connection, a.Hosts)
			}
		})
	}
}
