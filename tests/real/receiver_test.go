package real

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"tlscontrol/internal/mailtest"
)

// doors are the MX hosts of a receiver: each is an address of the one server, with
// its own certificate. Mail for good.example goes to good.mx.test, and so on.
var doors = map[string]mailtest.Kind{
	"good":         mailtest.Good,
	"intermediate": mailtest.WithIntermediate,
	"self":         mailtest.SelfSigned,
	"expired":      mailtest.Expired,
	"name":         mailtest.WrongName,
	"clear":        "", // no STARTTLS
	"again":        mailtest.Good,
	"old":          mailtest.Good, // knows TLS 1.2 only
	"idle":         mailtest.Good, // ends sessions that are idle for idleTime
}

// boxes are the mailboxes of each domain; mail for others is refused. Reports go
// to a, and nothing must ever be in evil.
var boxes = []string{"a", "b", "c", "evil", "jörg"}

const (
	// idleTime is long enough for the slowest client and short enough to wait for.
	idleTime = "6s"
	// idn is one more domain behind the good door.
	idn      = "bücher.example"
	idnASCII = "xn--bcher-kva.example"
	// sizeLimit is the SIZE that receivers announce.
	sizeLimit = 8 << 20
)

// receiver is a mail server in the making: names, certificates and addresses
// are ready, the server itself is up to startPostfix or startExim.
type receiver struct {
	*testing.T
	dir  string // owned by root; the mailboxes are in mail/
	ca   *mailtest.CA
	dns  *mailtest.DNS
	port int

	// By door.
	ips   map[string]string
	certs map[string]tls.Certificate

	server  *daemon
	logFile string
	session *regexp.Regexp // finds messages in the log, with what identifies their session
	timeout string         // what the log says when an idle session ends
	xtext   bool           // reports repeat what was in commands, without decoding it
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{T: t, dir: publicDir(t), ips: make(map[string]string), certs: make(map[string]tls.Certificate)}
	var err error
	if r.ca, err = mailtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	if r.dns, err = mailtest.NewDNS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.dns.Close() })
	var ips []string
	ips, r.port = addresses(t, len(doors))
	for i, name := range slices.Sorted(maps.Keys(doors)) {
		host := name + ".mx.test"
		r.ips[name] = ips[i]
		r.dns.A(host, ips[i])
		r.dns.MX(name+".example", 10, host)
		kind := doors[name]
		if kind == "" {
			kind = mailtest.Good // for servers that want a file all the same
		}
		cert, err := r.ca.Issue(kind, host)
		if err != nil {
			t.Fatal(err)
		}
		r.certs[name] = cert
		write(t, r.path(name+".pem"), pemOf(t, cert))
	}
	r.dns.MX(idnASCII, 10, "good.mx.test")
	return r
}

// pemOf is the key and the chain of a certificate in one file.
func pemOf(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return string(b)
}

// path is a file in the receiver's directory.
func (r *receiver) path(name string) string { return filepath.Join(r.dir, name) }

// serve starts the server and waits until all doors are open.
func (r *receiver) serve(name string, cmd *exec.Cmd) {
	r.Helper()
	r.server = start(r.T, name, cmd)
	r.Cleanup(func() {
		if r.Failed() {
			r.Logf("%s logged:\n%s", name, r.log())
		}
	})
	for _, ip := range r.ips {
		r.server.accepts(fmt.Sprintf("%s:%d", ip, r.port))
	}
}

// in is the receiver as a subtest has it.
func (r *receiver) in(t *testing.T) *receiver {
	sub := *r
	sub.T = t
	return &sub
}

// log is what the server logged so far.
func (r *receiver) log() string {
	text, _ := os.ReadFile(r.logFile)
	return string(text)
}

// domains are all that the receiver takes mail for.
func (r *receiver) domains() []string {
	all := []string{idn, idnASCII}
	for name := range r.ips {
		all = append(all, name+".example")
	}
	slices.Sort(all)
	return all
}

// filed is a message in a mailbox.
type filed struct {
	header, body []byte // with CRLF; the header without the empty line
}

// mailbox returns what is in a mailbox, by the name of the file.
func (r *receiver) mailbox(box string) map[string]filed {
	r.Helper()
	files, err := filepath.Glob(r.path("mail/" + box + "/new/*"))
	if err != nil {
		r.Fatal(err)
	}
	found := make(map[string]filed)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			r.Fatal(err)
		}
		// A maildir has the line ends of the system.
		header, body, ok := bytes.Cut(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), []byte("\r\n\r\n"))
		if !ok {
			r.Fatalf("%s has no end of the header:\n%s", file, text)
		}
		found[file] = filed{header, body}
	}
	return found
}
