package tlsrpt

import (
	"slices"
	"strings"
	"testing"
)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	many := "v=TLSRPTv1; rua=mailto:a@x.example" + strings.Repeat(",mailto:a@x.example", 5)
	var eleven []string
	for c := 'a'; c <= 'k'; c++ {
		eleven = append(eleven, "https://"+string(c)+".example/")
	}
	for _, test := range []struct {
		texts []string
		want  string
	}{
		{nil, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:reports@example.com"}, "mailto:reports@example.com"}, // the RFC's first example
		{[]string{"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"}, "https://reporting.example.com/v1/tlsrpt"},
		{[]string{"v=TLSRPTv1; rua=mailto:a@x.example, https://x.example/?a=b ;"}, "mailto:a@x.example https://x.example/?a=b"},
		{[]string{"v=TLSRPTv1; rua=mailto:a@x.example; ext=1; rua=mailto:b@x.example"}, "mailto:a@x.example mailto:b@x.example"},
		{[]string{"v=spf1 -all", "v=TLSRPTv1;rua=mailto:a@x.example", "v=TLSRPTv1 ;rua=mailto:b@x.example", "V=tlsrptv1;x"}, "mailto:a@x.example"},
		{[]string{"v=TLSRPTv1;rua=mailto:a@x.example", "v=TLSRPTv1;rua=mailto:a@x.example"}, ""}, // two mean none
		{[]string{"v=TLSRPTv1;rua=mailto:a@x.example", "v=TLSRPTv1;broken"}, ""},
		{[]string{"v=TLSRPTv1;"}, ""},
		{[]string{"v=TLSRPTv1"}, ""},
		{[]string{"v=TLSRPTv2;rua=mailto:a@x.example"}, ""},
		{[]string{many}, "mailto:a@x.example"},
		{[]string{"v=TLSRPTv1;rua=" + strings.Join(eleven, ",")}, strings.Join(eleven[:maxEndpoints], " ")},
		{[]string{"v=TLSRPTv1;rua=MAILTO:a@X.Example,HTTPS://X.example/A#frag"}, "mailto:a@x.example https://x.example/A"},
		{[]string{"v=TLSRPTv1;rua=mailto:a%2Cb@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a%2Bb@x.example"}, "mailto:a+b@x.example"},
		{[]string{"v=TLSRPTv1;rua=mailto:a%0d%0aRCPT@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:%22a%20b%22@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a@x.example?subject=boo"}, "mailto:a@x.example"},
		{[]string{"v=TLSRPTv1;rua=mailto://a@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a@b@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:@x.example,mailto:a@,mailto:a..b@x.example,mailto:a@[192.0.2.1]"}, ""},
		{[]string{"v=TLSRPTv1;rua=mailto:a@bücher.example"}, "mailto:a@xn--bcher-kva.example"},
		{[]string{"v=TLSRPTv1;rua=mailto:ä@x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=http://x.example/,ftp://x.example/,file:///etc/passwd,gopher://x.example/"}, ""},
		{[]string{"v=TLSRPTv1;rua=https://user:pw@x.example/,https:///path,https:x.example"}, ""},
		{[]string{"v=TLSRPTv1;rua=https://x.example/" + strings.Repeat("a", maxURI)}, ""},
		{[]string{"v=TLSRPTv1;rua=https://x.example/" + strings.Repeat(`"`, maxURI/2)}, ""},
		{[]string{"v=TLSRPTv1;rua=https://x.example/?\xff,https://x.example/?ü,https://x.example/ü"}, "https://x.example/%C3%BC"},
	} {
		var got []string
		for _, e := range Endpoints(test.texts) {
			got = append(got, e.URI)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%.100q: %q, want %q", test.texts, got, test.want)
		}
	}
}

func FuzzEndpoints(f *testing.F) {
	f.Add("v=TLSRPTv1;rua=mailto:reports@example.com", "v=spf1 -all")
	f.Add("v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt, mailto:a%2Bb@bücher.example?x=y; k=v", "")
	f.Add("v=TLSRPTv1;rua=mailto:%0d%0a@x.example,https://u@x.example", "v=TLSRPTv1;")
	f.Fuzz(func(t *testing.T, one, two string) {
		all := Endpoints([]string{one, two})
		if len(all) > maxEndpoints {
			t.Fatalf("%d endpoints", len(all))
		}
		for i, e := range all {
			if slices.Contains(all[:i], e) {
				t.Fatalf("%q twice", e)
			}
			if strings.ContainsFunc(e.Address, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"()[]:;,\`, r) }) {
				t.Fatalf("address %q", e.Address)
			}
			if e.Address == "" && !strings.HasPrefix(e.URI, "https://") || e.Address != "" && e.URI != "mailto:"+e.Address {
				t.Fatalf("%+v", e)
			}
			if len(e.URI) > maxURI || strings.ContainsFunc(e.URI, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Fatalf("URI %q", e.URI)
			}
		}
	})
}
