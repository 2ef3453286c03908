package mtasts

import (
	"strings"
	"testing"
	"time"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	p := &Policy{MX: []string{"mx.example.net", "*.example.org", "*.xn--bcher-kva.example", "MX.Upper.example"}}
	for host, want := range map[string]bool{
		"mx.example.net": true, "MX.Example.NET": true, "mx.example.net.": true, "mx.upper.example": true,
		"a.example.org": true, "A.EXAMPLE.ORG": true, "xn--strae-oqa.example.org": true, "*.example.org": true,
		"mx.xn--bcher-kva.example": true, "xn--a.xn--bcher-kva.example": true,
		"example.org": false, "a.b.example.org": false, ".example.org": false, "aexample.org": false,
		"a.example.org.evil.example": false, "mx2.example.net": false, "example.net": false, "a.mx.example.net": false,
		"xn--bcher-kva.example": false, "": false, ".": false, "..": false, "mx": false,
		"mx.example.net..": false, "a.example.or\u212a": false, "\xff.example.or\xff": false,
	} {
		if got := p.Matches(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	kelvin := &Policy{MX: []string{"mk.example"}}
	if kelvin.Matches("m\u212a.example") {
		t.Error("the Kelvin sign is taken for a k")
	}
	if (*Policy)(nil).Matches("mx.example.net") || (&Policy{MX: []string{"", "*.", "."}}).Matches("a.") {
		t.Error("nothing matches something")
	}
}

func TestMatchesWithoutAllocating(t *testing.T) {
	p := &Policy{MX: []string{"mx.example.net", "*.example.org"}}
	if n := testing.AllocsPerRun(100, func() {
		p.Matches("A.Example.ORG")
		policyDomain("mail.example.net")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p, err := parsePolicy("version: STSv1\nmode: testing\nmx: MX.Example.NET\nmx: *.Example.ORG\nmax_age: 86400\nmode: none\nmax_age: 5\n", "a1", now)
	if err != nil {
		t.Fatal(err)
	}
	// Of fields that repeat, the first counts (RFC 8461, 3.2), except mx.
	if p.Mode != Testing || p.MaxAge != 24*time.Hour || !p.Fetched.Equal(now) || !p.Expires.Equal(now.Add(24*time.Hour)) ||
		strings.Join(p.MX, " ") != "mx.example.net *.example.org" || p.ID != "a1" {
		t.Errorf("%+v", p)
	}
	for age, want := range map[string]time.Duration{
		"0": minAge, "60": minAge, "301": 301 * time.Second, "31557600": maxAge, "31557601": maxAge, "2147483647": maxAge,
	} {
		p, err := parsePolicy("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: "+age+"\n", "1", now)
		if err != nil {
			t.Errorf("%s: %v", age, err)
		} else if got := p.Expires.Sub(p.Fetched); got != want {
			t.Errorf("max_age %s: in force for %v, want %v", age, got, want)
		}
	}
	if p, err := parsePolicy("version: STSv1\nmode: none\nmax_age: 86400\n", "1", now); err != nil || p.Mode != None {
		t.Errorf("none without mx: %+v, %v", p, err)
	}
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &Policy{Fetched: now, Expires: now.Add(week)}
	for after, want := range map[time.Duration]bool{
		0: true, -time.Minute: true, week - 1: true, week: false, 2 * week: false, -2 * time.Hour: false,
	} {
		if got := p.freshAt(now.Add(after)); got != want {
			t.Errorf("after %v: %v", after, got)
		}
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		texts []string
		id    string
		fails bool
	}{
		{nil, "", false},
		{[]string{"v=spf1 -all", "hello"}, "", false},
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z", false},
		{[]string{"v=STSv1 ; id=1"}, "1", false},
		{[]string{"v=STSv1;id=1"}, "1", false},
		{[]string{"v=STSv1; ext=x; id=1; other=2;"}, "1", false},
		{[]string{"v=STSv1; id=1; id=2;"}, "", true},
		{[]string{"v=spf1 -all", "v=STSv1; id=1;", "v=STSv10; id=3", "v=STSv1"}, "1", false},
		{[]string{"v=STSv10; id=1"}, "", false},
		{[]string{"V=STSv1; id=1"}, "", false},
		{[]string{" v=STSv1; id=1"}, "", false},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=1"}, "", true},
		{[]string{"v=STSv1; id=1", "v=STSv1; rubbish"}, "", true},
		{[]string{"v=STSv1;"}, "", true},
		{[]string{"v=STSv1; id="}, "", true},
		{[]string{"v=STSv1; id=not-letters"}, "", true},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 32)}, strings.Repeat("a", 32), false},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "", true},
		{[]string{"v=STSv1; id=1; x=" + strings.Repeat("a", maxRecord)}, "", true},
		{[]string{"v=STSv1; id=\x00\xff"}, "", true},
	} {
		id := ""
		record, err := pick(c.texts)
		if err == nil && record != "" {
			id, err = recordID(record)
		}
		if id != c.id || (err != nil) != c.fails {
			t.Errorf("%.100q: %q, %v", c.texts, id, err)
		}
	}
}

func TestPolicyDomain(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a.", 121) + "aa" // 244 octets
	for domain, want := range map[string]string{
		"example.net": "example.net", "Example.NET.": "example.net", "bücher.example": "xn--bcher-kva.example",
		"XN--BCHER-KVA.example": "xn--bcher-kva.example", "a_b.example": "a_b.example", long: long,
		"": "", ".": "", "a..b": "", "[192.0.2.1]": "", "192.0.2.1": "", "../../etc/passwd": "", "a/b.example": "",
		"a\x00.example": "", "-a.example": "", "a" + long: "", "\xff.example": "", strings.Repeat("a", 64) + ".example": "",
	} {
		if got, ok := policyDomain(domain); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", domain, got, ok)
		}
	}
}
