package remotetls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/exterrors"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/mailtest"
)

// begin starts a message to the recipients, which must all be taken.
func (w *world) begin(meta *module.MsgMetadata, from string, to ...string) module.Delivery {
	w.Helper()
	d, err := w.Start(w.context(), meta, from)
	if err != nil {
		w.Fatal(err)
	}
	for _, rcpt := range to {
		if err := d.AddRcpt(w.context(), rcpt, smtp.RcptOptions{}); err != nil {
			w.Fatalf("%s: %v", rcpt, err)
		}
	}
	return d
}

func message(fields ...string) (textproto.Header, buffer.Buffer) {
	var h textproto.Header
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	h.Add("Subject", "hello")
	return h, buffer.MemoryBuffer{Slice: []byte("a body\r\n")}
}

// body hands the message in as an endpoint does.
func (w *world) body(d module.Delivery, fields ...string) error {
	w.Helper()
	h, b := message(fields...)
	return d.Body(w.context(), h, b)
}

// collector is a module.StatusCollector that counts.
type collector struct {
	mu    sync.Mutex
	count map[string]int
	codes map[string]string
}

func (c *collector) SetStatus(rcpt string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count, c.codes = make(map[string]int), make(map[string]string)
	}
	c.count[rcpt]++
	if err == nil {
		c.codes[rcpt] = "delivered"
		return
	}
	s, _ := asQueue(err)
	c.codes[rcpt] = s.enhanced
}

// bodyNonAtomic hands the message in as the queue does, and checks that there is
// one status for each time that a recipient was handed in.
func (w *world) bodyNonAtomic(d module.Delivery, fields ...string) map[string]string {
	w.Helper()
	var c collector
	h, b := message(fields...)
	d.(module.PartialDelivery).BodyNonAtomic(w.context(), &c, h, b)
	for _, r := range d.(*messageDelivery).msg.Recipients {
		c.count[r.Address]--
	}
	for rcpt, n := range c.count {
		if n != 0 {
			w.Errorf("%+d statuses for %s", n, rcpt)
		}
	}
	return c.codes
}

func enhancedCode(t *testing.T, err error) string {
	t.Helper()
	var se *exterrors.SMTPError
	if !errors.As(err, &se) {
		t.Fatalf("%v is not an SMTPError", err)
	}
	if se.EnhancedCode[0] != se.Code/100 {
		t.Errorf("%d goes with %v", se.Code, se.EnhancedCode)
	}
	return se.EnhancedCode.FormatLog()
}

func TestDelivered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "policy {\n}")
	d := w.begin(&module.MsgMetadata{ID: "7f3a9c1e"}, "a@example.com", "b@example.net")
	if err := w.body(d, "X-Require-TLS: no", "TLS-Override: v=1; forged"); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(w.context()); err != nil {
		t.Error(err)
	}
	m := w.mx.Messages()
	if len(m) != 1 || m[0].From != "a@example.com" || m[0].Recipients[0] != "b@example.net" || m[0].Helo != "relay.example.com" {
		t.Fatalf("arrived: %+v", m)
	}
	if text := string(m[0].Data); strings.Contains(text, "X-Require-TLS") || strings.Contains(text, "TLS-Override") ||
		!strings.Contains(text, "Subject: hello") || !strings.HasSuffix(text, "a body\r\n") {
		t.Errorf("arrived: %q", text)
	}
	if log := w.log.text(); !strings.Contains(log, "stamp does not check out") {
		t.Errorf("the forged stamp is not in the log: %s", log)
	}
}

