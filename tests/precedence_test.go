package tests

import (
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// precedence tests one setting with one beginning at the top of the block.
// Places that speak take turns in what they say, so that each differs from the
// next one below and only the first that speaks can be right.
type precedence struct {
	setting string
	top     string // what the top of the block says, "" for nothing
	values  [2]string
	// field is what a message says of the setting, if it may.
	field string
	// header is what every message says besides, to make the setting visible.
	header string
	// host is where the setting shows.
	host int
	// seen reads the value from what came of a message.
	seen func(d document, status string) string
}

// yesNo reads a switch from the document.
func yesNo(path string) func(document, string) string {
	return func(d document, _ string) string {
		if d.get(path) == true {
			return "yes"
		}
		return "no"
	}
}

const (
	clearHost   = iota // no STARTTLS
	expiredHost        // a bad certificate
	goodHost
)

// precedences lists the settings; the first of the values is what is built in.
func precedences() (list []precedence) {
	for _, p := range []precedence{
		{setting: "require_tls", values: [2]string{"no", "yes"}, field: "X-Require-TLS", host: clearHost,
			seen: yesNo("tls-policy.require-tls")},
		{setting: "skip_verification", values: [2]string{"no", "yes"}, field: "X-Skip-Verification", host: clearHost,
			seen: yesNo("tls-policy.skip-verification")},
		{setting: "on_failure", values: [2]string{"defer", "reject"}, header: "X-Require-TLS: yes\r\n", host: clearHost,
			seen: func(_ document, status string) string {
				return map[string]string{"451 4.7.4": "defer", "550 5.7.4": "reject"}[status]
			}},
		{setting: "opportunistic_fallback", values: [2]string{"plaintext", "unverified"}, host: expiredHost,
			seen: func(d document, _ string) string {
				return map[any]string{false: "plaintext", true: "unverified"}[d.get("delivery-status.tls")]
			}},
		{setting: "message_override", values: [2]string{"any", "none"}, header: "X-Skip-Verification: yes\r\n", host: clearHost,
			seen: func(d document, _ string) string {
				return map[any]string{"message": "any", "default": "none"}[d.get("tls-policy.skip-verification-source")]
			}},
	} {
		for _, p.top = range []string{"", p.values[0], p.values[1]} {
			list = append(list, p)
		}
	}
	return list
}

// place is one that may speak, the strongest first.
type place struct{ name, value string }

// places gives each place its value: the top its own, or what is built in, and
// each above the opposite of the one below.
func (p precedence) places() []place {
	value := p.top
	if value == "" {
		value = p.values[0]
	}
	list := []place{{"default", value}}
	for _, name := range []string{"table", "domain", "destination", "message"} {
		if value == p.values[0] {
			value = p.values[1]
		} else {
			value = p.values[0]
		}
		list = append([]place{{name, value}}, list...)
	}
	return list
}

// saidBy is the value of a place.
func (p precedence) saidBy(name string) string {
	for _, pl := range p.places() {
		if pl.name == name {
			return pl.value
		}
	}
	return ""
}

// block is the policy with everybody who speaks. The domain that has a block has
// an unreadable row too: nobody may look at it.
func (p precedence) block() string {
	top := ""
	if p.top != "" {
		top = p.setting + " " + p.top + "\n"
	}
	return fmt.Sprintf(`%[1]s
domain block.example { %[2]s %[3]s
}
destination dest.%[6]s.test { %[2]s %[4]s
}
domains static {
entry row.example "%[2]s=%[5]s"
entry block.example "this row cannot be read"
}
`, top, p.setting, p.saidBy("domain"), p.saidBy("destination"), p.saidBy("table"), p.name())
}

func (p precedence) name() string {
	return strings.ReplaceAll(strings.Trim(p.setting+"-"+p.top, "-"), "_", "-")
}

// TestPrecedence: message, destination, domain, table, top, built in: for each
// setting the first that says something wins, and the document names it.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	s := precedenceServer(t)
	n := 0
	for _, p := range precedences() {
		for _, sender := range []string{"quiet.example", "row.example", "block.example"} {
			for _, destination := range []string{"open", "dest"} {
				for _, message := range []bool{false, true} {
					if message && p.field == "" {
						continue
					}
					known := n
					n++
					name := fmt.Sprintf("%s/%s to %s, message %v", p.name(), sender, destination, message)
					t.Run(name, func(t *testing.T) {
						s.in(t).precedence(known, p, sender, destination, message)
					})
				}
			}
		}
	}
}

