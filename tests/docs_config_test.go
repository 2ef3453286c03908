package tests

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	parser "github.com/foxcpp/maddy/framework/cfgparser"

	"tlscontrol/internal/mailtest"
)

// TestDocumentedConfigurations: every configuration in the documentation, and
// maddy.conf.example, is one that maddy starts with.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		all, _ := fences(t, page, readPage(t, page))
		n := 0
		for _, f := range all {
			if f.language != "maddyconf" {
				continue
			}
			n++
			t.Run(fmt.Sprintf("%s:%d", page, f.line), func(t *testing.T) {
				t.Parallel()
				startDocumented(t, f.text)
			})
		}
		if n == 0 && filepath.Base(page) == "README.md" {
			t.Errorf("%s has no example", page)
		}
	}
	example := readPage(t, "maddy.conf.example")
	t.Run("maddy.conf.example", func(t *testing.T) {
		t.Parallel()
		startDocumented(t, example)
	})
	t.Run("maddy.conf.example, with what it suggests", func(t *testing.T) {
		t.Parallel()
		text := uncommented(example)
		if text == example {
			t.Fatal("nothing is commented out")
		}
		startDocumented(t, text)
	})
}

// suggestion matches a directive that is commented out.
var suggestion = regexp.MustCompile(`^ +# (domain|destination|domains|resolver|limits) .*$|^ *# event_store .*$|^# (table|msgpipeline|http_api)\b.* \{$`)

// uncommented takes the comment marks off the directives of an example, with
// their blocks.
func uncommented(text string) string {
	lines := strings.Split(text, "\n")
	depth := 0
	for i, line := range lines {
		if depth == 0 && !suggestion.MatchString(line) {
			continue
		}
		lines[i] = strings.Replace(line, "# ", "", 1)
		switch {
		case strings.HasSuffix(line, "{"):
			depth++
		case strings.HasSuffix(line, "}"):
			depth--
		}
	}
	return strings.Join(lines, "\n")
}

// startDocumented starts maddy with an example, and ends it. Exactly this is
// changed for it:
//
//   - /etc/maddy and /var/log/maddy become directories of the test. Certificates
//     and keys that are named in the first are made, other files in it are empty.
//   - Databases are away: their host is a directory without a socket.
//   - Endpoints listen on an address of the test, on their port plus 2000.
//   - Global directives that every configuration needs are added if missing.
//   - Blocks that are referred to and not shown are added: see standIns.
//   - Blocks that nobody uses get a user, because maddy refuses them otherwise.
func startDocumented(t *testing.T, text string) {
	t.Helper()
	s := newServer(t)
	text = strings.NewReplacer("/etc/maddy/", s.path("etc")+"/", "/var/log/maddy/", s.path("log")+"/", "host=db.example.org", "host="+s.path("run")).Replace(text)
	text = comment.ReplaceAllString(text, "")
	var addresses []string
	text = endpointAddress.ReplaceAllStringFunc(text, func(a string) string {
		m := endpointAddress.FindStringSubmatch(a)
		port, _ := strconv.Atoi(m[3])
		address := net.JoinHostPort(s.ip, strconv.Itoa(port+2000))
		addresses = append(addresses, address)
		return m[1] + "://" + address
	})
	c := s.read(text)
	c.complete()
	s.makeFiles(c.words)
	s.configText(text + strings.Join(c.added, "\n") + "\n")
	s.startReady()
	for _, a := range addresses {
		conn, err := net.Dial("tcp", a)
		if err != nil {
			t.Errorf("%v\n%s", err, s.conf)
			continue
		}
		conn.Close()
	}
	// Not a polite stop: the process says that it is ready before it listens to
	// signals.
	s.kill()
	if c := complaints(s.stderr.String()); c != "" {
		t.Errorf("maddy said:\n%s", c)
	}
}

// comment matches a line that says nothing to maddy.
var comment = regexp.MustCompile(`(?m)^ *#.*$`)

// endpointAddress matches what an endpoint listens on.
var endpointAddress = regexp.MustCompile(`\b(tcp|tls)://([0-9.]+):([0-9]+)`)

// standIns are for blocks that an example refers to and does not show.
var standIns = map[string]string{
	"outbound_policy": "tls_policy outbound_policy {\n}",
	"deliveries":      "delivery_log deliveries {\noutput off\n}",
	"events":          "event_store events {\n}",
	"outbound":        "target.remote_tls outbound {\n}",
	"remote_queue":    "target.queue remote_queue {\ntarget dummy\n}",
	"local_authdb":    "auth.pass_table local_authdb {\ntable static {\nentry a@example.com \"bcrypt:x\"\n}\n}",
}

// documented is an example as the parser sees it.
type documented struct {
	*server
	words   []string          // all arguments
	globals map[string]bool   // names of directives at the top
	kinds   map[string]string // module by name of block
	refs    map[string]bool   // names that somebody refers to
	added   []string
}

func (s *server) read(text string) *documented {
	s.Helper()
	c := &documented{server: s, globals: make(map[string]bool), kinds: make(map[string]string), refs: make(map[string]bool)}
	c.learn(text)
	return c
}

