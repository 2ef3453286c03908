package route

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseServers(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:53", "127.0.0.1:5353": "127.0.0.1:5353", "::1": "[::1]:53",
		"[::1]": "[::1]:53", "[::1]:5353": "[::1]:5353", "fe80::1%eth0": "[fe80::1%eth0]:53",
	} {
		if got, err := ParseServers([]string{arg}); err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, %v", arg, got, err)
		}
	}
	for _, arg := range []string{
		"", "localhost", "localhost:53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:dns", "127.0.0.1:70000",
		"127.0.0", "[::1", "::1]", "[127.0.0.1]:", "ns.example.net", "127.0.0.1 ::1",
	} {
		_, err := ParseServers([]string{"127.0.0.1", arg})
		if err == nil {
			t.Errorf("%q is accepted", arg)
			continue
		}
		if !strings.Contains(err.Error(), `"`+arg+`"`) || !strings.Contains(err.Error(), "expected an IP address") {
			t.Errorf("%q: %v", arg, err)
		}
	}
	if _, err := ParseServers(nil); err == nil {
		t.Error("no servers at all are accepted")
	}
}

func TestSystemServers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"nameserver 192.0.2.1\nnameserver 2001:db8::1\n": {"192.0.2.1:53", "[2001:db8::1]:53"},
		"search example.net\n":                           {"127.0.0.1:53"},
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := serversFrom(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := serversFrom(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is accepted")
	}
}
