package policy

import (
	"strings"
	"testing"

	"github.com/foxcpp/maddy/framework/dns"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                           "",
		"Example.COM":                "example.com",
		"example.com.":               "example.com",
		"XN--BCHER-KVA.example":      "bücher.example",
		"xn--bcher-kva.xn--p1ai":     "bücher.рф",
		"BU\u0308CHER.example":       "bücher.example", // decomposed
		"straße.example":             "straße.example",
		"xn--strae-oqa.example":      "straße.example",
		"[192.0.2.1]":                "[192.0.2.1]",
		"xn--example-.com":           "xn--example-.com", // would decode to example.com
		"xn--.example":               "xn--.example",
		"xn--\u00fc.example":         "xn--\u00fc.example",
		strings.Repeat("x.", 1000):   strings.Repeat("x.", 999) + "x",
		"a_b.example":                "a_b.example",
		"xn--99999999999.EXAMPLE.":   "xn--99999999999.example",
		"sub.XN--BCHER-kva.example.": "sub.bücher.example",
		"Xn--0-i0C.0A":               "xn--0-i0c.0a", // no label from right to left may stand beside it
		"xn--0-i0c.example":          "ܔ0.example",
	} {
		got := Normalize(in)
		if got != want {
			t.Errorf("Normalize(%q) = %q, want %q", in, got, want)
		}
		if again := Normalize(got); again != got {
			t.Errorf("Normalize(%q) = %q, and again %q", in, got, again)
		}
	}
}

// A domain that maddy has normalised already compares like the original.
func TestNormalizeAsMaddy(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"Example.COM.", "xn--bcher-kva.example", "Bücher.Example", "BU\u0308CHER.example", "пример.рф"} {
		maddys, err := dns.ForLookup(domain)
		if err != nil {
			t.Fatal(err)
		}
		if got := Normalize(domain); got != maddys {
			t.Errorf("Normalize(%q) = %q, maddy says %q", domain, got, maddys)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                        `bad pattern "": no domain name, expected a domain name or *.domain`,
		".":                       `bad pattern ".": no domain name, expected a domain name or *.domain`,
		"*":                       `bad pattern "*": character '*' not allowed, expected a domain name or *.domain`,
		"*.":                      `bad pattern "*.": no domain name, expected a domain name or *.domain`,
		"*.*.example.com":         `bad pattern "*.*.example.com": character '*' not allowed, expected a domain name or *.domain`,
		"*example.com":            `bad pattern "*example.com": character '*' not allowed, expected a domain name or *.domain`,
		"mail.*.example":          `bad pattern "mail.*.example": character '*' not allowed, expected a domain name or *.domain`,
		".example.com":            `bad pattern ".example.com": empty label, expected a domain name or *.domain`,
		"a..example":              `bad pattern "a..example": empty label, expected a domain name or *.domain`,
		"-a.example":              `bad pattern "-a.example": label starts or ends with a hyphen, expected a domain name or *.domain`,
		"user@example.com":        `bad pattern "user@example.com": character '@' not allowed, expected a domain name or *.domain`,
		"example.com,":            `bad pattern "example.com,": character ',' not allowed, expected a domain name or *.domain`,
		"xn--99999999999.example": `bad pattern "xn--99999999999.example": "xn--99999999999" is no valid A-label, expected a domain name or *.domain`,
		"xn--abc-d-.example":      `bad pattern "xn--abc-d-.example": "xn--abc-d-" is no valid A-label, expected a domain name or *.domain`,
		"exa\nmple.com":           `bad pattern "exa\nmple.com": character '\n' not allowed, expected a domain name or *.domain`,
		strings.Repeat("x", 64):   `bad pattern "` + strings.Repeat("x", 64) + `": label longer than 63 octets, expected a domain name or *.domain`,
		strings.Repeat("x.", 99):  ``,
		strings.Repeat("x.", 128): `bad pattern "` + strings.Repeat("x.", 32) +
			`"...: longer than a domain name can be, expected a domain name or *.domain`,
	} {
		p := &Policy{}
		err := p.AddDomain(pattern, Block{})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("pattern %q\n got %s\nwant %s", pattern, got, want)
		}
	}
}

func TestDuplicatePatterns(t *testing.T) {
	t.Parallel()
	p := &Policy{}
	add := func(pattern, place string) string {
		t.Helper()
		if err := p.AddDestination(pattern, Block{Place: place}); err != nil {
			return err.Error()
		}
		return ""
	}
	for _, pattern := range []string{"bücher.example", "*.bücher.example"} {
		if got := add(pattern, "conf:7"); got != "" {
			t.Fatal(got)
		}
	}
	want := `pattern "*.XN--bcher-kva.example." is already used at conf:7`
	if got := add("*.XN--bcher-kva.example.", "conf:9"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := p.AddDomain("bücher.example", Block{}); err != nil {
		t.Errorf("domain and destination blocks do not disturb each other: %v", err)
	}
}
