package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-smtp"

	"tlscontrol/internal/mailtest"
)

// This file holds what the files of the fault matrix have in common. Each of
// them runs one process against many destinations, each with hosts of its own
// and one thing wrong, all tried at once; in the end the process must be
// unharmed.

// faultHost is an MX host: its script, and the kind of certificate that it has,
// if any.
type faultHost struct {
	cert mailtest.Kind
	mailtest.Behaviour
}

// faultyTLS is a host that offers STARTTLS and is without fault but for b.
func faultyTLS(b mailtest.Behaviour) faultHost { return faultHost{mailtest.Good, b} }

// faultyClear is a host that does not offer STARTTLS.
func faultyClear(b mailtest.Behaviour) faultHost { return faultHost{"", b} }

// answering is a script with one reply changed.
func answering(step, reply string) mailtest.Behaviour {
	return mailtest.Behaviour{Replies: map[string]string{step: reply}}
}

// fault is a row of the matrix: a destination, and what comes of a message to it.
type fault struct {
	name   string
	hosts  []faultHost // in order of preference
	strict bool        // verified TLS is required
	// zone sets up the DNS, instead of one MX record a host.
	zone func(zone)
	mail mail // the default recipient is b@ the destination

	want     string // status of the document
	or       string // another status that is as true
	client   int    // what the client hears, if that is not the document's code
	fallback string // tls-fallback of the document
	verified bool   // delivered over verified TLS
	tls      bool   // delivered over TLS
	// replyLost tells that a host may take the message but cannot say so.
	replyLost bool
}

// zone is what a row may do to its part of the DNS.
type zone struct {
	*mailtest.DNS
	domain string
	hosts  []string // names of the row's hosts, which have their A records
	ips    []string // their addresses
	nobody string   // an address where nobody listens
}

// faultServer is a process in front of the hosts of many faults.
type faultServer struct {
	*server
	faults []fault
	first  []int        // index of the first host of each fault
	sent   atomic.Int64 // recipients of messages sent
}

const (
	// impatient deadlines are for hosts that fall silent. Those that do not have to be
	// heard in time on a busy machine, too.
	impatient = "connect_timeout 8s\ncommand_timeout 8s\nsubmission_timeout 8s"
	// patient ones never pass, however busy the machine is.
	patient = "connect_timeout 50s\ncommand_timeout 50s\nsubmission_timeout 50s"
)

// twoDoors are endpoints without login: at the one the client hears what the
// target said, behind the other is the queue.
const twoDoors = `smtp tcp://{ip}:{smtp} {
    hostname relay.example.com
    tls off
    deliver_to &outbound
}
smtp tcp://{ip}:{submission} {
    hostname relay.example.com
    tls off
    deliver_to &remote_queue
}`

const (
	atTarget = "2525"
	atQueue  = "2587"
)

// startFaults starts a process with the hosts of all faults, and one that is
// sound.
func startFaults(t *testing.T, b blocks, faults ...fault) *faultServer {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	f := &faultServer{faults: faults}
	var behaviours []mailtest.Behaviour
	add := func(h faultHost) {
		if h.cert != "" {
			h.Certificate = certificate(t, ca, h.cert, host(len(behaviours))).Certificate
		}
		behaviours = append(behaviours, h.Behaviour)
	}
	for _, row := range faults {
		f.first = append(f.first, len(behaviours))
		for _, h := range row.hosts {
			add(h)
		}
	}
	add(faultyTLS(mailtest.Behaviour{}))
	f.server = newServerCA(t, ca, behaviours...)
	f.dns.MX("sound.strict.example", 10, host(len(behaviours)-1))
	for i, row := range faults {
		z := zone{DNS: f.dns, domain: f.domain(i), nobody: f.ip}
		for j := range row.hosts {
			z.hosts = append(z.hosts, host(f.first[i]+j))
			z.ips = append(z.ips, f.mx[f.first[i]+j].IP())
		}
		if row.zone != nil {
			row.zone(z)
			continue
		}
		for j, name := range z.hosts {
			z.MX(z.domain, uint16(10*(j+1)), name)
		}
	}
	b.policy += "\ndestination *.strict.example {\nrequire_tls yes\n}"
	b.endpoints = twoDoors
	f.config(b)
	f.start()
	return f
}

// domain is the destination of the fault with index i.
func (f *faultServer) domain(i int) string {
	if f.faults[i].strict {
		return fmt.Sprintf("d%d.strict.example", i+1)
	}
	return fmt.Sprintf("d%d.example", i+1)
}

// run tries all faults at once, looks at each, and then shows that the process
// is unharmed.
func (f *faultServer) run() {
	f.Helper()
	heard := make([]error, len(f.faults))
	var all sync.WaitGroup
	for i := range f.faults {
		all.Go(func() { heard[i] = f.send(f.mail(i)) })
	}
	all.Wait()
	t := f.T
	defer func() { f.T = t }()
	for i, row := range f.faults {
		name := row.name
		if row.strict {
			name += ", TLS required"
		}
		t.Run(name, func(t *testing.T) {
			f.T = t
			f.look(i, smtpCode(t, heard[i]))
		})
	}
	f.T = t
	f.unharmed()
}

// mail is the message of the fault with index i.
func (f *faultServer) mail(i int) mail {
	m := f.faults[i].mail
	if m.to == nil {
		m.to = []string{"b@" + f.domain(i)}
	}
	return m
}

