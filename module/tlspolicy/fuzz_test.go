package tlspolicy

import (
	"strings"
	"testing"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/policy"
)

// Whatever a block holds, the answer is a policy that can be asked, or an error
// that says where.
func FuzzConfig(f *testing.F) {
	for _, m := range mistakes() {
		f.Add(m.line)
	}
	f.Add("require_tls no\nmessage_override tighten\ndomain example.com *.example.com {\nrequire_tls yes\n}\n" +
		"destination *.b\u00fccher.example {\non_failure reject\n}\ndomains file a")
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.Contains(lines, "import") || strings.Contains(lines, "{env:") {
			return // the parser would open other files
		}
		blocks, err := parser.Read(strings.NewReader("tls_policy p {\n"+lines+"\n}"), "maddy.conf")
		if err != nil || len(blocks) == 0 {
			return
		}
		m := newModule("p")
		if err := m.Init(config.NewMap(map[string]interface{}{}, blocks[0])); err != nil {
			if !strings.HasPrefix(err.Error(), "maddy.conf:") {
				t.Errorf("no place: %v", err)
			}
			return
		}
		for _, domain := range []string{"", "example.com", "a.b.example.com", lines} {
			m.Policy().Resolve(policy.Question{SendingDomain: domain, Destination: domain})
		}
		if len(m.Fields().Names()) == 0 {
			t.Error("no override fields")
		}
	})
}
