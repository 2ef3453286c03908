package remotetls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsplan"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, nil, quiet)
	got := []any{
		c.Module, c.Hostname, c.Wire.Hostname, c.Port, c.IPv4Only, c.MinTLS, c.RelaxedREQUIRETLS, c.ReuseLimit,
		c.Pool.PerHost, c.Pool.IdleTime, c.ConnectTimeout, c.Wire.NoChunking, c.Limits, len(c.Observers),
	}
	// The ones of target.remote, but for connections: more messages over each,
	// more of them kept, and less time lost on dead hosts.
	want := []any{
		"outbound", "relay.example.com", "relay.example.com", 25, false, tlsplan.Level(""), true, 1000,
		20, 150 * time.Second, 30 * time.Second, false, delivery.Limits(nil), 2,
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: got %v, want %v", i, got[i], want[i])
		}
	}
	// Where nothing is said, smtpwire has the time-outs of RFC 5321.
	if w := c.Wire.Timeouts; w.Greeting != 0 || w.Command != 0 || w.Body != 0 || w.Final != 0 {
		t.Errorf("time-outs %+v", w)
	}
	if c.Places.PerHost != 20 || c.Breakers.Failures != 3 || c.Breakers.First != 30*time.Second || c.Breakers.Max != 10*time.Minute {
		t.Errorf("places %+v, breakers %+v", c.Places, c.Breakers)
	}
	if c.TLS == nil || c.TLS.RootCAs != nil || c.TLS.MinVersion != 0 {
		t.Errorf("TLS %+v", c.TLS)
	}
	if names := strings.Join(c.Fields.Names(), " "); !strings.Contains(names, "X-Require-TLS") {
		t.Errorf("fields %s", names)
	}
}