// send hands a message to the target and returns what the client hears.
func (f *faultServer) send(m mail) error {
	f.Helper()
	m.anonymous, m.port = true, atTarget
	if m.from == "" {
		m.from = "a@example.com"
	}
	f.sent.Add(int64(len(m.to)))
	return f.submit(m)
}

// deliver is send for a message whose fate is known.
func (f *faultServer) deliver(m mail, code int) {
	f.Helper()
	if got := smtpCode(f.T, f.send(m)); got != code {
		f.Errorf("the client heard %d, want %d\n%s", got, code, f.stderr)
	}
}

// smtpCode is the code of a result, 250 for success.
func smtpCode(t *testing.T, err error) int {
	t.Helper()
	var se *smtp.SMTPError
	switch {
	case err == nil:
		return 250
	case !errors.As(err, &se):
		t.Errorf("no SMTP reply but %v", err)
		return 0
	case se.EnhancedCode[0] > 0 && se.EnhancedCode[0] != se.Code/100:
		t.Errorf("enhanced code %v with code %d", se.EnhancedCode, se.Code)
	}
	return se.Code
}

// look checks all sides of one row; heard is the code that the client got.
func (f *faultServer) look(i, heard int) {
	f.Helper()
	row := f.faults[i]
	code := row.client
	if code == 0 {
		var event, severity string
		if _, err := fmt.Sscan(row.want, &event, &severity, &code); err != nil {
			code = 250
		}
	}
	if heard != code {
		f.Errorf("the client heard %d, want %d", heard, code)
	}
	for _, to := range f.mail(i).to {
		d := f.documentOf(to)
		if d.status() != row.want && d.status() != row.or || fmt.Sprint(d.get("delivery-status.tls-fallback")) != orNil(row.fallback) {
			f.Errorf("document %v\nwant %q, fallback %q", d, row.want, row.fallback)
		}
		if delivered := d["event"] == "delivered"; delivered &&
			(d.get("delivery-status.tls") != (row.tls || row.verified) || d.get("delivery-status.certificate-verified") != row.verified) {
			f.Errorf("document %v\nwant TLS %v, verified %v", d, row.tls || row.verified, row.verified)
		}
	}
	f.arrived(i)
}

func orNil(s string) string {
	if s == "" {
		return "<nil>"
	}
	return s
}

// arrived checks what came out of the wire at the hosts of a row.
func (f *faultServer) arrived(i int) {
	f.Helper()
	row := f.faults[i]
	want, got := 0, 0
	if strings.HasPrefix(row.want, "delivered") {
		want = 1
	}
	for j := range row.hosts {
		mx := f.mx[f.first[i]+j]
		for _, m := range mx.Messages() {
			got++
			if m.TLS != (row.tls || row.verified) {
				f.Errorf("arrived with TLS %v", m.TLS)
			}
			if !bytes.Contains(m.Data, []byte("a secret body")) {
				f.Errorf("arrived: %q", m.Data)
			}
		}
		for _, s := range mx.Sessions() {
			if row.strict && (bytes.Contains(s.ClearBytes, []byte("secret")) || bytes.Contains(s.ClearBytes, []byte("MAIL FROM"))) {
				f.Errorf("crossed the socket in clear: %q", s.ClearBytes)
			}
		}
	}
	if got != want && !(row.replyLost && got == 1) {
		f.Errorf("%d messages arrived, want %d", got, want)
	}
}

// documentOf returns the one document of a recipient that got one message.
func (f *faultServer) documentOf(recipient string) document {
	f.Helper()
	docs := f.documentsOf(recipient)
	if len(docs) != 1 {
		f.Fatalf("%d documents for %s\n%v\n%s", len(docs), recipient, docs, f.stderr)
	}
	return docs[0]
}

// documentsOf returns all documents of a recipient. With the target right behind
// the endpoint they are there when the client has its reply.
func (f *faultServer) documentsOf(recipient string) (docs []document) {
	f.Helper()
	for _, d := range wholeLines(f.T, f.path("deliveries.jsonl")) {
		if d["recipient"] == recipient {
			docs = append(docs, d)
		}
	}
	return docs
}

// wholeLines reads a log that is being written to: a line without its end is
// still on its way.
func wholeLines(t *testing.T, path string) []document {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return documentsIn(t, data, nil)
}

// documentsIn reads whole lines, and holds each against check if there is one.
func documentsIn(t *testing.T, data []byte, check func(*testing.T, string)) (docs []document) {
	t.Helper()
	for line := range bytes.Lines(data) {
		if line[len(line)-1] != '\n' {
			break
		}
		if check != nil {
			check(t, string(line))
		}
		var d document
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		docs = append(docs, d)
	}
	return docs
}

// unharmed shows that the process still delivers, that each recipient got one
// document, and that it ends well.
func (f *faultServer) unharmed() {
	f.Helper()
	f.deliver(mail{to: []string{"last@sound.strict.example"}}, 250)
	if d := f.documentOf("last@sound.strict.example"); d.status() != "delivered 250" || d.get("delivery-status.certificate-verified") != true {
		f.Errorf("in the end: %v", d)
	}
	if n := len(wholeLines(f.T, f.path("deliveries.jsonl"))); n != int(f.sent.Load()) {
		f.Errorf("%d documents for %d recipients", n, f.sent.Load())
	}
	f.stop()
}
