package route

import (
	"testing"

	"tlscontrol/internal/policy"
)

// However a domain is written: what leads to one name in DNS is one domain to
// the policy. Otherwise another spelling of a name would escape what the
// operator demands for it.
func FuzzOneNameOnePolicy(f *testing.F) {
	for _, domain := range []string{
		"example.net", "EXAMPLE.net.", "ｅxample.net", "exam\u00adple.net", "example。net", "𝐞xample.net",
		"ex\u200bample.net", "bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example",
		"faß.example", "xn--fa-hia.example", "ﬁsch.example", "a.b。c．d", "xn--a.example", "\u212aelvin.example", "_x.example",
		"xn--80ak6aa92e.com", "xn--xample-9uf.net", "İstanbul.example",
		"Xn--0-i0C.0A", "xn--0-i0c.example",
	} {
		f.Add(domain)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		name, err := toASCII(domain)
		if err != nil {
			return
		}
		if again, err := toASCII(policy.Normalize(domain)); err != nil || again != name {
			t.Errorf("%q is asked for as %q, normalised as %q, %v", domain, name, again, err)
		}
		if got, want := policy.Normalize(domain), policy.Normalize(name); got != want {
			t.Errorf("%q is asked for as %q, but the policy takes it for %q and not %q", domain, name, got, want)
		}
	})
}
