package real

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReceivers hands mail for Postfix and for Exim to a relay and looks at all
// sides: what was filed and logged, what the client heard, and the document.
func TestReceivers(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, ...string) *receiver{"Postfix": startPostfix, "Exim": startExim} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			s := startRelay(t, relayTo{ca: r.ca, dns: r.dns.Addr(), port: r.port, mxAuth: "local_policy off"})
			for promise, test := range map[string]func(*testing.T, *receiver, *relay){
				"bodies arrive":      testBodiesArrive,
				"plans meet doors":   testPlansMeetDoors,
				"old TLS":            testOldTLS,
				"REQUIRETLS":         testREQUIRETLS,
				"recipients apart":   testRecipientsApart,
				"international mail": testInternationalMail,
				"session reused":     testSessionReused,
				"idle session ends":  testIdleSessionEnds,
				"message too large":  testMessageTooLarge,
				"delivery reports":   testDSN,
			} {
				t.Run(promise, func(t *testing.T) { test(t, r.in(t), s.in(t)) })
			}
		})
	}
}

// newMail waits until a mailbox has one message more than the known ones and
// returns that.
func (r *receiver) newMail(box string, known map[string]filed) filed {
	r.Helper()
	deadline := time.Now().Add(hang)
	for {
		now := r.mailbox(box)
		if len(now) > len(known)+1 {
			r.Fatalf("%s got %d messages, want one", box, len(now)-len(known))
		}
		for file, m := range now {
			if _, ok := known[file]; !ok {
				return m
			}
		}
		if time.Now().After(deadline) {
			r.Fatalf("nothing arrived for %s", box)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// arrived fails the test unless a message was filed as it was handed in, under
// fields that the servers on its way put on top.
func arrived(t *testing.T, m filed, body []byte, tls bool) {
	t.Helper()
	if !bytes.HasSuffix(m.header, []byte("\r\n"+header)) {
		t.Errorf("the header arrived as\n%s", m.header)
	}
	want := normalised(body)
	if !bytes.Equal(m.body, want) {
		t.Errorf("arrived %d octets, want %d, different from octet %d", len(m.body), len(want), firstDifference(m.body, want))
	}
	// The first Received field that says so is the receiver's.
	field := receivedBy(string(m.header), "good.mx.test")
	if said := strings.Contains(field, "TLS1") || strings.Contains(field, "TLSv1"); said != tls {
		t.Errorf("TLS %v, but the server noted\n%s", tls, field)
	}
}

// receivedBy is the Received field that a host added.
func receivedBy(header, host string) string {
	unfolded := strings.NewReplacer("\r\n\t", " ", "\r\n ", " ").Replace(header)
	for line := range strings.Lines(unfolded) {
		if strings.HasPrefix(line, "Received:") && strings.Contains(line, "by "+host) {
			return line
		}
	}
	return ""
}

// hostileBody is about n octets of what has ended messages early or lost bytes in
// mail servers.
func hostileBody(n int) []byte {
	parts := []string{
		"text ", strings.Repeat("a long line ", 70), "\n", "\r\n", "\r", ".", "..", "\xe9\xff\x80", "é", "From here",
		"\r\n.\r\n", "\n.\n", "\r\n..\r\n", "\r\n.\r", "\r\nFrom here",
		"\r\n.\r\nMAIL FROM:<evil@good.example>\r\nRCPT TO:<evil@good.example>\r\nDATA\r\n",
	}
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(parts[random.IntN(len(parts))])
	}
	return b.Bytes()
}

// normalised is a body as it must arrive: nothing changed but line ends.
func normalised(body []byte) []byte {
	for _, step := range [][2]string{{"\r\n", "\n"}, {"\r", "\n"}, {"\n", "\r\n"}} {
		body = bytes.ReplaceAll(body, []byte(step[0]), []byte(step[1]))
	}
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
		body = append(body, "\r\n"...)
	}
	return body
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// testBodiesArrive: small and large messages are filed as they were handed in,
// whether they travel as chunks or line by line.
func testBodiesArrive(t *testing.T, r *receiver, s *relay) {
	for _, data := range []bool{false, true} {
		for _, size := range []int{0, 10, 50 << 10, 5 << 20} {
			known := r.mailbox("b")
			body := hostileBody(size)
			docs, err := s.send(mail{from: "a@verify.test", to: []string{"b@good.example"}, body: body, data: data})
			if err != nil {
				t.Fatalf("%d octets, without chunks %v: %v", size, data, err)
			}
			docs[0].expect(t, map[string]any{
				"event": "delivered", "delivery-status.tls": true, "delivery-status.certificate-verified": true,
				"delivery-status.verification": "pkix", "delivery-status.mx-host": "good.mx.test",
			})
			arrived(t, r.newMail("b", known), body, true)
		}
	}
	if n := len(r.mailbox("evil")); n != 0 {
		t.Errorf("%d messages were smuggled in", n)
	}
}

// testPlansMeetDoors: what a server shows and what the sender wants decide
// together, and server, client and document tell the same story.
func testPlansMeetDoors(t *testing.T, r *receiver, s *relay) {
	const (
		verified   = "delivered 250, verified"
		unverified = "delivered 250, TLS"
		clear      = "delivered 250, in clear"
		refused    = "failed temporary 451 "
	)
	// By door: what becomes of mail from verify.test, any.test, keep.test, plain.test.
	want := map[string][4]string{
		"good":         {verified, verified, verified, verified},
		"intermediate": {verified, verified, verified, verified},
		"self":         {refused + "certificate-untrusted", unverified, unverified, clear},
		"expired":      {refused + "certificate-expired", unverified, unverified, clear},
		"name":         {refused + "certificate-name-mismatch", unverified, unverified, clear},
		"clear":        {refused + "tls-not-offered", refused + "tls-not-offered", clear, clear},
	}
	for door, results := range want {
		for i, from := range []string{"verify", "any", "keep", "plain"} {
			known := r.mailbox("b")
			docs, err := s.send(mail{from: "a@" + from + ".test", to: []string{"b@" + door + ".example"}, body: []byte("a body\r\n")})
			got := docs[0].status()
			delivered := strings.HasPrefix(got, "delivered")
			encrypted := docs[0].get("delivery-status.tls") == true
			switch {
			case !delivered:
			case !encrypted:
				got += ", in clear"
			case docs[0].get("delivery-status.certificate-verified") == true:
				got += ", verified"
			default:
				got += ", TLS"
			}
			if got != results[i] || delivered != (err == nil) {
				t.Errorf("%s, %s: %s (the client heard %v), want %s", door, from, got, err, results[i])
			}
			if err == nil {
				arrived(t, r.newMail("b", known), []byte("a body\r\n"), encrypted)
			} else if now := r.mailbox("b"); len(now) != len(known) {
				t.Errorf("%s, %s: refused, yet it arrived", door, from)
			}
		}
	}
}

// testOldTLS: a server that knows no TLS 1.3 is verified all the same.
func testOldTLS(t *testing.T, r *receiver, s *relay) {
	known := r.mailbox("b")
	docs, err := s.send(mail{from: "a@verify.test", to: []string{"b@old.example"}, body: []byte("a body\r\n")})
	if err != nil {
		t.Fatal(err)
	}
	docs[0].expect(t, map[string]any{"delivery-status.tls-version": "TLSv1.2", "delivery-status.certificate-verified": true})
	arrived(t, r.newMail("b", known), []byte("a body\r\n"), true)
}

// testRecipientsApart: one refused recipient does not keep the others from their
// mail, and the document of each says what the server said about it.
func testRecipientsApart(t *testing.T, r *receiver, s *relay) {
	for _, data := range []bool{false, true} {
		knownB, knownC := r.mailbox("b"), r.mailbox("c")
		docs, err := s.send(mail{from: "a@verify.test", data: data, body: []byte("a body\r\n"),
			to: []string{"b@good.example", "nobody@good.example", "c@good.example"}})
		if err == nil || !strings.Contains(err.Error(), "550") {
			t.Errorf("the client heard %v", err)
		}
		got := make(map[string]string)
		for _, d := range docs {
			got[fmt.Sprint(d["recipient"])] = d.status()
		}
		if fmt.Sprint(got) != "map[b@good.example:delivered 250 c@good.example:delivered 250 nobody@good.example:failed permanent 550 rcpt-rejected]" {
			t.Errorf("documents %v", got)
		}
		arrived(t, r.newMail("b", knownB), []byte("a body\r\n"), true)
		arrived(t, r.newMail("c", knownC), []byte("a body\r\n"), true)
	}
}

// testInternationalMail: addresses beyond ASCII arrive in the right mailbox.
func testInternationalMail(t *testing.T, r *receiver, s *relay) {
	for _, tt := range []struct {
		from, to, box string
		utf8          bool // it must travel as SMTPUTF8
	}{
		{"a@verify.test", "jörg@good.example", "jörg", true},
		{"jörg@verify.test", "b@good.example", "b", true},
		{"a@verify.test", "jörg@" + idn, "jörg", true},
		{"a@verify.test", "b@" + idn, "b", false},
	} {
		known := r.mailbox(tt.box)
		docs, err := s.send(mail{from: tt.from, to: []string{tt.to}, body: []byte("a body\r\n"), utf8: true})
		if err != nil {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
			continue
		}
		docs[0].expect(t, map[string]any{"event": "delivered", "recipient": tt.to, "delivery-status.certificate-verified": true})
		if tt.utf8 && docs[0].get("delivery-status.utf8") != true {
			t.Errorf("%s to %s did not travel as SMTPUTF8", tt.from, tt.to)
		}
		arrived(t, r.newMail(tt.box, known), []byte("a body\r\n"), true)
	}
}

// testSessionReused: one session carries several messages, a refused one among
// them.
func testSessionReused(t *testing.T, r *receiver, s *relay) {
	before := len(r.log())
	for i, to := range []string{"b", "nobody", "b", "b"} {
		known := r.mailbox("b")
		docs, err := s.send(mail{from: "a@verify.test", to: []string{to + "@again.example"}, body: hostileBody(100 << 10)})
		if refused := err != nil; refused != (to == "nobody") {
			t.Errorf("%s: %v", to, err)
		}
		docs[0].expect(t, map[string]any{"delivery-status.connection-reused": i > 0, "delivery-status.tls": true})
		if err == nil {
			r.newMail("b", known)
		}
	}
	// Postfix has a process of its own for its log.
	var sessions []string
	r.server.eventually("logs three messages", func() bool {
		sessions = nil
		for _, line := range r.session.FindAllStringSubmatch(r.log()[before:], -1) {
			sessions = append(sessions, line[1])
		}
		return len(sessions) >= 3
	})
	if len(sessions) != 3 || len(slices.Compact(sessions)) != 1 {
		t.Errorf("the server saw three messages in the sessions %v, want one session", sessions)
	}
}

// testIdleSessionEnds: a server that ends idle sessions costs nothing; the next
// message goes over a new one.
func testIdleSessionEnds(t *testing.T, r *receiver, s *relay) {
	before := len(r.log())
	for i := range 2 {
		known := r.mailbox("b")
		docs, err := s.send(mail{from: "a@verify.test", to: []string{"b@idle.example"}, body: []byte("a body\r\n")})
		if err != nil {
			t.Fatal(err)
		}
		docs[0].expect(t, map[string]any{"event": "delivered", "delivery-status.connection-reused": false})
		arrived(t, r.newMail("b", known), []byte("a body\r\n"), true)
		r.server.eventually("ends the idle session", func() bool { return strings.Count(r.log()[before:], r.timeout) > i })
	}
}

// testMessageTooLarge: what exceeds the size that a server announced comes back
// at once, without a word to the server, and smaller mail goes on.
func testMessageTooLarge(t *testing.T, r *receiver, s *relay) {
	small := mail{from: "a@verify.test", to: []string{"b@good.example"}, body: []byte("a body\r\n")}
	large := small
	large.body = bytes.Repeat([]byte("a line\r\n"), 1+sizeLimit/8)
	for i, m := range []mail{small, large, small} {
		known := r.mailbox("b")
		docs, err := s.send(m)
		if i == 1 {
			if err == nil || docs[0].status() != "failed permanent 552 message-too-large" {
				t.Errorf("the client heard %v; document %v", err, docs[0])
			}
			continue
		}
		if err != nil {
			t.Error(err)
		}
		r.newMail("b", known)
		if i == 2 {
			docs[0].expect(t, map[string]any{"delivery-status.connection-reused": true})
		}
	}
}