// Each string that came in gets its status, exactly once, under exactly that
// string.
func TestStatuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{RejectRcpt: map[string]string{
		"no@example.net": "550 5.1.1 no such user", "later@example.net": "450 4.2.1 later",
	}}, "")
	w.dns.MX("bücher.example", 10, "mx1.test")
	w.dns.MX("xn--bcher-kva.example", 10, "mx1.test")
	w.dns.MX("null.example", 0, ".")
	rcpts := map[string]string{
		"b@example.net": "delivered", "b@EXAMPLE.net": "delivered", "B@example.net": "delivered", "b@example.net.": "delivered",
		"c@bücher.example": "delivered", "c@XN--bcher-kva.example": "delivered", `"q r"@example.net`: "delivered",
		"no@example.net": "5.1.1", "later@example.net": "4.2.1", "x@null.example": "5.1.10", "x@nowhere.test": "5.1.2",
	}
	d := w.begin(&module.MsgMetadata{ID: "1"}, "a@example.com")
	for rcpt := range rcpts {
		if err := d.AddRcpt(w.context(), rcpt, smtp.RcptOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.AddRcpt(w.context(), "b@example.net", smtp.RcptOptions{}); err != nil { // again
		t.Fatal(err)
	}
	if got := w.bodyNonAtomic(d); !maps.Equal(got, rcpts) {
		t.Errorf("got  %v\nwant %v", got, rcpts)
	}
	for _, m := range w.mx.Messages() {
		for i, rcpt := range m.Recipients {
			for _, other := range m.Recipients[i+1:] {
				if rcpt == other {
					t.Errorf("%s was sent twice", rcpt)
				}
			}
		}
	}
}

// A caller that takes one answer for all gets the worst one.
func TestBodyForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{RejectRcpt: map[string]string{
		"no@example.net": "550 5.1.1 no such user", "later@example.net": "450 4.2.1 later",
	}}, "")
	for _, test := range []struct {
		to   string
		want status
	}{
		{"b@example.net", status{code: 250}},
		{"no@example.net", status{550, "5.1.1", "mx1.test said: 550 5.1.1 no such user"}},
		{"b@example.net no@example.net", status{550, "5.1.1", "Not delivered to 1 of 2 recipients: mx1.test said: 550 5.1.1 no such user"}},
		{"no@example.net later@example.net", status{450, "4.2.1", "Not delivered to 2 of 2 recipients: mx1.test said: 450 4.2.1 later"}},
	} {
		d := w.begin(&module.MsgMetadata{ID: "1"}, "a@example.com", strings.Fields(test.to)...)
		if got := asEndpoint(w.body(d)); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.to, got, test.want)
		}
	}
}

// What can never be delivered is refused before anybody is called.
func TestAddRcptRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	d, err := w.Start(w.context(), &module.MsgMetadata{ID: "1"}, "a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		to   string
		code int
		want string
	}{
		{"", 501, "5.1.3"},
		{"nobody", 501, "5.1.3"},
		{"a@", 501, "5.1.3"},
		{"@example.net", 501, "5.1.3"},
		{"postmaster", 550, "5.1.1"},
		{"b@[127.0.0.1]", 550, "5.1.1"},
		{"b@[IPv6:::1]", 550, "5.1.1"},
	} {
		err := d.AddRcpt(w.context(), test.to, smtp.RcptOptions{})
		if got := asEndpoint(err); got.code != test.code || enhancedCode(t, err) != test.want {
			t.Errorf("%q: got %+v, want %d %s", test.to, got, test.code, test.want)
		}
	}
	if got := w.bodyNonAtomic(d); len(got) != 0 {
		t.Errorf("refused recipients got statuses as well: %v", got)
	}
	if err := d.Abort(w.context()); err != nil {
		t.Error(err)
	}
	if n := w.mx.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestQuarantined(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	meta := &module.MsgMetadata{ID: "1", Quarantine: true}
	d := w.begin(meta, "a@example.com")
	want := status{550, "5.7.0", "Refusing to deliver a quarantined message"}
	if got := asEndpoint(d.AddRcpt(w.context(), "b@example.net", smtp.RcptOptions{})); got != want {
		t.Errorf("at RCPT: %+v", got)
	}
	// The pipeline may decide when it has seen the body.
	for range 2 {
		meta = &module.MsgMetadata{ID: "2"}
		d = w.begin(meta, "a@example.com", "b@example.net")
		meta.Quarantine = true
		if got := asEndpoint(w.body(d)); got != want {
			t.Errorf("at the body: %+v", got)
		}
	}
	meta = &module.MsgMetadata{ID: "3"}
	d = w.begin(meta, "a@example.com", "b@example.net", "c@example.net")
	meta.Quarantine = true
	if got := w.bodyNonAtomic(d); got["b@example.net"] != "5.7.0" || got["c@example.net"] != "5.7.0" || len(got) != 2 {
		t.Errorf("at the body, for the queue: %v", got)
	}
	if n := w.mx.Connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestSenders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	for _, from := range []string{"nobody", "a@", "@example.com"} {
		// Each recipient is refused, so that each has its line in the log.
		d, err := w.Start(w.context(), &module.MsgMetadata{ID: "1"}, from)
		if err != nil {
			t.Fatal(err)
		}
		if err = d.AddRcpt(w.context(), "b@example.net", smtp.RcptOptions{}); err == nil {
			t.Errorf("%q is accepted", from)
			continue
		}
		if got := asEndpoint(err); got.code != 501 || got.enhanced != "5.1.8" {
			t.Errorf("%q: %+v", from, got)
		}
	}
	d := w.begin(&module.MsgMetadata{ID: "1"}, "", "b@example.net")
	if err := w.body(d); err != nil {
		t.Fatal(err)
	}
	if m := w.mx.Messages(); len(m) != 1 || m[0].From != "" {
		t.Errorf("arrived: %+v", m)
	}
}

