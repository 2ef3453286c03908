package tests

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// reusePolicy has a sending domain for each of the plans that meet in the pool.
const reusePolicy = `
domain verify.example { require_tls yes
}
domain any.example { require_tls yes
skip_verification yes
}
domain skip.example { skip_verification yes
}
domain keep.example { opportunistic_fallback unverified
}
domain plain.example { opportunistic_fallback plaintext
}`

// idle waits until so many connections are idle and none is busy: a connection
// goes back into the pool behind the status.
func (s *server) idle(n int) {
	s.Helper()
	const series = `maddy_remote_tls_pool_connections{module="outbound",state="%s"}`
	s.eventually(fmt.Sprintf("%d idle connections", n), func() bool {
		return s.metric(fmt.Sprintf(series, "busy")) == 0 && s.metric(fmt.Sprintf(series, "idle")) == float64(n)
	})
}

// step is one of several messages to the same host.
type step struct {
	from       string // the label before .example
	status     string
	connection int // over which it arrived, 0 for none
	reused     bool
	tls        bool
	idle       int           // connections afterwards
	then       func(*server) // before the next one
	fallback   string        // tls-fallback of the document
}

// TestPoolIsSafe: a connection that was opened for a weaker plan never serves a
// stronger one, and one that proved more serves those who want less.
func TestPoolIsSafe(t *testing.T) {
	t.Parallel()
	const untrusted = "certificate-untrusted"
	for name, tt := range map[string]struct {
		kind  mailtest.Kind
		steps []step
	}{
		"bad certificate": {mailtest.SelfSigned, []step{
			{from: "plain", status: "accepted", connection: 2, idle: 1, fallback: untrusted},
			{from: "plain", status: "accepted", connection: 2, reused: true, idle: 1, fallback: untrusted},
			{from: "any", status: "accepted", connection: 3, tls: true, idle: 2},
			{from: "any", status: "accepted", connection: 3, tls: true, reused: true, idle: 2},
			{from: "verify", status: "451 4.7.5", idle: 2},
			{from: "skip", status: "accepted", connection: 3, tls: true, reused: true, idle: 2},
			{from: "keep", status: "accepted", connection: 3, tls: true, reused: true, idle: 2, fallback: untrusted},
			{from: "plain", status: "accepted", connection: 2, reused: true, idle: 2, fallback: untrusted},
			{from: "verify", status: "451 4.7.5", idle: 2},
		}},
		"only in clear so far": {mailtest.SelfSigned, []step{
			{from: "plain", status: "accepted", connection: 2, idle: 1, fallback: untrusted},
			{from: "skip", status: "accepted", connection: 3, tls: true, idle: 2},
		}},
		"no STARTTLS": {"", []step{
			{from: "plain", status: "accepted", connection: 1, idle: 1, fallback: "tls-not-offered"},
			{from: "any", status: "451 4.7.4", idle: 1},
			{from: "verify", status: "451 4.7.4", idle: 1},
			{from: "skip", status: "accepted", connection: 1, reused: true, idle: 1, fallback: "tls-not-offered"},
			{from: "keep", status: "accepted", connection: 1, reused: true, idle: 1, fallback: "tls-not-offered"},
		}},
		"good": {mailtest.Good, []step{
			{from: "plain", status: "accepted", connection: 1, tls: true, idle: 1},
			{from: "verify", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
			{from: "any", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
			{from: "skip", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
			{from: "keep", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
		}},
		"good, the strictest first": {mailtest.Good, []step{
			{from: "verify", status: "accepted", connection: 1, tls: true, idle: 1},
			{from: "plain", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
		}},
		// What was verified stays so, whatever the host shows to newcomers.
		"certificate changes": {mailtest.Good, []step{
			{from: "verify", status: "accepted", connection: 1, tls: true, idle: 1, then: func(s *server) {
				s.mx[0].Set(certificate(s.T, s.ca, mailtest.Expired, host(0)))
			}},
			{from: "verify", status: "accepted", connection: 1, tls: true, reused: true, idle: 1},
		}},
		"STARTTLS comes later": {"", []step{
			{from: "skip", status: "accepted", connection: 1, idle: 1, fallback: "tls-not-offered", then: func(s *server) {
				s.mx[0].Set(certificate(s.T, s.ca, mailtest.Good, host(0)))
			}},
			{from: "verify", status: "accepted", connection: 2, tls: true, idle: 2},
			{from: "plain", status: "accepted", connection: 2, tls: true, reused: true, idle: 2},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := reuseServer(t, tt.kind, "")
			for i, st := range tt.steps {
				s.step(i, st)
			}
		})
	}
}

func reuseServer(t *testing.T, kind mailtest.Kind, target string) *server {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	var b mailtest.Behaviour
	if kind != "" {
		b = certificate(t, ca, kind, host(0))
	}
	s := newServerCA(t, ca, b)
	s.config(blocks{policy: reusePolicy, target: target, endpoints: anyoneDirect("smtp", "")})
	s.start()
	return s
}

func (s *server) step(i int, st step) {
	s.Helper()
	before := s.mx[0].Delivered()
	body := fmt.Sprintf("step %d is a secret\r\n", i)
	if got := reply(s.direct(mail{from: "a@" + st.from + ".example", body: body})); got != st.status {
		s.Errorf("step %d, %s: %s, want %s", i, st.from, got, st.status)
	}
	s.idle(st.idle)
	d := s.next(i)
	messages := s.mx[0].Messages()[before:]
	if st.connection == 0 {
		if len(messages) != 0 {
			s.Errorf("step %d, %s: arrived %+v", i, st.from, messages)
		}
	} else {
		if len(messages) != 1 || messages[0].Connection != st.connection || messages[0].TLS != st.tls {
			s.Fatalf("step %d, %s: arrived %+v, want TLS %v over connection %d", i, st.from, messages, st.tls, st.connection)
		}
		var fallback any
		if st.fallback != "" {
			fallback = st.fallback
		}
		d.expect(s.T, map[string]any{
			"event": "delivered", "delivery-status.connection-reused": st.reused,
			"delivery-status.tls": st.tls, "delivery-status.tls-fallback": fallback,
		})
	}
	for _, session := range s.mx[0].Sessions() {
		if clear := bytes.Contains(session.ClearBytes, []byte(body)); clear && (st.tls || st.connection == 0) {
			s.Errorf("step %d, %s: in clear on the wire", i, st.from)
		}
	}
	if st.then != nil {
		st.then(s)
	}
}

// TestPoolUnderLoad: hundreds of messages with different plans at once, over
// hosts of every sort: what requires TLS never crosses in clear, every message
// has one document, and all connections come back.
func TestPoolUnderLoad(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := newServerCA(t, ca, certificate(t, ca, mailtest.SelfSigned, host(0)), certificate(t, ca, mailtest.Good, host(1)), mailtest.Behaviour{})
	for i := range s.mx {
		s.dns.MX(matrixDomain(i), 10, host(i))
	}
	s.config(blocks{policy: reusePolicy, endpoints: anyoneDirect("smtp", ""), target: "conn_reuse_limit 3"})
	s.start()
	senders := []string{"verify", "any", "skip", "keep", "plain"}
	// Who is delivered to whom.
	want := map[string][]bool{ // bad, good, in clear
		"verify": {false, true, false}, "any": {true, true, false},
		"skip": {true, true, true}, "keep": {true, true, true}, "plain": {true, true, true},
	}
	const each = 12
	var wg sync.WaitGroup
	for i := range each * len(senders) {
		from := senders[i%len(senders)]
		wg.Go(func() {
			for j := range s.mx {
				err := s.direct(mail{from: "a@" + from + ".example", to: []string{"b@" + matrixDomain(j)}, body: "sent by " + from + "\r\n"})
				if (err == nil) != want[from][j] {
					t.Errorf("%s to %s: %v", from, matrixDomain(j), err)
				}
			}
		})
	}
	wg.Wait()
	if docs := s.documents(each * len(senders) * len(s.mx)); len(docs) != each*len(senders)*len(s.mx) {
		t.Errorf("%d documents", len(docs))
	}
	for i, m := range s.mx {
		for _, session := range m.Sessions() {
			for _, from := range []string{"verify", "any"} {
				if bytes.Contains(session.ClearBytes, []byte("sent by "+from)) || bytes.Contains(session.ClearBytes, []byte("a@"+from)) {
					t.Errorf("%s: a message by %s crossed in clear", host(i), from)
				}
			}
			if i < 2 && bytes.Contains(session.ClearBytes, []byte("sent by skip")) {
				t.Errorf("%s: a message by skip crossed in clear, where TLS was to be had", host(i))
			}
		}
		for _, msg := range m.Messages() {
			if msg.From == "a@verify.example" && (i != 1 || !msg.TLS) {
				t.Errorf("%s got a message that requires verification: %+v", host(i), msg)
			}
		}
	}
	s.eventually("no connection is busy", func() bool {
		return s.metric(`maddy_remote_tls_pool_connections{module="outbound",state="busy"}`) == 0
	})
}

// TestReuseLimits: conn_reuse_limit messages after the first, conn_max_idle_count
// connections a host, conn_max_idle_time.
func TestReuseLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		target   string
		messages int
		want     []int // the connection of each message
	}{
		{"conn_reuse_limit 0", 3, []int{1, 2, 3}},
		{"conn_reuse_limit 2", 7, []int{1, 1, 1, 2, 2, 2, 3}},
		{"chunking yes", 13, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{"conn_max_idle_count 0", 2, []int{1, 2}},
		{"conn_max_idle_time 0", 2, []int{1, 2}},
	} {
		t.Run(tt.target, func(t *testing.T) {
			t.Parallel()
			s := reuseServer(t, mailtest.Good, tt.target)
			for i, connection := range tt.want {
				if err := s.direct(mail{from: "a@verify.example"}); err != nil {
					t.Fatal(err)
				}
				next := 0 // of the next message
				if i+1 < len(tt.want) {
					next = tt.want[i+1]
				}
				if next == connection {
					s.idle(1)
				} else if next != 0 {
					s.idle(0)
				}
			}
			for i, m := range s.mx[0].Messages() {
				if m.Connection != tt.want[i] {
					t.Errorf("message %d came over connection %d, want %d", i+1, m.Connection, tt.want[i])
				}
			}
			if n := s.mx[0].Connections(); n != tt.want[len(tt.want)-1] {
				t.Errorf("%d connections", n)
			}
		})
	}
	t.Run("idle time", func(t *testing.T) {
		t.Parallel()
		s := reuseServer(t, mailtest.Good, "conn_max_idle_time 20ms")
		if err := s.direct(mail{}); err != nil {
			t.Fatal(err)
		}
		s.eventually("the idle connection is closed", func() bool { return s.mx[0].Sessions()[0].Closed })
		commands := s.mx[0].Sessions()[0].Commands
		if last := commands[len(commands)-1]; last != "T: QUIT" {
			t.Errorf("left with %q", last)
		}
		s.idle(0)
	})
}

// idleClose is how long a host waits for the next message, which comes when it has
// closed.
const idleClose = 100 * time.Millisecond

// TestStaleConnections: an idle connection that the host has ended meanwhile is
// replaced at once, and nobody hears of it.
func TestStaleConnections(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*mailtest.Behaviour){
		"421 to MAIL":  func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "421 4.4.2 idle too long" },
		"EOF at MAIL":  func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "eof" },
		"RST at MAIL":  func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "reset" },
		"idle, closed": func(b *mailtest.Behaviour) { b.IdleClose = idleClose },
		"idle, 421":    func(b *mailtest.Behaviour) { b.IdleClose, b.IdleReply = idleClose, "421 4.4.2 idle" },
	} {
		for _, kind := range []mailtest.Kind{mailtest.Good, ""} {
			t.Run(strings.TrimSpace(name+" "+string(kind)), func(t *testing.T) {
				t.Parallel()
				s := reuseServer(t, kind, "")
				b := mailtest.Behaviour{}
				if kind != "" {
					b = certificate(t, s.ca, kind, host(0))
				}
				alter(&b)
				s.mx[0].Set(b)
				for i := range 3 {
					if err := s.direct(mail{from: "a@skip.example"}); err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					d := s.next(i)
					d.expect(t, map[string]any{
						"event": "delivered", "delivery-status.attempt-no": 1,
						"delivery-status.connection-reused": false, "delivery-status.tls": kind != "",
					})
					// But for the text that went into it in clear.
					if hosts := d.get("delivery-status.hosts"); hosts != nil && (kind != "" || b.IdleClose > 0) {
						t.Errorf("hosts %v", hosts)
					}
					s.idle(1)
					if b.IdleClose > 0 {
						s.eventually("the host closes", func() bool { all := s.mx[0].Sessions(); return all[len(all)-1].Closed })
					}
				}
				if n := s.mx[0].Delivered(); n != 3 {
					t.Errorf("%d messages arrived", n)
				}
				for series := range s.counters() {
					if strings.HasPrefix(series, "failures_total") && !strings.Contains(series, "tls-not-offered") {
						t.Errorf("counted %s", series)
					}
				}
			})
		}
	}
}