// precedenceServer has one policy and one target for each precedence; the
// recipient's domain chooses among them.
func precedenceServer(t *testing.T) *server {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := newServerCA(t, ca, mailtest.Behaviour{}, certificate(t, ca, mailtest.Expired, host(expiredHost)))
	var more, routes strings.Builder
	for _, p := range precedences() {
		domains := []string{"open." + p.name() + ".test", "dest." + p.name() + ".test"}
		for _, d := range domains {
			s.dns.MX(d, 10, host(p.host))
		}
		fmt.Fprintf(&more, "tls_policy p-%[1]s {\n%[2]s}\n", p.name(), p.block())
		fmt.Fprintf(&more, `target.remote_tls t-%[1]s {
policy &p-%[1]s
delivery_log &deliveries
resolver {dns}
port {port}
tls_client { root_ca {dir}/ca.pem
}
}
`, p.name())
		fmt.Fprintf(&routes, "destination %s {\ndeliver_to &t-%s\n}\n", strings.Join(domains, " "), p.name())
	}
	s.config(blocks{more: more.String(), endpoints: `smtp tcp://{ip}:{smtp} {
hostname relay.example.com
tls off
check {
tls_override { allow all
}
}
` + routes.String() + `
default_destination {
deliver_to &outbound
}
}`})
	s.start()
	return s
}

func (s *server) precedence(n int, p precedence, sender, destination string, message bool) {
	s.Helper()
	silent := map[string]bool{
		"message":     !message,
		"destination": destination != "dest",
		"domain":      sender != "block.example",
		"table":       sender != "row.example",
	}
	var want place
	for _, pl := range p.places() {
		if !silent[pl.name] {
			want = pl
			break
		}
	}
	header := p.header
	if message {
		header += p.field + ": " + want.value + "\r\n"
	}
	status := reply(s.direct(mail{
		from: "a@" + sender, to: []string{"b@" + destination + "." + p.name() + ".test"}, header: header,
	}))
	d := s.next(n)
	if got := p.seen(d, status); got != want.value {
		s.Errorf("%s is %q, want %q as %s has it (status %s)\n%v", p.setting, got, want.value, want.name, status, d)
	}
	if p.field == "" {
		return
	}
	source := strings.ReplaceAll("tls-policy."+p.setting+"-source", "_", "-")
	if got := d.get(source); got != want.name {
		s.Errorf("source %v, want %s", got, want.name)
	}
}