// The queue reads the codes of a refused plan, and the message stays at home.
func TestRequireTLS(t *testing.T) {
	t.Parallel()
	for onFailure, want := range map[string]status{
		"defer":  {code: 451, enhanced: "4.7.4"},
		"reject": {code: 550, enhanced: "5.7.4"},
	} {
		t.Run(onFailure, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, mailtest.Behaviour{}, "policy {\nrequire_tls yes\non_failure "+onFailure+"\n}")
			d := w.begin(&module.MsgMetadata{ID: "1"}, "a@example.com", "b@example.net")
			if got := w.bodyNonAtomic(d)["b@example.net"]; got != want.enhanced {
				t.Errorf("the queue reads %s", got)
			}
			d = w.begin(&module.MsgMetadata{ID: "2"}, "a@example.com", "b@example.net")
			if got := asEndpoint(w.body(d)); got.code != want.code || got.enhanced != want.enhanced {
				t.Errorf("an endpoint reads %+v", got)
			}
			if m := w.mx.Messages(); len(m) != 0 {
				t.Errorf("arrived: %+v", m)
			}
		})
	}
}

// Refusals at AddRcpt have their line in the delivery log too.
func TestRefusalIsLogged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	mod, err := New("target.remote_tls", "outbound", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := mod.(*Target)
	block := "target.remote_tls outbound {\nhostname relay.example.com\ndelivery_log {\noutput file " + path + "\n}\n}"
	if err := target.Init(config.NewMap(nil, nodes(t, block)[0])); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	d, err := target.Start(context.Background(), &module.MsgMetadata{ID: "7f3a9c1e-66f0a1b2"}, "a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AddRcpt(context.Background(), "b@[127.0.0.1]", smtp.RcptOptions{}); err == nil {
		t.Fatal("accepted")
	}
	text, err := os.ReadFile(path) // a document is written before the caller knows
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(text), &doc); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if doc["event"] != "failed" || doc["severity"] != "permanent" || doc["recipient"] != "b@[127.0.0.1]" || doc["queue-id"] != "7f3a9c1e" {
		t.Errorf("document %s", text)
	}
}

// The limits count where a message came from.
func TestClientIP(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		meta *module.MsgMetadata
		want string
	}{
		{&module.MsgMetadata{}, "127.0.0.1"},
		{&module.MsgMetadata{Conn: &module.ConnState{}}, "127.0.0.1"},
		{&module.MsgMetadata{Conn: &module.ConnState{RemoteAddr: &net.UnixAddr{}}}, "127.0.0.1"},
		{&module.MsgMetadata{Conn: &module.ConnState{RemoteAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}}}, "192.0.2.7"},
	} {
		if got := clientIP(test.meta).String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// After Close everything fails for now, nothing hangs.
func TestClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	d := w.begin(&module.MsgMetadata{ID: "1"}, "a@example.com", "b@example.net")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := asEndpoint(w.body(d)); got.code != 451 || got.enhanced != "4.3.2" {
		t.Errorf("got %+v", got)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
