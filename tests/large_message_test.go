package tests

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// TestMessageTooLarge: what exceeds the size that a host announced comes back at
// once, without a word about it to the host, and smaller mail goes on.
func TestMessageTooLarge(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	b := certificate(t, ca, mailtest.Good, host(0))
	b.ExtensionsTLS = []string{"PIPELINING", "SIZE 5000", "CHUNKING"}
	s := newServerCA(t, ca, b)
	s.config(blocks{endpoints: twoDoors, policy: "require_tls yes"})
	s.start()
	m := mail{anonymous: true, port: atTarget}
	s.mustSubmit(m)
	m.body = strings.Repeat("a secret body\r\n", 1000)
	if code := smtpCode(t, s.submit(m)); code != 552 {
		t.Errorf("the client heard %d", code)
	}
	m.port = atQueue
	s.mustSubmit(m)
	for i, d := range s.documents(3) {
		want, enhanced := "failed permanent 552 message-too-large", "5.3.4"
		if i == 0 {
			want, enhanced = "delivered 250", "2.0.0"
		}
		if d.status() != want || d.get("delivery-status.enhanced-code") != enhanced {
			t.Errorf("document %v, want %q", d, want)
		}
	}
	m.body, m.port = "", atTarget
	s.mustSubmit(m)
	if n := len(s.mx[0].Messages()); n != 2 {
		t.Errorf("%d messages arrived", n)
	}
	if n := strings.Count(fmt.Sprint(s.mx[0].Sessions()), "MAIL FROM"); n != 2 {
		t.Errorf("MAIL was sent %d times", n)
	}
}

// hostileBody is about n octets of what has ended messages early or lost bytes in
// mail servers: line ends of every kind, dots beside them, NUL, 8-bit octets, and
// commands.
func hostileBody(n int) []byte {
	parts := []string{
		"text ", strings.Repeat("a long line ", 70), "\n", "\r", "\r\n", "\r\r\n", "\n\r", ".", "..", "\x00", "\xe9\xff\x80", "é",
		"\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r\n..\r\n",
		"\r\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.net>\r\nDATA\r\n",
		"\n.\nRSET\nMAIL FROM:<evil@example.org>\nRCPT TO:<evil@example.net>\nBDAT 4 LAST\nevil",
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
	if !bytes.HasSuffix(body, []byte("\r\n")) {
		body = append(body, "\r\n"...)
	}
	return body
}

// submitChunk submits a message with BDAT, which keeps every octet as it is, and
// returns the reply to it.
func submitChunk(s *server, message []byte) string {
	s.Helper()
	nc, err := net.Dial("tcp", net.JoinHostPort(s.ip, atTarget))
	if err != nil {
		s.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(hang))
	c := textproto.NewConn(nc)
	if _, _, err := c.ReadResponse(220); err != nil {
		s.Fatal(err)
	}
	for _, command := range []string{"EHLO client.example.com", "MAIL FROM:<a@example.com> BODY=8BITMIME", "RCPT TO:<b@example.net>"} {
		if err := c.PrintfLine("%s", command); err != nil {
			s.Fatal(err)
		}
		if _, _, err := c.ReadResponse(250); err != nil {
			s.Fatalf("%s: %v", command, err)
		}
	}
	fmt.Fprintf(c.W, "BDAT %d LAST\r\n", len(message))
	c.W.Write(message)
	if err := c.W.Flush(); err != nil {
		s.Fatal(err)
	}
	code, text, err := c.ReadResponse(0)
	if err != nil && code == 0 {
		s.Fatal(err)
	}
	return fmt.Sprint(code, " ", text)
}

// TestHostileBody: whatever is in a body arrives as it is, with line ends made
// CRLF, and nothing in it can end the message or be taken for a command, with
// BDAT and with DATA.
func TestHostileBody(t *testing.T) {
	t.Parallel()
	for _, chunking := range []bool{true, false} {
		t.Run(fmt.Sprintf("chunking %v", chunking), func(t *testing.T) {
			t.Parallel()
			ca, err := mailtest.NewCA()
			if err != nil {
				t.Fatal(err)
			}
			s := newServerCA(t, ca, certificate(t, ca, mailtest.Good, host(0)))
			b := blocks{endpoints: twoDoors, policy: "require_tls yes"}
			if !chunking {
				b.target = "chunking no"
			}
			s.config(b)
			s.start()
			grown := make([]int, 0, 3) // by how much line ends made each larger
			for i, size := range []int{1 << 10, 60 << 10, 5 << 20} {
				body := hostileBody(size)
				message := append([]byte("Subject: a secret\r\nFrom: <a@example.com>\r\n\r\n"), body...)
				if reply := submitChunk(s, message); !strings.HasPrefix(reply, "250") {
					t.Fatalf("%d octets: %s", size, reply)
				}
				arrived := s.mx[0].Messages()
				if len(arrived) != i+1 {
					t.Fatalf("%d octets: %d messages arrived", size, len(arrived))
				}
				m := arrived[i]
				if m.Chunking != chunking || m.From != "a@example.com" {
					t.Errorf("BDAT %v, from %s", m.Chunking, m.From)
				}
				_, got, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
				want := normalised(body)
				grown = append(grown, len(want)-len(body))
				if !bytes.Equal(got, want) {
					t.Errorf("%d octets: arrived %d, want %d, different from octet %d", size, len(got), len(want), firstDifference(got, want))
				}
			}
			for _, session := range s.mx[0].Sessions() {
				if strings.Contains(strings.Join(session.Commands, "\n"), "evil") {
					t.Error("a part of the body was taken for commands")
				}
			}
			// The document has the size as handed in, so that it is certain that the
			// line ends were still untouched then.
			for i, d := range s.documents(len(grown)) {
				if size := d.get("message.size"); size != float64(s.mx[0].Messages()[i].Size-grown[i]) {
					t.Errorf("size %v, arrived %d", size, s.mx[0].Messages()[i].Size)
				}
			}
			s.neverInClear()
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
