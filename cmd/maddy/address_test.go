package main

import (
	"strings"
	"testing"
)

func TestGoodAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"a@x": true, "a@example.org.": true, "a.b+c@example.org": true, "a..b@example.org": true, "a@EXAMPLE.org": true, "postmaster": true,
		`"a b"@example.org`: true, `"a@b"@example.org`: true, `"a\"b"@example.org`: true, "o'neil/x=y@example.org": true,
		"бюро@example.org": true, "a@bücher.example": true, "a@xn--bcher-kva.example": true, "a@_x.example": true, "a@[192.0.2.1]": true, "a@[ipv6:2001:db8::1]": true, "a@[::1]": true,
		strings.Repeat("a", 80) + "@example.org": true,

		"": false, "a": false, "a@": false, "@x": false, "@": false, "a@@x": false, "a@b@x": false, "a b@x": false, " a@x": false, "a@x ": false,
		"a@x y": false, "<a@x": false, "a@x>": false, "<a@x>": false, "A <a@x.org>": false, "mailto:a@x.org": false, "a,b@x.org": false,
		`""@x`: false, `"a@x`: false, `"a\"@x`: false, `"@x`: false, `"a"b@x`: false, "a\nb@x": false, "a\x00@x": false, "a\u0085b@x": false, "\xff@x": false, "a@\xff": false,
		"a@.x": false, "a@x..y": false, "a@-x": false, "a@x/y": false, "a@192.0.2.1": false, "a@[192.0.2.1": false, "a@[]": false, "a@[ ]": false, "a@[x]": false, "a@[IPv6:]": false, "a@[fe80::1%x]": false,
		"a@" + strings.Repeat("a", 64): false, "a@" + strings.Repeat("a.", 200) + "org": false,
		strings.Repeat("a", 400) + "@example.org": false,
	} {
		if got := goodAddress(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

// FuzzGoodAddress: what is good is one word or quoted, and can be told from options and from lines.
func FuzzGoodAddress(f *testing.F) {
	for _, seed := range []string{"a@x.org", "a@@x", `"a b"@x.org`, "a@bücher.example", "a\nb@x", "postmaster", "a@[::1]", "0@[ ]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !goodAddress(s) {
			return
		}
		if strings.ContainsAny(s, "\r\n\x00") || len(s) > 320 || !strings.HasPrefix(s, `"`) && strings.ContainsAny(s, " <>\\\"") {
			t.Errorf("%q", s)
		}
	})
}