// TestLongestMatchWins: a match is exact or by wildcard, any depth below but not
// the apex; where the longest is silent on a setting, the next shorter one is asked.
func TestLongestMatchWins(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	s.config(blocks{
		policy: `
domain *.example.org { require_tls yes
skip_verification yes
}
domain *.b.example.org { require_tls no
}
domain a.b.example.org { skip_verification no
}
destination *.test { on_failure reject
skip_verification no
}
destination *.deep.test { skip_verification yes
}
destination x.deep.test { require_tls no
}
destination bücher.test { require_tls yes
}`,
		endpoints: anyoneDirect("smtp", ""),
	})
	s.start()
	for i, tt := range []struct{ from, to, want string }{
		{"example.org", "net.example", "no default, no default"},
		{"z.example.org", "net.example", "yes domain, yes domain"},
		{"y.z.example.org", "net.example", "yes domain, yes domain"},
		{"Z.EXAMPLE.Org", "net.example", "yes domain, yes domain"},
		{"b.example.org", "net.example", "yes domain, yes domain"},
		{"c.b.example.org", "net.example", "no domain, yes domain"},
		{"a.b.example.org", "net.example", "no domain, no domain"},
		{"z.a.b.example.org", "net.example", "no domain, yes domain"},
		{"badexample.org", "net.example", "no default, no default"},
		{"z.example.org", "one.test", "yes domain, no destination"},
		{"z.example.org", "deep.test", "yes domain, no destination"},
		{"z.example.org", "a.deep.test", "yes domain, yes destination"},
		{"z.example.org", "x.deep.test", "no destination, yes destination"},
		{"z.example.org", "X.Deep.TEST", "no destination, yes destination"},
		{"example.org", "xn--bcher-kva.test", "yes destination, no destination"},
		{"", "one.test", "no default, no destination"},
	} {
		s.dns.MX(tt.to, 10, host(0))
		from := "a@" + tt.from
		if tt.from == "" {
			from = "<>"
		}
		err := s.direct(mail{from: from, to: []string{"b@" + tt.to}})
		d := s.next(i)
		if got := d.settings(); got != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
		want := "accepted"
		if strings.HasPrefix(tt.want, "yes") {
			want = "451 4.7.4"
			if strings.HasSuffix(strings.ToLower(tt.to), ".test") {
				want = "550 5.7.4"
			}
		}
		if got := reply(err); got != want {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, want)
		}
	}
}

// TestMessageOverrideAdmits: any lets a message have its way, tighten only where
// it is as strict, none never; each resolves from where it is said.
func TestMessageOverrideAdmits(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	var policy strings.Builder
	for _, word := range []string{"any", "tighten", "none"} {
		fmt.Fprintf(&policy, "domain strict.%[1]s.example {\nmessage_override %[1]s\nrequire_tls yes\nskip_verification no\n}\n", word)
		fmt.Fprintf(&policy, "domain lax.%[1]s.example {\nmessage_override %[1]s\nrequire_tls no\nskip_verification yes\n}\n", word)
		fmt.Fprintf(&policy, "destination dest.%[1]s.test {\nmessage_override %[1]s\n}\n", word)
		s.dns.MX("dest."+word+".test", 10, host(0))
	}
	s.config(blocks{policy: policy.String(), endpoints: anyoneDirect("smtp", "check {\ntls_override { policy &outbound_policy\nallow all\n}\n}")})
	s.start()
	const loosen = "X-Require-TLS: no\r\nX-Skip-Verification: yes\r\n"
	const tighten = "X-Require-TLS: yes\r\nX-Skip-Verification: no\r\n"
	for i, tt := range []struct{ from, to, header, want string }{
		{"strict.any.example", "example.net", loosen, "no message, yes message"},
		{"lax.any.example", "example.net", tighten, "yes message, no message"},
		{"strict.tighten.example", "example.net", loosen, "yes domain, no domain"},
		{"strict.tighten.example", "example.net", tighten, "yes message, no message"},
		{"lax.tighten.example", "example.net", loosen, "no domain, yes domain"},
		{"lax.tighten.example", "example.net", tighten, "yes message, no message"},
		{"strict.none.example", "example.net", loosen, "yes domain, no domain"},
		{"lax.none.example", "example.net", tighten, "no domain, yes domain"},
		// The destination's word comes before the sending domain's.
		{"strict.none.example", "dest.any.test", loosen, "no message, yes message"},
		{"strict.any.example", "dest.none.test", loosen, "yes domain, no domain"},
		{"lax.none.example", "dest.tighten.test", tighten, "yes message, no message"},
		{"strict.any.example", "dest.tighten.test", loosen, "yes domain, no domain"},
	} {
		_ = s.direct(mail{from: "a@" + tt.from, to: []string{"b@" + tt.to}, header: tt.header})
		if got := s.next(i).settings(); got != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}
