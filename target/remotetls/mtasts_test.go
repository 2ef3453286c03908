package remotetls

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
)

// TestPoliciesAreShared: targets that say the same share a cache, which ends with
// the last of them; others have their own.
func TestPoliciesAreShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(more string) *policyUser {
		cfg := mustLoad(t, nil, quiet+"resolver 127.0.0.1\nmx_auth {\nmtasts {\n"+more+"\n}\n}")
		cfg.Routes.Close()
		t.Cleanup(cfg.STS.Close)
		return cfg.STS.(*policyUser)
	}
	first, second, other := open("fs_dir "+dir), open("cache fs\nfs_dir "+dir), open("fs_dir "+dir+"\nport 8443")
	if first.policyCache != second.policyCache || first.policyCache == other.policyCache {
		t.Error("the wrong ones are shared")
	}
	first.Close()
	first.Close()
	if third := open("fs_dir " + dir); third.policyCache != second.policyCache {
		t.Error("one that is in use was closed")
	} else {
		third.Close()
	}
	second.Close()
	if again := open("fs_dir " + dir); again.policyCache == second.policyCache {
		t.Error("one that was closed is used again")
	}
	if cfg := mustLoad(t, nil, quiet+"resolver 127.0.0.1\nmx_auth {\ndane\n}"); cfg.STS != delivery.STS(nil) {
		t.Errorf("without mtasts there is %v", cfg.STS)
	}
}

// TestMTASTSFromTheBlock: what the block says reaches the policy host: roots,
// port, and that its address may be on loopback.
func TestMTASTSFromTheBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	host, err := mailtest.NewSTS(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := w.ca.WriteFile(roots); err != nil {
		t.Fatal(err)
	}
	w.dns.TXT("_mta-sts.example.net", "v=STSv1; id=1;")
	w.dns.A("mta-sts.example.net", host.IP())
	host.Serve("example.net", mailtest.STSPage{Body: "version: STSv1\nmode: enforce\nmx: mx1.test\nmax_age: 86400\n"})
	for lines, want := range map[string]string{
		"root_ca " + roots + "\nallow_private":    "",
		"root_ca " + roots + "\nallow_private no": "sts-policy-fetch-error",
		"allow_private yes":                       "sts-webpki-invalid",
	} {
		block := nodes(t, fmt.Sprintf("mx_auth {\nmtasts {\ncache ram\nport %d\n%s\n}\n}", host.Port(), lines))[0]
		a, err := mxAuthDirective(config.NewMap(nil, config.Node{}), block)
		if err != nil {
			t.Fatal(err)
		}
		policies, err := openPolicies(a.(mxAuth).mtasts, []string{w.dns.Addr()}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(policies.Close)
		got := policies.Lookup(w.context(), "example.net")
		if (got.Policy != nil) != (want == "") || want != "" && !strings.Contains(got.Err.Error(), want) {
			t.Errorf("%q: %+v, want %q", lines, got, want)
		}
	}
}
