package tlspolicy

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"
	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/policy"
)

// The block of the design: every directive is read, every setting has its place.
func TestWholeBlock(t *testing.T) {
	t.Parallel()
	m := mustLoad(t, `tls_policy outbound_policy {
	require_tls no
	skip_verification off
	on_failure defer
	opportunistic_fallback unverified
	message_override any
	require_tls_header X-Require-TLS X-Acme-Require-TLS
	skip_verification_header X-Acme-Skip-Verification

	domain example.com *.example.com {
		require_tls yes
		message_override tighten
	}
	destination partner.example {
		skip_verification YES
		on_failure reject
	}
	domains file require_tls=yes on_failure=reject
}`)
	if m.Name() != "tls_policy" || m.InstanceName() != "outbound_policy" {
		t.Errorf("called %s %s", m.Name(), m.InstanceName())
	}
	wantFields := "X-Require-TLS X-Acme-Require-TLS X-Acme-Skip-Verification"
	if got := strings.Join(m.Fields().Names(), " "); got != wantFields {
		t.Errorf("fields %s", got)
	}
	got, err := m.resolve(context.Background(), "sub.example.com", "partner.example",
		policy.Override{RequireTLS: policy.No, SkipVerification: policy.No})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Settings{
		RequireTLS: true, RequireTLSSource: policy.FromDomain, RequireTLSPlace: "maddy.conf:10",
		SkipVerification: false, SkipVerificationSource: policy.FromMessage,
		OnFailure: policy.Reject, OnFailureSource: policy.FromDestination, OnFailurePlace: "maddy.conf:14",
		Fallback: policy.Unverified, FallbackSource: policy.FromDefault, FallbackPlace: "maddy.conf:1",
		MessageOverride: policy.AdmitTighten, MessageOverrideSource: policy.FromDomain, MessageOverridePlace: "maddy.conf:10",
		Refused: policy.Override{RequireTLS: policy.No},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestEmptyBlockIsBuiltIn(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"tls_policy p {\n}", "tls_policy p"} {
		m := mustLoad(t, text)
		got := m.Policy().Resolve(policy.Question{})
		want := BuiltIn().Policy().Resolve(policy.Question{})
		got.RequireTLSPlace, got.SkipVerificationPlace = "", ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
		if diff := cmp.Diff(policy.DefaultFields(), m.Fields()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

const (
	settingList   = "require_tls, skip_verification, on_failure, opportunistic_fallback, message_override"
	directiveList = settingList + ", require_tls_header, skip_verification_header, domain, destination, domains, domains_keep"
	nameHint      = "expected a header field name of letters, digits and hyphens"
)

// mistake is lines of a block, from line 2 on, and the exact message.
type mistake struct{ line, want string }

func mistakes() []mistake {
	return []mistake{
		{`require_tls maybe`, `maddy.conf:2: require_tls: unexpected "maybe", expected yes or no`},
		{`require_tls`, `maddy.conf:2: require_tls: expected a value`},
		{`require_tls yes please`, `maddy.conf:2: require_tls: unexpected "please", expected one value`},
		{"require_tls yes {\n}", `maddy.conf:2: require_tls: unexpected block`},
		{"require_tls yes\nrequire_tls yes", `maddy.conf:3: require_tls is already set at maddy.conf:2`},
		{`skip_verification always`, `maddy.conf:2: skip_verification: unexpected "always", expected yes or no`},
		{`on_failure bounce`, `maddy.conf:2: on_failure: unexpected "bounce", expected defer or reject`},
		{`opportunistic_fallback none`, `maddy.conf:2: opportunistic_fallback: unexpected "none", expected plaintext or unverified`},
		{`message_override yes`, `maddy.conf:2: message_override: unexpected "yes", expected any, tighten or none`},
		{`reqire_tls yes`, `maddy.conf:2: unexpected directive "reqire_tls", expected one of ` + directiveList},
		{"reqire_tls yes\nreqire_tls yes", `maddy.conf:2: unexpected directive "reqire_tls", expected one of ` + directiveList},

		{`require_tls_header`, `maddy.conf:2: require_tls_header: expected at least one header field name`},
		{"require_tls_header X-A {\n}", `maddy.conf:2: require_tls_header: unexpected block`},
		{`require_tls_header "X A"`, `maddy.conf:2: require_tls_header: unexpected ' ' in "X A", ` + nameHint},
		{`require_tls_header X-Require-TLS:`, `maddy.conf:2: require_tls_header: unexpected ':' in "X-Require-TLS:", ` + nameHint},
		{`require_tls_header X-é`, `maddy.conf:2: require_tls_header: unexpected 'Ã' in "X-\u00e9", ` + nameHint},
		{`require_tls_header ""`, `maddy.conf:2: require_tls_header: unexpected "", ` + nameHint + `, 1 to 64 characters`},
		{`require_tls_header X-` + strings.Repeat("a", 63), `maddy.conf:2: require_tls_header: unexpected "X-` +
			strings.Repeat("a", 62) + `"..., ` + nameHint + `, 1 to 64 characters`},
		{`require_tls_header X-A x-a`, `maddy.conf:2: require_tls_header: "x-a" is named twice`},
		{"require_tls_header X-A\nrequire_tls_header X-B", `maddy.conf:3: require_tls_header is already set at maddy.conf:2`},
		{`require_tls_header TLS-Required`, taken("require_tls_header", "TLS-Required")},
		{`skip_verification_header tls-override`, taken("skip_verification_header", "tls-override")},
		{`skip_verification_header Subject`, taken("skip_verification_header", "Subject")},
		{`skip_verification_header DKIM-Signature`, taken("skip_verification_header", "DKIM-Signature")},
		{`skip_verification_header ARC-Seal`, taken("skip_verification_header", "ARC-Seal")},
		{`skip_verification_header Content-Type`, taken("skip_verification_header", "Content-Type")},
		{"require_tls_header X-A X-B\nskip_verification_header X-b",
			`maddy.conf:3: skip_verification_header: "X-B" is read for both require_tls and skip_verification`},
		{`require_tls_header x-skip-verification`,
			`maddy.conf:2: require_tls_header: "x-skip-verification" is read for both require_tls and skip_verification`},

		{"domain {\nrequire_tls yes\n}", `maddy.conf:2: domain: expected at least one domain name or *.domain`},
		{`domain example.com`, `maddy.conf:2: domain: expected a block with at least one of ` + settingList},
		{"domain example.com {\n}", `maddy.conf:2: domain: expected a block with at least one of ` + settingList},
		{"domain * {\nrequire_tls yes\n}", `maddy.conf:2: domain: bad pattern "*": character '*' not allowed, expected a domain name or *.domain`},
		{"domain \"\" {\nrequire_tls yes\n}", `maddy.conf:2: domain: bad pattern "": no domain name, expected a domain name or *.domain`},
		{"domain user@example.com {\nrequire_tls yes\n}", `maddy.conf:2: domain: bad pattern "user@example.com": character '@' not allowed, expected a domain name or *.domain`},
		{"domain example.com {\nrequire_tls perhaps\n}", `maddy.conf:3: require_tls: unexpected "perhaps", expected yes or no`},
		{"domain example.com {\nrequire_tls yes\nrequire_tls no\n}", `maddy.conf:4: require_tls is already set at maddy.conf:3`},
		{"domain example.com {\nrequire_tls_header X-A\n}", `maddy.conf:3: unexpected directive "require_tls_header" in a domain block, expected one of ` + settingList},
		{"domain example.com {\nrequire_tls yes\n}\ndomain example.org EXAMPLE.com. {\nrequire_tls no\n}",
			`maddy.conf:5: domain: pattern "EXAMPLE.com." is already used at maddy.conf:2`},
		{"destination *. {\nrequire_tls yes\n}", `maddy.conf:2: destination: bad pattern "*.": no domain name, expected a domain name or *.domain`},
		{"destination example.com {\ndestination example.net {\nrequire_tls yes\n}\n}",
			`maddy.conf:3: unexpected directive "destination" in a destination block, expected one of ` + settingList},
		{"destination *.example.com *.example.com {\nrequire_tls yes\n}",
			`maddy.conf:2: destination: pattern "*.example.com" is already used at maddy.conf:2`},

		{`domains`, `maddy.conf:2: domains: expected a table, as in: domains file /etc/maddy/domains`},
		{`domains no_such_table a`, `maddy.conf:2: domains: unknown module: no_such_table (namespace: table)`},
		{`domains &no_such_block`, `maddy.conf:2: domains: unknown config block: no_such_block`},
		{`domains tls_policy`, `maddy.conf:2: module tls_policy () doesn't implement module.Table interface`},
		{"domains file a b {\ncolour red\n}", `maddy.conf:3: unexpected directive: colour`},
		{"domains file a b\ndomains file a b", `maddy.conf:3: domains is already set at maddy.conf:2`},
		{"domains file a b\ndomains_keep", "maddy.conf:3: domains_keep: expected a duration up to 168h, such as 30m, or off"},
		{"domains file a b\ndomains_keep 1 day", `maddy.conf:3: domains_keep: unexpected "1 day", expected a duration up to 168h, such as 30m, or off`},
		{"domains file a b\ndomains_keep 0s", `maddy.conf:3: domains_keep: unexpected "0s", expected a duration up to 168h, such as 30m, or off`},
		{"domains file a b\ndomains_keep 169h", `maddy.conf:3: domains_keep: unexpected "169h", expected a duration up to 168h, such as 30m, or off`},
		{"domains file a b\ndomains_keep 1h {\n}", `maddy.conf:3: domains_keep: unexpected block`},
		{"domains_keep 1h", `maddy.conf:2: domains_keep: there is no domains directive to go with it`},
		{`domains file /missing/file`, `maddy.conf:2: domains: open /missing/file: no such file or directory`},
	}
}

// Each mistake, alone in a block, and the exact message.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range mistakes() {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, "tls_policy p {\n"+test.line+"\n}\n")
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func taken(directive, name string) string {
	return `maddy.conf:2: ` + directive + `: unexpected "` + name +
		`", that field has another meaning: expected a name like X-Require-TLS`
}

func TestInlineArguments(t *testing.T) {
	t.Parallel()
	mod, err := New("tls_policy", "", nil, []string{"extra"})
	if err != nil {
		t.Fatal(err)
	}
	err = mod.Init(config.NewMap(nil, parse(t, "policy extra {\n}")[0]))
	if want := `maddy.conf:1: tls_policy: unexpected "extra", expected a block`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// readPolicy reads `policy ...` the way the target and the check do.
func readPolicy(t *testing.T, text string) (*Module, error) {
	t.Helper()
	var got *Module
	cfg := config.NewMap(map[string]interface{}{}, parse(t, "target.test {\n"+text+"\n}")[0])
	cfg.Custom("policy", false, false, func() (interface{}, error) { return BuiltIn(), nil }, Directive, &got)
	_, err := cfg.Process()
	return got, err
}

func TestDirectiveInline(t *testing.T) {
	t.Parallel()
	m, err := readPolicy(t, "policy {\nrequire_tls yes\n}")
	if err != nil {
		t.Fatal(err)
	}
	s := m.Policy().Resolve(policy.Question{})
	if !s.RequireTLS || s.RequireTLSPlace != "maddy.conf:2" {
		t.Errorf("got %+v", s)
	}
	if m, err = readPolicy(t, ""); err != nil || m.Policy().Resolve(policy.Question{}).RequireTLS {
		t.Errorf("without the directive: %v", err)
	}
}

func TestDirectiveMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, want string }{
		{`policy`, `maddy.conf:2: policy: expected &name or a block`},
		{`policy outbound`, `maddy.conf:2: policy: unexpected "outbound", expected &name or a block`},
		{`policy &`, `maddy.conf:2: policy: unexpected "&", expected &name or a block`},
		{`policy &a &b`, `maddy.conf:2: policy: unexpected "&b", expected &name or a block`},
		{"policy &a {\n}", `maddy.conf:2: policy: a block is not allowed after &a`},
		{`policy &nowhere`, `maddy.conf:2: policy: there is no block named "nowhere"`},
		{"policy {\nrequire_tls maybe\n}", `maddy.conf:3: require_tls: unexpected "maybe", expected yes or no`},
		{"policy {\n}\npolicy {\n}", `maddy.conf:4: duplicate directive: policy`},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			if _, err := readPolicy(t, test.line); err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

// Not parallel: maddy's registry of instances is not made for it.
func TestDirectiveReference(t *testing.T) {
	nodes := parse(t, `tls_policy directive_good alias_of_good {
	require_tls yes
}
tls_policy directive_bad {
	require_tls maybe
}
dummy directive_dummy`)
	for _, node := range nodes {
		mod, err := module.Get(node.Name)(node.Name, node.Args[0], node.Args[1:], nil)
		if err != nil {
			t.Fatal(err)
		}
		module.RegisterInstance(mod, config.NewMap(nil, node))
		t.Cleanup(func() { delete(module.Initialized, mod.InstanceName()) })
	}
	module.RegisterAlias("alias_of_good", "directive_good")

	good, err := readPolicy(t, "policy &directive_good")
	if err != nil || !good.Policy().Resolve(policy.Question{}).RequireTLS {
		t.Errorf("%v", err)
	}
	if again, err := readPolicy(t, "policy &alias_of_good"); err != nil || again != good {
		t.Errorf("the alias is another block, %v", err)
	}
	_, err = readPolicy(t, "policy &directive_bad")
	if want := `maddy.conf:5: require_tls: unexpected "maybe", expected yes or no`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = readPolicy(t, "policy &directive_dummy")
	if want := `maddy.conf:2: policy: &directive_dummy is a block of dummy, expected one of tls_policy`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The examples of the manual page load.
func TestManualPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), "/etc/maddy/domains", "README.md") // a file that exists
	parts := strings.Split(page, "```maddyconf\n")[1:]
	if len(parts) == 0 {
		t.Fatal("no examples")
	}
	for _, part := range parts {
		example, _, _ := strings.Cut(part, "```")
		for _, node := range parse(t, example) {
			mod, err := module.Get(node.Name)(node.Name, node.Args[0], nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := mod.Init(config.NewMap(nil, node)); err != nil {
				t.Errorf("%v in\n%s", err, example)
			}
		}
	}
}