// Each directive, and where its value lands.
func TestValues(t *testing.T) {
	t.Parallel()
	tests := []struct {
		line string
		got  func(*delivery.Config) any
		want any
	}{
		{"hostname MX.Example.org", func(c *delivery.Config) any { return c.Wire.Hostname }, "MX.Example.org"},
		{"hostname bücher.example", func(c *delivery.Config) any { return c.Hostname }, "xn--bcher-kva.example"},
		{"hostname [192.0.2.1]", func(c *delivery.Config) any { return c.Hostname }, "[192.0.2.1]"},
		{"force_ipv4", func(c *delivery.Config) any { return c.IPv4Only }, true},
		{"force_ipv4 no", func(c *delivery.Config) any { return c.IPv4Only }, false},
		{"force_ipv4 YES", func(c *delivery.Config) any { return c.IPv4Only }, true},
		{"port 2525", func(c *delivery.Config) any { return c.Port }, 2525},
		{"tls_client {\nprotocols tls1.2 tls1.3\n}", func(c *delivery.Config) any { return [2]uint16{c.TLS.MinVersion, c.TLS.MaxVersion} }, [2]uint16{tls.VersionTLS12, tls.VersionTLS13}},
		{"tls_client {\nprotocols tls1.3\ncurves X25519\nciphers ECDHE-RSA-WITH-AES128-GCM-SHA256\n}", func(c *delivery.Config) any { return c.TLS.CurvePreferences[0] }, tls.X25519},
		{"policy {\nrequire_tls_header X-Acme\n}", func(c *delivery.Config) any { return c.Fields.RequireTLS[0] }, "X-Acme"},
		{"mx_auth {\n}", func(c *delivery.Config) any { return c.MinTLS }, tlsplan.Level("")},
		{"mx_auth {\nlocal_policy\n}", func(c *delivery.Config) any { return c.MinTLS }, tlsplan.LevelEncrypted},
		{"mx_auth {\nlocal_policy off\n}", func(c *delivery.Config) any { return c.MinTLS }, tlsplan.LevelNone},
		{"mx_auth {\ndebug\nlocal_policy {\nmin_tls_level none\nmin_mx_level none\n}\n}", func(c *delivery.Config) any { return c.MinTLS }, tlsplan.LevelNone},
		{"mx_auth {\nlocal_policy {\nmin_tls_level authenticated\n}\n}", func(c *delivery.Config) any { return c.MinTLS }, tlsplan.LevelAuthenticated},
		{"mx_auth {\nlocal_policy {\nmin_mx_level dnssec\n}\n}", func(c *delivery.Config) any { return c.MinMX }, tlsplan.MXByDNSSEC},
		{"resolver 127.0.0.1\nmx_auth {\ndane\n}", func(c *delivery.Config) any { return c.DANE }, true},
		{"resolver 127.0.0.1\nmx_auth {\nlocal_policy\n}", func(c *delivery.Config) any { return c.DANE }, false},
		{"port 25", func(c *delivery.Config) any { return c.TLSRequiredOverride }, true},
		{"requiretls_override no", func(c *delivery.Config) any { return c.TLSRequiredOverride }, false},
		{"relaxed_requiretls no", func(c *delivery.Config) any { return c.RelaxedREQUIRETLS }, false},
		{"conn_reuse_limit 0", func(c *delivery.Config) any { return c.ReuseLimit }, 0},
		{"conn_reuse_limit 500", func(c *delivery.Config) any { return c.ReuseLimit }, 500},
		{"conn_max_idle_count 7", func(c *delivery.Config) any { return c.Pool.PerHost }, 7},
		{"conn_max_idle_time 60", func(c *delivery.Config) any { return c.Pool.IdleTime }, time.Minute},
		{"conn_max_idle_time 2m30s", func(c *delivery.Config) any { return c.Pool.IdleTime }, 150 * time.Second},
		{"conn_max_idle_time 0", func(c *delivery.Config) any { return c.Pool.IdleTime }, time.Duration(0)},
		{"connect_timeout 30s", func(c *delivery.Config) any { return [2]time.Duration{c.ConnectTimeout, c.Wire.Timeouts.Greeting} }, [2]time.Duration{30 * time.Second, 30 * time.Second}},
		{"connect_timeout 1m 30s", func(c *delivery.Config) any { return c.ConnectTimeout }, 90 * time.Second},
		{"command_timeout 3m", func(c *delivery.Config) any { return c.Wire.Timeouts.Command }, 3 * time.Minute},
		{"submission_timeout 10m", func(c *delivery.Config) any { return [2]time.Duration{c.Wire.Timeouts.Body, c.Wire.Timeouts.Final} }, [2]time.Duration{10 * time.Minute, 10 * time.Minute}},
		{"chunking no", func(c *delivery.Config) any { return c.Wire.NoChunking }, true},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			if got := test.got(mustLoad(t, nil, quiet+test.line)); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Global directives stand for those that the block does not have.
func TestGlobals(t *testing.T) {
	t.Parallel()
	globalTLS := &tls.Config{MinVersion: tls.VersionTLS13}
	globals := map[string]interface{}{"hostname": "global.example.com", "tls_client": globalTLS, "debug": true}
	c := mustLoad(t, globals, quiet)
	if c.Hostname != "global.example.com" || c.TLS != globalTLS || !c.Log.Enabled(context.Background(), -4) {
		t.Errorf("%s, %v", c.Hostname, c.TLS)
	}
	c = mustLoad(t, globals, quiet+"hostname own.example.com\ntls_client {\n}\ndebug off")
	if c.Hostname != "own.example.com" || c.TLS == globalTLS || c.Log.Enabled(context.Background(), -4) {
		t.Errorf("%s, %v", c.Hostname, c.TLS)
	}
}

// The address that connections come from.
func TestLocalIP(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := mustLoad(t, nil, quiet+"local_ip 127.0.0.2")
	conn, err := c.Dial(context.Background(), "tcp", listener.Addr().String())
	if err != nil {
		t.Skipf("NOT TESTED: this system has no 127.0.0.2: %v", err)
	}
	defer conn.Close()
	if host, _, _ := net.SplitHostPort(conn.LocalAddr().String()); host != "127.0.0.2" {
		t.Errorf("connected from %s", host)
	}
	for _, ip := range []string{"192.0.2.1", "2001:db8::1", "[2001:db8::1]", "::ffff:192.0.2.1"} {
		mustLoad(t, nil, quiet+"local_ip "+ip)
	}
}

// Roots and the client certificate come out of their files.
func TestTLSClientFiles(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := ca.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, nil, quiet+"tls_client {\nroot_ca "+file+"\n}")
	if c.TLS.RootCAs == nil || !c.TLS.RootCAs.Equal(ca.Pool()) {
		t.Error("root_ca is not what verifies")
	}
}

// A block with everything that target.remote's may hold loads, except what is
// not supported yet.
func TestEveryDirectiveOfTargetRemote(t *testing.T) {
	t.Parallel()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := ca.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	cfg := mustLoad(t, map[string]interface{}{}, quiet+`
		hostname mx.example.org
		local_ip 127.0.0.1
		force_ipv4 yes
		debug no
		tls_client {
			root_ca `+file+`
			protocols tls1.2 tls1.3
			ciphers ECDHE-RSA-WITH-AES128-GCM-SHA256 ECDHE-ECDSA-WITH-CHACHA20-POLY1305
			curves X25519 p256
		}
		mx_auth {
			debug no
			local_policy {
				min_tls_level encrypted
				min_mx_level none
			}
		}
		limits {
			all rate 20 1s
			all concurrency 100
			ip concurrency 10
			source rate 5
			destination concurrency 3
		}
		requiretls_override no
		relaxed_requiretls no
		conn_reuse_limit 20
		conn_max_idle_count 10
		conn_max_idle_time 100
		connect_timeout 5m
		command_timeout 5m
		submission_timeout 12m`)
	if cfg.Limits == nil || cfg.MinTLS != tlsplan.LevelEncrypted || !cfg.IPv4Only {
		t.Errorf("%+v", cfg)
	}
}

// maddy makes the limits for destinations out of those for sources, and panics
// over a source that has to wait; neither reaches us.
func TestLimits(t *testing.T) {
	t.Parallel()
	l := mustLoad(t, nil, quiet+"limits {\nsource concurrency 1\ndestination concurrency 2\n}").Limits
	ctx := context.Background()
	// A short wait is all that is left of a deadline that has passed.
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	ip := net.IPv4(192, 0, 2, 1)
	for _, take := range []error{
		l.TakeMsg(ctx, ip, "example.com"), l.TakeMsg(ctx, ip, "example.org"),
		l.TakeDest(ctx, "example.net"), l.TakeDest(ctx, "example.net"), l.TakeDest(ctx, "example.edu"),
	} {
		if take != nil {
			t.Fatal(take)
		}
	}
	if err := l.TakeMsg(late, ip, "example.com"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second message of a source: %v", err)
	}
	if err := l.TakeDest(late, "example.net"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third one to a destination: %v", err)
	}
	l.ReleaseMsg(ip, "example.com")
	l.ReleaseDest("example.net")
	if err := l.TakeMsg(ctx, ip, "example.com"); err != nil {
		t.Error(err)
	}
	if err := l.TakeDest(ctx, "example.net"); err != nil {
		t.Error(err)
	}
}

// Not parallel: maddy's registry of instances is not made for it.
func TestNamedLimits(t *testing.T) {
	node := nodes(t, "limits shared_limits {\nall concurrency 1\n}")[0]
	mod, err := module.Get("limits")("limits", "shared_limits", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	module.RegisterInstance(mod, config.NewMap(nil, node))
	t.Cleanup(func() { delete(module.Initialized, "shared_limits") })
	if mustLoad(t, nil, quiet+"limits &shared_limits").Limits == nil {
		t.Error("no limits")
	}
}

func TestInlineArguments(t *testing.T) {
	t.Parallel()
	mod, err := New("target.remote_tls", "", nil, []string{"outbound"})
	if err != nil {
		t.Fatal(err)
	}
	err = mod.Init(config.NewMap(nil, nodes(t, "deliver_to remote_tls outbound {\n}")[0]))
	if want := `maddy.conf:1: remote_tls: unexpected "outbound", expected a block`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestModule(t *testing.T) {
	t.Parallel()
	if module.Get("target.remote_tls") == nil {
		t.Fatal("not registered")
	}
	mod, err := New("target.remote_tls", "outbound", []string{"alias"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	target := mod.(*Target)
	if target.Name() != "target.remote_tls" || target.InstanceName() != "outbound" {
		t.Errorf("%s %s", target.Name(), target.InstanceName())
	}
	if err := target.Close(); err != nil { // before Init, as maddy does if that fails
		t.Error(err)
	}
}

// Whatever a block holds, the answer is a configuration or an error.
func FuzzConfig(f *testing.F) {
	for _, m := range mistakes("/missing", "/dev/null") {
		f.Add(m.lines)
	}
	f.Add(quiet + "hostname a.example\nport 25\nlimits {\nall rate 5 1s\n}\nmx_auth {\nlocal_policy {\nmin_tls_level none\n}\n}")
	f.Add("tlsrpt {\nfrom a@b.example\norg \"B\"\ncontact mailto:c@b.example\nmail no\nallow_private yes\n}")
	f.Add("tlsrpt {\nfrom a@b.example\ndeliver_to &queue\nhttps no\ndir x\n}")
	f.Fuzz(func(t *testing.T, lines string) {
		// A file that is opened, created or listened to is no business of a
		// fuzzer: only what reads words is under test.
		for _, word := range []string{"file", "root_ca", "cert", "key", "syslog", "import", "{env:", "state_dir", "domains"} {
			if strings.Contains(lines, word) {
				return
			}
		}
		blocks, err := parser.Read(strings.NewReader("target.remote_tls outbound {\n"+lines+"\n}"), "maddy.conf")
		if err != nil || len(blocks) == 0 {
			return
		}
		block := blocks[0]
		block.Children = append(block.Children, nodes(t, quiet)...)
		cfg, _, err := parse(config.NewMap(map[string]interface{}{"hostname": "a.example"}, block), "fuzz", &log.Logger{Out: log.NopOutput{}})
		if (cfg == nil) == (err == nil) {
			t.Errorf("configuration %v, error %v", cfg, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "maddy.conf:") {
			t.Errorf("no place: %v", err)
		}
	})
}

// unreadable makes a file that cannot be used as a certificate.
func unreadable(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "not.pem")
	if err := os.WriteFile(path, []byte("no certificate\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
