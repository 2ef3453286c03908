package route

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestHostName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"MX1.Example.net.":        "mx1.example.net",
		"localhost":               "localhost",
		"_dmarc.a_b.example":      "_dmarc.a_b.example",
		"r3---sn.xn--a.example":   "r3---sn.xn--a.example",
		"1.2.3.4a":                "1.2.3.4a",
		strings.Repeat("a", 63):   strings.Repeat("a", 63),
		"192.0.2.1":               "",
		"example.123":             "",
		"2001:db8::1":             "",
		"[192.0.2.1]":             "",
		".":                       "",
		"":                        "",
		"a..b":                    "",
		".a":                      "",
		"a.b..":                   "",
		"-a.b":                    "",
		"a-.b":                    "",
		"a b":                     "",
		`a\.b`:                    "",
		`a\000b`:                  "",
		"*.example":               "",
		"bücher.example":          "",
		"\u212a.example":          "", // the Kelvin sign, which lowers to k
		"a\x00b":                  "",
		strings.Repeat("a", 64):   "",
		strings.Repeat("a.", 128): "",
	} {
		if want == "" {
			want = "(refused)"
		}
		got, ok := hostName(name)
		if !ok {
			got = "(refused)"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// FuzzMXAnswer feeds packets from strangers to what reads MX answers. Whatever
// they hold, only host names come out, in order and in bounds.
func FuzzMXAnswer(f *testing.F) {
	for _, target := range []string{"mx.example.net.", ".", `ev\000il.example.`, "192.0.2.1.", "MX_1.example."} {
		reply := new(dns.Msg).SetQuestion("example.net.", dns.TypeMX)
		reply.Response = true
		for preference := range uint16(3) {
			reply.Answer = append(reply.Answer,
				&dns.MX{Hdr: dns.RR_Header{Name: "example.net.", Rrtype: dns.TypeMX, Class: dns.ClassINET}, Preference: preference, Mx: target},
				&dns.CNAME{Hdr: dns.RR_Header{Name: "a.example.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: target})
		}
		packet, err := reply.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply := new(dns.Msg)
		if reply.Unpack(packet) != nil || len(reply.Question) == 0 {
			return
		}
		name, ok := hostName(reply.Question[0].Name)
		if !ok {
			return
		}
		a := newAnswer(reply, "127.0.0.1:53")
		hosts, null := hostsOf(recordsOf(a.records, name, dns.TypeMX))
		if null && len(hosts) > 0 {
			t.Fatalf("null MX beside %v", hosts)
		}
		if hosts = inOrder(hosts); len(hosts) > maxHosts {
			t.Fatalf("%d hosts", len(hosts))
		}
		for i, host := range hosts {
			if again, ok := hostName(host.Name); !ok || again != host.Name {
				t.Fatalf("host name %q", host.Name)
			}
			if strings.Trim(host.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || len(host.Name) > maxName {
				t.Fatalf("host name %q", host.Name)
			}
			if i > 0 && hosts[i-1].Preference > host.Preference {
				t.Fatalf("order: %v", hosts)
			}
		}
		if target, ok := aliasOf(recordsOf(a.records, name, dns.TypeCNAME)); ok {
			hostName(target)
		}
	})
}

// FuzzToASCII: a domain from an envelope becomes a host name or an error.
func FuzzToASCII(f *testing.F) {
	for _, domain := range []string{"example.net", "Bücher.example.", "[192.0.2.1]", "a\x00b", "xn--", "\u200d.a", "ß.example"} {
		f.Add(domain)
	}
	f.Fuzz(func(t *testing.T, domain string) {
		name, err := toASCII(domain)
		if err != nil {
			if text := (&Error{Kind: NotFound, Name: domain, Type: "MX", Err: err}).Error(); len(text) > 4000 ||
				strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("error text %q", text)
			}
			return
		}
		if again, err := toASCII(name); err != nil || again != name {
			t.Fatalf("%q becomes %q, then %q, %v", domain, name, again, err)
		}
	})
}
