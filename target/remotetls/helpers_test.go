package remotetls

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/foxcpp/maddy" // registers the `limits` block
	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
)

// hang ends a test that would hang; nothing asserts how long things take.
const hang = 60 * time.Second

// nodes reads a configuration text, called maddy.conf, as maddy does.
func nodes(t testing.TB, text string) []config.Node {
	t.Helper()
	n, err := parser.Read(strings.NewReader(text), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// quiet is what tests add to a block that says nothing about these.
const quiet = "delivery_log {\noutput off\n}\n"

// load parses lines as the lines of a block, the first of them being line 2.
func load(t testing.TB, globals map[string]interface{}, lines string) (*delivery.Config, error) {
	t.Helper()
	if globals == nil {
		globals = map[string]interface{}{"hostname": "relay.example.com"}
	}
	block := nodes(t, "target.remote_tls outbound {\n"+lines+"\n}\n")[0]
	cfg, _, err := parse(config.NewMap(globals, block), "outbound", &log.Logger{Name: name})
	return cfg, err
}

// mustLoad is load for lines without mistakes.
func mustLoad(t testing.TB, globals map[string]interface{}, lines string) *delivery.Config {
	t.Helper()
	cfg, err := load(t, globals, lines)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// world is a target and what it talks to: example.net is served by one MX host.
type world struct {
	*testing.T
	*Target
	ca  *mailtest.CA
	dns *mailtest.DNS
	mx  *mailtest.MX
	log *logBook
	dir string // maddy's state directory
}

// newWorld starts a target whose block also has the given lines.
func newWorld(t *testing.T, b mailtest.Behaviour, lines string) *world {
	t.Helper()
	w := &world{T: t, log: &logBook{}, dir: t.TempDir()}
	var err error
	if w.ca, err = mailtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	if w.dns, err = mailtest.NewDNS(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.dns.Close() })
	if w.mx, err = mailtest.NewMX("127.0.0.1:0", b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.mx.Close() })
	w.dns.MX("example.net", 10, "mx1.test")
	w.dns.A("mx1.test", w.mx.IP())
	ca := t.TempDir() + "/ca.pem"
	if err := w.ca.WriteFile(ca); err != nil {
		t.Fatal(err)
	}
	mod, err := New("target.remote_tls", "outbound", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Target = mod.(*Target)
	w.Target.log.Out = w.log
	text := fmt.Sprintf("target.remote_tls outbound {\nhostname relay.example.com\nresolver %s\nport %d\n"+
		"tls_client {\nroot_ca %s\n}\n%s%s\n}", w.dns.Addr(), w.mx.Port(), ca, quiet, lines)
	if err := w.Init(config.NewMap(map[string]interface{}{"state_dir": w.dir}, nodes(t, text)[0])); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// context lasts as long as a test may.
func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	w.Cleanup(cancel)
	return ctx
}

// logBook keeps what is logged.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Write(_ time.Time, debug bool, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if debug {
		line = "[debug] " + line
	}
	l.lines = append(l.lines, line)
}

func (l *logBook) Close() error { return nil }

func (l *logBook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

var _ log.Output = (*logBook)(nil)
