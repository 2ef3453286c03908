package remotetls

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/mailtest"
)

// Which addresses may be dialled.
func TestAllowPrivate(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                   "127.0.0.1 10.1.2.3 10.2.2.3 fd00::1 198.41.0.4",
		"allow_private":                      "127.0.0.1 10.1.2.3 10.2.2.3 fd00::1 198.41.0.4",
		"allow_private yes":                  "127.0.0.1 10.1.2.3 10.2.2.3 fd00::1 198.41.0.4",
		"allow_private off":                  "198.41.0.4",
		"allow_private 10.1.0.0/16 fd00::/8": "10.1.2.3 fd00::1 198.41.0.4",
		"allow_private 127.0.0.1":            "127.0.0.1 198.41.0.4",
		"allow_private 0.0.0.0/0 fd00::1 ::1/128": "127.0.0.1 10.1.2.3 10.2.2.3 fd00::1 198.41.0.4",
	} {
		c := mustLoad(t, nil, quiet+line)
		var got []string
		for _, ip := range []string{"127.0.0.1", "10.1.2.3", "10.2.2.3", "fd00::1", "198.41.0.4"} {
			if c.Admits == nil || c.Admits(netip.MustParseAddr(ip)) {
				got = append(got, ip)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// By which names a host is ourselves: on port 25, of the target and of maddy.
func TestOwnNames(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ global, lines, want string }{
		{"relay.example.com", "", "relay.example.com"},
		{"relay.example.com", "port 25", "relay.example.com"},
		{"relay.example.com", "port 10025", ""},
		{"relay.example.com", "port 10025\nloop_check yes", "relay.example.com"},
		{"relay.example.com", "loop_check no", ""},
		{"MX.example.com.", "hostname Out.example.com", "out.example.com mx.example.com"},
		{"mx.example.com", "hostname mx.EXAMPLE.com", "mx.example.com"},
		{"bücher.example", "", "xn--bcher-kva.example"},
		{"localhost", "", ""},
		{"localhost.localdomain", "hostname mail", ""},
		{"mail.localdomain", "hostname printer.local", ""},
		{"[192.0.2.1]", "", ""},
		{"", "hostname relay.example.com", "relay.example.com"},
	} {
		c := mustLoad(t, map[string]interface{}{"hostname": test.global}, quiet+test.lines)
		if got := strings.Join(c.OwnNames, " "); got != test.want {
			t.Errorf("%s, %q: %q, want %q", test.global, test.lines, got, test.want)
		}
	}
	_, err := load(t, map[string]interface{}{"hostname": "mail"}, "loop_check yes")
	const want = `maddy.conf:2: loop_check: unexpected yes, because many servers may have a name such as "mail"`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Who looks at hosts without a configuration may look at his own.
func TestAloneLooksAtItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{Greeting: "220 relay.example.com ESMTP"}, "")
	alone, err := NewAlone(Alone{Hostname: "relay.example.com", Resolvers: []string{w.dns.Addr()}, Port: w.mx.Port()})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	d, err := alone.Explain(w.context(), Question{To: "b@example.net", Probe: true})
	if err != nil || d.ExitCode() != 0 {
		t.Errorf("%+v, %v", d, err)
	}
}

// A local_ip of another machine is told of at start, and refused by nobody: it may
// come later.
func TestLocalIPNotice(t *testing.T) {
	t.Parallel()
	const notice = "local_ip cannot be used at present"
	for lines, want := range map[string]bool{
		"local_ip 192.0.2.1": true, "local_ip 2001:db8::1": true, "local_ip 127.0.0.1": false, "": false,
	} {
		out := &logBook{}
		block := nodes(t, "target.remote_tls outbound {\n"+quiet+lines+"\n}\n")[0]
		globals := map[string]interface{}{"hostname": "relay.example.com"}
		if _, _, err := parse(config.NewMap(globals, block), "outbound", &log.Logger{Out: out, Name: name}); err != nil {
			t.Fatal(err)
		}
		if told := slices.ContainsFunc(out.lines, func(l string) bool { return strings.Contains(l, notice) }); told != want {
			t.Errorf("%q: logged %q", lines, out.lines)
		}
	}
}
