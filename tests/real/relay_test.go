package real

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// relayConf hands what it takes to the target at once, so that the client hears
// what became of it. The sending domain says what TLS is wanted, the port whether
// bodies may travel as chunks.
const relayConf = `state_dir {dir}/state
runtime_dir {dir}/run
hostname relay.example.com
log stderr

tls_policy outbound_policy {
    domain verify.test {
        require_tls yes
    }
    domain any.test {
        require_tls yes
        skip_verification yes
    }
    domain keep.test {
        opportunistic_fallback unverified
    }
}
delivery_log deliveries {
    output file {dir}/deliveries.jsonl
}
target.remote_tls chunks {
    policy &outbound_policy
    delivery_log &deliveries
    resolver {dns}
    port {port}
    tls_client {
        root_ca {dir}/ca.pem
    }
    mx_auth {
        {mx-auth}
    }
}
target.remote_tls data {
    policy &outbound_policy
    delivery_log &deliveries
    resolver {dns}
    port {port}
    tls_client {
        root_ca {dir}/ca.pem
    }
    mx_auth {
        {mx-auth}
    }
    chunking no
}
openmetrics tcp://{metrics} { }
smtp tcp://{chunks} {
    hostname relay.example.com
    tls off
    deliver_to &chunks
}
smtp tcp://{data} {
    hostname relay.example.com
    tls off
    deliver_to &data
}
`

// relay is a maddy process that delivers to a receiver.
type relay struct {
	*testing.T
	dir          string
	chunks, data string // addresses of its endpoints
	metrics      string
	process      *daemon
}

// relayTo is where a relay delivers to.
type relayTo struct {
	ca     *mailtest.CA
	dns    string // the resolver
	port   int    // of MX hosts
	mxAuth string // inside mx_auth
}

// startRelay starts a maddy process.
func startRelay(t *testing.T, to relayTo) *relay {
	t.Helper()
	s := &relay{T: t, dir: t.TempDir()}
	maddy, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ips, port := addresses(t, 3)
	for i, address := range []*string{&s.chunks, &s.data, &s.metrics} {
		*address = fmt.Sprintf("%s:%d", ips[i], port)
	}
	if err := to.ca.WriteFile(s.path("ca.pem")); err != nil {
		t.Fatal(err)
	}
	write(t, s.path("maddy.conf"), fill(relayConf, "dir", s.dir, "dns", to.dns,
		"port", strconv.Itoa(to.port), "mx-auth", to.mxAuth, "chunks", s.chunks, "data", s.data, "metrics", s.metrics))
	s.process = start(t, "maddy", exec.Command(maddy, "--config", s.path("maddy.conf"), "run"))
	s.process.accepts(s.chunks, s.data, s.metrics)
	return s
}

// in is the relay as a subtest has it.
func (s *relay) in(t *testing.T) *relay {
	sub := *s
	sub.T = t
	return &sub
}

// path is a file in the relay's directory.
func (s *relay) path(name string) string { return filepath.Join(s.dir, name) }

// mail is a message to be handed to the relay.
type mail struct {
	from string // the domain says what is wanted of TLS
	to   []string
	body []byte
	utf8 bool
	data bool // no chunks
}

// header is the header of every message. Nothing in it is changed on the way.
const header = "From: <a@good.example>\r\nTo: <b@good.example>\r\nSubject: folded\r\n\tand =?utf-8?q?g=C3=BC?=\r\n" +
	"Message-Id: <x@good.example>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit"

// submit hands a message to the relay, octet by octet as it is, and returns the
// relay's answer: nil, or an *smtp.SMTPError.
func (s *relay) submit(m mail) error {
	s.Helper()
	address := s.chunks
	if m.data {
		address = s.data
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		s.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(hang))
	c := textproto.NewConn(nc)
	if _, _, err := c.ReadResponse(220); err != nil {
		s.Fatal(err)
	}
	options := " BODY=8BITMIME"
	if m.utf8 {
		options += " SMTPUTF8"
	}
	commands := []string{"EHLO client.example.com", "MAIL FROM:<" + m.from + ">" + options}
	for _, to := range m.to {
		commands = append(commands, "RCPT TO:<"+to+">")
	}
	for _, command := range commands {
		if err := c.PrintfLine("%s", command); err != nil {
			s.Fatal(err)
		}
		if _, _, err := c.ReadResponse(250); err != nil {
			s.Fatalf("%s: %v", command, err)
		}
	}
	// A chunk keeps every octet, line ends too.
	message := append([]byte(header+"\r\n\r\n"), m.body...)
	fmt.Fprintf(c.W, "BDAT %d LAST\r\n", len(message))
	c.W.Write(message)
	if err := c.W.Flush(); err != nil {
		s.Fatal(err)
	}
	_, _, err = c.ReadResponse(250)
	if refused := (*textproto.Error)(nil); errors.As(err, &refused) {
		return &smtp.SMTPError{Code: refused.Code, Message: refused.Msg}
	}
	if err != nil {
		s.Fatal(err)
	}
	return nil
}

// document is a line of the delivery log.
type document map[string]any

// get returns a value by its path, as in "delivery-status.tls"; nil if absent.
func (d document) get(path string) any {
	var v any = map[string]any(d)
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// status is a short form: "delivered 250" or "failed temporary 451 reason".
func (d document) status() string {
	code := d.get("delivery-status.code")
	if d["event"] == "delivered" {
		return fmt.Sprint("delivered ", code)
	}
	return fmt.Sprint("failed ", d["severity"], " ", code, " ", d["reason"])
}

// expect fails the test where a document differs. A nil value means that the
// field must be absent.
func (d document) expect(t *testing.T, want map[string]any) {
	t.Helper()
	for path, value := range want {
		if got := d.get(path); fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("document: %s is %v, want %v\n%v", path, got, value, d)
		}
	}
}

// documents returns the delivery log. Each document is there before the client
// hears of the result.
func (s *relay) documents() (docs []document) {
	s.Helper()
	text, err := os.ReadFile(s.path("deliveries.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		s.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d document
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			s.Fatalf("line %q: %v", lines.Text(), err)
		}
		docs = append(docs, d)
	}
	return docs
}

// send submits a message and returns the documents about it and the answer, when
// its connections are idle again: they go back behind the answer.
func (s *relay) send(m mail) ([]document, error) {
	s.Helper()
	known := len(s.documents())
	err := s.submit(m)
	docs := s.documents()[known:]
	if len(docs) != len(m.to) {
		s.Fatalf("%d documents for %d recipients: %v", len(docs), len(m.to), docs)
	}
	s.process.eventually("is idle", s.idle)
	return docs, err
}

// idle reports whether no connection to a receiver is busy.
func (s *relay) idle() bool {
	s.Helper()
	res, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	for _, target := range []string{"chunks", "data"} {
		series := fmt.Sprintf("maddy_remote_tls_pool_connections{module=%q,state=\"busy\"} 0\n", target)
		if !bytes.Contains(text, []byte(series)) {
			return false
		}
	}
	return true
}