// TestAfterARefusal: a connection on which a message was refused carries the next
// one, whole and for its own recipients only. After a refused chunk, which a host
// may have taken for commands, it is closed instead.
func TestAfterARefusal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		replies map[string]string
		status  string
		chunks  bool
	}{
		"MAIL":           {map[string]string{"mail": "550 5.7.1 not you"}, "550 5.7.1", false},
		"RCPT":           {map[string]string{"rcpt": "550 5.1.1 nobody"}, "550 5.1.1", false},
		"RCPT for now":   {map[string]string{"rcpt": "450 4.2.1 later"}, "450 4.2.1", false},
		"DATA":           {map[string]string{"data": "554 5.5.1 no"}, "554 5.5.1", false},
		"body":           {map[string]string{"body": "554 5.7.1 spam"}, "554 5.7.1", false},
		"MAIL with BDAT": {map[string]string{"mail": "550 5.7.1 not you"}, "550 5.7.1", true},
		"RCPT with BDAT": {map[string]string{"rcpt": "550 5.1.1 nobody"}, "550 5.1.1", true},
		"BDAT":           {map[string]string{"body": "554 5.7.1 spam"}, "554 5.7.1", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := reuseServer(t, mailtest.Good, "chunking "+map[bool]string{true: "yes", false: "no"}[tt.chunks])
			good := certificate(t, s.ca, mailtest.Good, host(0))
			bad := good
			bad.Replies = tt.replies
			for i := range 3 {
				s.mx[0].Set(bad)
				if err := s.direct(mail{to: []string{"refused@example.net"}}); reply(err) != tt.status {
					t.Errorf("%v, want %s", err, tt.status)
				}
				s.idle(map[bool]int{false: 1, true: 0}[tt.chunks])
				s.mx[0].Set(good)
				if err := s.direct(mail{to: []string{"taken@example.net"}}); err != nil {
					t.Fatal(err)
				}
				s.idle(1)
				d := s.next(2*i + 1)
				d.expect(t, map[string]any{"event": "delivered", "delivery-status.connection-reused": !tt.chunks, "delivery-status.hosts": nil})
			}
			s.takenOnly(tt.chunks)
			if n, want := s.mx[0].Connections(), map[bool]int{false: 1, true: 4}[tt.chunks]; n != want {
				t.Errorf("%d connections for six messages, want %d", n, want)
			}
		})
	}
}

// takenOnly: three messages arrived, each for the one recipient it was for.
func (s *server) takenOnly(chunks bool) {
	s.Helper()
	messages := s.mx[0].Messages()
	if len(messages) != 3 {
		s.Fatalf("%d messages arrived", len(messages))
	}
	for _, m := range messages {
		if len(m.Recipients) != 1 || m.Recipients[0] != "taken@example.net" || m.Chunking != chunks {
			s.Errorf("arrived %+v", m)
		}
		stripped(s.T, m)
	}
}
