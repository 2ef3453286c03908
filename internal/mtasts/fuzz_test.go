package mtasts

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzRecords: of any TXT records at most one counts, and its id is one.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{
		"v=STSv1; id=20160831085700Z;", "v=STSv1; id=1;\nv=STSv1; id=2;", "v=STSv1 ; id=1; x=y", "v=spf1 -all", "v=STSv1;",
		"v=STSv1; id=" + strings.Repeat("a", 33), "v=STSv10; id=1", "v=STSv1;\xff", "v=STSv1; id=1; id=2", "v=STSv1; =;=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		texts := strings.Split(text, "\n")
		record, err := pick(texts)
		if err != nil || record == "" {
			if record != "" {
				t.Errorf("%q beside %v", record, err)
			}
			return
		}
		if !strings.HasPrefix(record, "v=STSv1") || len(record) > maxRecord {
			t.Errorf("%q counts", record)
		}
		id, err := recordID(record)
		if (err == nil) != validID(id) {
			t.Errorf("%q, %v", id, err)
		}
		if err != nil {
			checkText(t, &Error{Kind: Invalid, Domain: "example.net", Err: err})
		}
	})
}

// FuzzPolicy: what is accepted is within bounds, survives the disk and judges
// hosts without a panic.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{
		body(Enforce, week, "mx.example.net", "*.example.org"), body(None, 0), body(Testing, maxAge, "xn--bcher-kva.example"),
		"version: STSv1\nmode: enforce\nmx: *.xn--\nmax_age: 1\n", "version: STSv1\nmode: enforce\nmx: a_b.example\nmax_age: 4294967296\n",
		"version: STSv1\nmode: none\nmax_age: 31557601\n\n\n", "version:STSv1\nmode:testing\nmx:*.a\nmax_age:0", "<html>", "x: \xff\n",
	} {
		f.Add(seed, "mx.xn--bcher-kva.example")
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text, host string) {
		p, err := parsePolicy(text, "1", now)
		if err != nil {
			checkText(t, &Error{Kind: Invalid, Domain: host, Err: err})
			return
		}
		if lives := p.Expires.Sub(p.Fetched); lives < minAge || lives > maxAge {
			t.Errorf("it lives for %v", lives)
		}
		if p.Matches(host) && len(p.MX) == 0 {
			t.Error("nothing matches")
		}
		for _, pattern := range p.MX {
			if !strings.HasPrefix(pattern, "*.") && !p.Matches(strings.ToUpper(pattern)) {
				t.Errorf("%q does not match itself", pattern)
			}
		}
		written, err := encode("example.net", p, now)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := decode("example.net", written)
		if err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if len(again.MX) != len(p.MX) || again.Mode != p.Mode || !again.Expires.Equal(p.Expires) {
			t.Errorf("%+v became %+v", p, again)
		}
	})
}

// FuzzFile: what is read from disk is a policy that could have been fetched.
func FuzzFile(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	whole, err := encode("example.net", &Policy{
		ID: "1", Mode: Enforce, MX: []string{"mx.example.net", "*.example.org"}, MaxAge: week, Fetched: now, Expires: now.Add(week),
	}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(bytes.Replace(whole, []byte("604800"), []byte("1e300"), 1))
	f.Add(bytes.Replace(whole, []byte("2026"), []byte("9999"), 1))
	f.Add([]byte(`{"version":1,"domain":"example.net","mode":"none","id":"1"}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, _, err := decode("example.net", text)
		if err != nil {
			return
		}
		if err := p.check(); err != nil {
			t.Error(err)
		}
		if lives := p.Expires.Sub(p.Fetched); lives < minAge || lives > maxAge {
			t.Errorf("it lives for %v", lives)
		}
		p.Matches("mx.example.net")
		refreshTime(p)
		spread(p, now)
		p.nextTry(now)
	})
}

// FuzzMatches: a match is what RFC 8461, 4.1 says and nothing else.
func FuzzMatches(f *testing.F) {
	for _, seed := range [][2]string{
		{"*.example.net", "mx.example.net"}, {"mx.example.net", "MX.example.net."}, {"*.xn--bcher-kva.example", "xn--a.xn--bcher-kva.example"},
		{"*.", "."}, {"*", "a"}, {"*.*.example", "a.b.example"}, {"", ""}, {"*.k.example", "a.\u212a.example"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		got := (&Policy{MX: []string{pattern}}).Matches(host)
		ascii := func(s string) string {
			return strings.Map(func(r rune) rune {
				if 'A' <= r && r <= 'Z' {
					return r + 32
				}
				return r
			}, s)
		}
		if !utf8.ValidString(pattern) || !utf8.ValidString(host) {
			return // The model would mend it.
		}
		p, h := ascii(pattern), strings.TrimSuffix(ascii(host), ".")
		want := p == h && p != "" && !strings.HasPrefix(p, "*.")
		if parent, ok := strings.CutPrefix(p, "*."); ok && parent != "" {
			label, ok := strings.CutSuffix(h, "."+parent)
			want = ok && label != "" && !strings.Contains(label, ".")
		}
		if got != want {
			t.Errorf("pattern %q, host %q: %v", pattern, host, got)
		}
	})
}

// checkText: errors are fit for a log line.
func checkText(t *testing.T, err *Error) {
	t.Helper()
	text := err.Error()
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Fatalf("octet %#x in %q", text[i], text)
		}
	}
	if len(text) > 10*maxText {
		t.Errorf("%d octets", len(text))
	}
}
