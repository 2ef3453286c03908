package httpapi

import (
	"strings"
	"testing"

	_ "github.com/foxcpp/maddy" // its tables and targets
	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/api"
)

// needed are the directives that a block must have, on one line each.
const needed = "deliver_to dummy\nkeys static {\nentry a b\n}\n"

// load reads a block with the given lines.
func load(t *testing.T, lines string, addresses ...string) (*settings, error) {
	t.Helper()
	nodes, err := parser.Read(strings.NewReader("http_api {\n"+lines+"\n}"), "maddy.conf")
	if err != nil {
		t.Fatal(err)
	}
	globals := map[string]interface{}{"state_dir": t.TempDir(), "hostname": "relay.bücher.example"}
	return parse(config.NewMap(globals, nodes[0]), addresses)
}

const local = "tcp://127.0.0.1:8025"

func TestDefaults(t *testing.T) {
	t.Parallel()
	s, err := load(t, needed, local, "unix:///run/api.sock", "tcp://[::1]:8025", "tcp://localhost:8025")
	if err != nil {
		t.Fatal(err)
	}
	if s.hostname != "relay.xn--bcher-kva.example" || s.maxMessage != api.DefaultMaxMessage || s.rate != api.DefaultRate ||
		s.requests != api.DefaultMaxRequests || !s.ui || s.store != nil || s.policy == nil || len(s.listen) != 4 {
		t.Errorf("got %+v", s)
	}
	s, err = load(t, needed+"hostname a.example\nsending_domains a.example *.b.example\npublic_url https://api.example.org/x\n"+
		"max_message_size 1M\nmax_requests 7\nrate_limit 3\ninsecure_auth\nui off\ndebug yes\ntls off", "tcp://0.0.0.0:80")
	if err != nil {
		t.Fatal(err)
	}
	if s.hostname != "a.example" || len(s.sending) != 2 || s.publicURL != "https://api.example.org/x" || s.maxMessage != 1<<20 ||
		s.requests != 7 || s.rate != 3 || !s.insecure || s.ui || !s.debug {
		t.Errorf("got %+v", s)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const every = "policy, deliver_to, keys, store, tls, hostname, sending_domains, public_url, max_message_size, max_requests, rate_limit, ui, insecure_auth, debug"
	for _, tt := range []struct{ lines, address, want string }{
		{"", "", `1: http_api: missing directive deliver_to`},
		{"deliver_to dummy", "", `1: http_api: missing directive keys`},
		{"deliverto dummy", "", `2: unexpected directive "deliverto" in http_api, expected one of ` + every},
		{"deliver_to dummy\ndeliver_to dummy", "", `3: deliver_to is already set at maddy.conf:2`},
		{"deliver_to", "", `2: deliver_to: expected &name or a target`},
		{"deliver_to &nobody", "", `2: deliver_to: there is no block named "nobody"`},
		{"deliver_to nothing", "", `2: deliver_to: unknown module: nothing (namespace: target)`},
		{"keys", "", `2: keys: expected &name or a table`},
		{"keys &nobody", "", `2: keys: there is no block named "nobody"`},
		{"policy outbound", "", `2: policy: unexpected "outbound", expected &name or a block`},
		{"policy {\nrequire_tls maybe\n}", "", `3: require_tls: unexpected "maybe", expected yes or no`},
		{"store &nobody", "", `2: store: there is no block named "nobody"`},
		{"hostname", "", `2: hostname: expected a domain name`},
		{"hostname \"a\r\nX: y\"", "", `2: hostname: unexpected "a\r\nX: y", expected a domain name`},
		{"sending_domains", "", `2: sending_domains: expected domains, or *.domain for all below one`},
		{"sending_domains a.example x@b.example", "", `2: sending_domains: bad domain "x@b.example": character '@' not allowed, ` +
			`expected a domain, or *.domain for all below it`},
		{"public_url api.example.org", "", `2: public_url: unexpected "api.example.org", expected a URL like https://api.example.org`},
		{"public_url https://a/?x", "", `2: public_url: unexpected "https://a/?x", expected a URL like https://api.example.org`},
		{"max_message_size 1K", "", `2: max_message_size: unexpected "1K", expected a size from 4K to 100M`},
		{"max_message_size 1G", "", `2: max_message_size: unexpected "1G", expected a size from 4K to 100M`},
		{"max_message_size big", "", `2: max_message_size: unexpected "big", expected a size from 4K to 100M`},
		{"max_requests 0", "", `2: max_requests: unexpected "0", expected a number from 1 to 10000`},
		{"rate_limit 1 2", "", `2: rate_limit: unexpected "2" after "1", expected a number from 1 to 1000000`},
		{"rate_limit {\n}", "", `2: rate_limit: unexpected block, expected a number from 1 to 1000000`},
		{"ui maybe", "", `2: ui: unexpected "maybe", expected yes or no`},
		{"insecure_auth maybe", "", `2: insecure_auth: unexpected "maybe", expected yes or no`},
		{needed, "", `1: http_api: no address to listen on, expected some like tls://0.0.0.0:8443`},
		{needed, "0.0.0.0:8443", `1: http_api: unexpected "0.0.0.0:8443", expected an address like tls://0.0.0.0:8443, tcp://127.0.0.1:8025 or unix:///run/api.sock`},
		{needed, "tls://0.0.0.0:8443", `1: http_api: tls://0.0.0.0:8443 needs a certificate, but tls is off or missing`},
		{needed + "tls off", "tls://0.0.0.0:8443", `1: http_api: tls://0.0.0.0:8443 needs a certificate, but tls is off or missing`},
		{needed, "tcp://0.0.0.0:80", `1: http_api: tcp://0.0.0.0:80 would take keys in clear from the network, expected tls://, ` +
			`or tcp:// with an address of this machine, or insecure_auth yes`},
	} {
		var addresses []string
		if tt.address != "" {
			addresses = []string{tt.address}
		}
		if _, err := load(t, tt.lines, addresses...); err == nil || err.Error() != "maddy.conf:"+tt.want {
			t.Errorf("%s\n got %v\nwant maddy.conf:%s", tt.lines, err, tt.want)
		}
	}
}