// learn takes in more configuration.
func (c *documented) learn(text string) {
	c.Helper()
	nodes, err := parser.Read(strings.NewReader(text), "example")
	if err != nil {
		c.Fatalf("%v\n%s", err, text)
	}
	for _, n := range nodes {
		c.globals[n.Name] = true
		if n.Children != nil && len(n.Args) > 0 && !endpointAddress.MatchString(n.Args[0]) {
			c.kinds[n.Args[0]] = n.Name
		}
	}
	var walk func([]parser.Node)
	walk = func(nodes []parser.Node) {
		for _, n := range nodes {
			c.words = append(c.words, n.Args...)
			for _, arg := range n.Args {
				if name, ok := strings.CutPrefix(arg, "&"); ok {
					c.refs[name] = true
				}
			}
			walk(n.Children)
		}
	}
	walk(nodes)
}

func (c *documented) add(format string, args ...any) {
	c.Helper()
	text := fmt.Sprintf(format, args...)
	c.added = append(c.added, text)
	c.learn(text)
}

// complete adds what the example lacks.
func (c *documented) complete() {
	c.Helper()
	for _, g := range [][2]string{
		{"state_dir", c.path("state")}, {"runtime_dir", c.path("run")},
		{"hostname", "relay.example.com"}, {"autogenerated_msg_domain", "relay.example.com"},
		{"tls", "file " + c.path("etc/fullchain.pem") + " " + c.path("etc/privkey.pem")},
	} {
		if !c.globals[g[0]] {
			c.add("%s %s", g[0], g[1])
		}
	}
	for _, name := range []string{"remote_queue", "outbound", "outbound_policy", "deliveries", "events", "local_authdb"} {
		if c.refs[name] && c.kinds[name] == "" {
			c.add("%s", standIns[name])
		}
	}
	var targets, checks []string
	for _, name := range c.unused() {
		switch kind := c.kinds[name]; {
		case kind == "tls_policy":
			c.add("target.remote_tls user_of_%s {\npolicy &%s\n}", name, name)
		case kind == "delivery_log":
			c.add("target.remote_tls user_of_%s {\ndelivery_log &%s\n}", name, name)
		case kind == "event_store":
			c.add("target.remote_tls user_of_%s {\nevent_store &%s\n}", name, name)
		}
	}
	for _, name := range c.unused() {
		switch kind := c.kinds[name]; {
		case strings.HasPrefix(kind, "target."):
			targets = append(targets, fmt.Sprintf("destination %s {\ndeliver_to &%s\n}", strings.ReplaceAll(name, "_", "-")+".test", name))
		case kind == "checks":
			checks = append(checks, "check &"+name)
		default:
			c.Fatalf("nobody uses %s %s, and the test does not know who could", kind, name)
		}
	}
	if len(targets)+len(checks) == 0 && (c.globals["smtp"] || c.globals["submission"]) {
		return
	}
	c.add("smtp tcp://%s:2525 {\ntls off\n%s\ndefault_destination {\nreject\n}\n}", c.ip, strings.Join(append(checks, targets...), "\n"))
}

// unused returns the names of the blocks that nobody refers to.
func (c *documented) unused() (names []string) {
	for name := range c.kinds {
		if !c.refs[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// makeFiles makes the files in the test's etc that are among words, and the
// directory for logs.
func (s *server) makeFiles(words []string) {
	s.Helper()
	if err := os.MkdirAll(s.path("log"), 0o700); err != nil {
		s.Fatal(err)
	}
	cert, err := s.ca.Issue(mailtest.Good, "relay.example.com")
	if err != nil {
		s.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		s.Fatal(err)
	}
	var chain bytes.Buffer
	for _, der := range cert.Certificate {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	for _, path := range words {
		if !strings.HasPrefix(path, s.path("etc")+"/") {
			continue
		}
		var content []byte
		switch filepath.Base(path) {
		case "fullchain.pem":
			content = chain.Bytes()
		case "privkey.pem":
			content = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		case "example.org.key": // for DKIM, which knows no ECDSA
			content = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: s.ed25519Key()})
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

// ed25519Key returns a fresh key as PKCS #8.
func (s *server) ed25519Key() []byte {
	s.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.Fatal(err)
	}
	return der
}

// startReady runs the process and waits until it tells its service manager that
// it is ready: only then is all of its configuration read and found in use.
func (s *server) startReady() {
	s.Helper()
	// Not in the test's own directory: the path of a socket has 107 bytes.
	dir, err := os.MkdirTemp("", "ready-")
	if err != nil {
		s.Fatal(err)
	}
	defer os.RemoveAll(dir)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		s.Fatal(err)
	}
	defer notify.Close()
	s.launchWith("NOTIFY_SOCKET=" + filepath.Join(dir, "s"))
	go func() {
		<-s.exited
		notify.Close()
	}()
	notify.SetReadDeadline(time.Now().Add(hang))
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			s.Fatalf("maddy did not start: %v\n%s\n%s", err, s.stderr, s.conf)
		}
		if bytes.HasPrefix(buf[:n], []byte("READY=1")) {
			return
		}
	}
}

// launchWith is launch with one more variable in the environment.
func (s *server) launchWith(variable string) {
	s.Helper()
	s.stderr = &lockedBuffer{}
	cmd := exec.Command(binary, "--config", s.path("maddy.conf"), "run")
	cmd.Stdout, cmd.Stderr = s.stderr, s.stderr
	cmd.Env = append(os.Environ(), "GORACE=exitcode=0", variable)
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		s.exitErr = cmd.Wait()
		close(exited)
	}()
	s.Cleanup(func() { s.stop() })
}
