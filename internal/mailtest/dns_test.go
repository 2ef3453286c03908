package mailtest_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

func newDNS(t *testing.T) *mailtest.DNS {
	t.Helper()
	d, err := mailtest.NewDNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ask sends one query with the AD bit over udp or tcp.
func ask(t *testing.T, d *mailtest.DNS, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	query.AuthenticatedData = true
	query.SetEdns0(1232, false)
	client := &dns.Client{Net: network, Timeout: 10 * time.Second}
	reply, _, err := client.Exchange(query, d.Addr())
	if err != nil {
		t.Fatalf("%s %s over %s: %v", dns.TypeToString[qtype], name, network, err)
	}
	return reply
}

// texts renders answers without TTL.
func texts(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.TrimPrefix(strings.ReplaceAll(rr.String(), "\t", " "), rr.Header().Name+" "))
	}
	return out
}

func TestDNSAnswers(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("Example.net", 20, "mx2.example.net")
	d.MX("example.net.", 10, "mx1.example.net.")
	d.A("mx1.example.net", "192.0.2.1", "2001:db8::1")
	d.TXT("_mta-sts.example.net", "v=STSv1; id=1")
	d.TLSA("_25._tcp.mx1.example.net", 3, 1, 1, []byte{0xab, 0xcd})
	d.CNAME("alias.example.net", "example.net")
	d.Empty("empty.example.net")
	for _, c := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"example.net", dns.TypeMX, []string{"300 IN MX 20 mx2.example.net.", "300 IN MX 10 mx1.example.net."}},
		{"EXAMPLE.net", dns.TypeA, nil},
		{"mx1.example.net", dns.TypeA, []string{"300 IN A 192.0.2.1"}},
		{"mx1.example.net", dns.TypeAAAA, []string{"300 IN AAAA 2001:db8::1"}},
		{"_mta-sts.example.net", dns.TypeTXT, []string{`300 IN TXT "v=STSv1; id=1"`}},
		{"_25._tcp.mx1.example.net", dns.TypeTLSA, []string{"300 IN TLSA 3 1 1 abcd"}},
		{"empty.example.net", dns.TypeA, nil},
		{"alias.example.net", dns.TypeMX, []string{
			"300 IN CNAME example.net.", "300 IN MX 20 mx2.example.net.", "300 IN MX 10 mx1.example.net."}},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply := ask(t, d, network, c.name, c.qtype)
			if reply.Rcode != dns.RcodeSuccess {
				t.Errorf("%s: %s", c.name, dns.RcodeToString[reply.Rcode])
			}
			if diff := cmp.Diff(c.want, texts(reply.Answer)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}
	reply := ask(t, d, "udp", "none.example.net", dns.TypeMX)
	if reply.Rcode != dns.RcodeNameError || len(reply.Ns) != 1 || reply.Ns[0].Header().Rrtype != dns.TypeSOA {
		t.Errorf("unknown name: %s", reply)
	}
	d.Remove("mx1.example.net")
	if reply := ask(t, d, "udp", "mx1.example.net", dns.TypeA); reply.Rcode != dns.RcodeNameError {
		t.Errorf("removed name: %s", reply)
	}
	queries := d.Queries()
	if queries[0] != "MX example.net." || queries[len(queries)-1] != "A mx1.example.net." {
		t.Errorf("queries: %q", queries)
	}
}

func TestDNSAuthentic(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	d.MX("signed.example", 10, "mx.signed.example")
	d.Authentic("signed.example")
	d.Authentic("nothing.example")
	d.CNAME("half.example", "signed.example")
	for name, want := range map[string]bool{
		"signed.example": true, "nothing.example": true, "half.example": false, "plain.example": false,
	} {
		if got := ask(t, d, "udp", name, dns.TypeMX).AuthenticatedData; got != want {
			t.Errorf("%s: AD is %v", name, got)
		}
	}
	client := &dns.Client{Timeout: 10 * time.Second}
	plain := new(dns.Msg).SetQuestion("signed.example.", dns.TypeMX)
	if reply, _, err := client.Exchange(plain, d.Addr()); err != nil || reply.AuthenticatedData {
		t.Errorf("AD unasked: %v %v", reply, err)
	}
	if reply, _, err := client.Exchange(plain.SetEdns0(1232, true), d.Addr()); err != nil || !reply.AuthenticatedData {
		t.Errorf("no AD with DO: %v %v", reply, err)
	}
	d.SetAuthenticated(true)
	if !ask(t, d, "tcp", "plain.example", dns.TypeMX).AuthenticatedData {
		t.Error("SetAuthenticated(true) has no effect")
	}
}

func TestDNSFaults(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for _, name := range []string{"fail", "part", "tc", "tctcp", "drop", "bad", "ok"} {
		d.A(name+".example", "192.0.2.7")
	}
	d.Fail("fail.example", dns.RcodeServerFailure)
	d.FailType("part.example", dns.TypeAAAA, dns.RcodeRefused)
	d.CNAME("tofail.example", "fail.example")
	d.CNAME("loop.example", "loop2.example")
	d.CNAME("loop2.example", "loop.example")
	d.CNAME("short.example", "ok.example")
	d.NoChase("short.example")
	d.Truncate("tc.example", false)
	d.Truncate("tctcp.example", true)
	d.Drop("drop.example")
	d.Malformed("bad.example")

	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"fail.example", dns.TypeA, dns.RcodeServerFailure, 0},
		{"tofail.example", dns.TypeA, dns.RcodeServerFailure, 0},
		{"part.example", dns.TypeA, dns.RcodeSuccess, 1},
		{"part.example", dns.TypeAAAA, dns.RcodeRefused, 0},
		{"loop.example", dns.TypeA, dns.RcodeSuccess, 2},
		{"short.example", dns.TypeA, dns.RcodeSuccess, 1},
	} {
		reply := ask(t, d, "udp", c.name, c.qtype)
		if reply.Rcode != c.rcode || len(reply.Answer) != c.answers {
			t.Errorf("%s %s: %s", dns.TypeToString[c.qtype], c.name, reply)
		}
	}
	if reply := ask(t, d, "udp", "tc.example", dns.TypeA); !reply.Truncated || len(reply.Answer) != 0 {
		t.Errorf("UDP: %s", reply)
	}
	if reply := ask(t, d, "tcp", "tc.example", dns.TypeA); reply.Truncated || len(reply.Answer) != 1 {
		t.Errorf("TCP: %s", reply)
	}
	exchange := func(network, name string, patience time.Duration) error {
		client := &dns.Client{Net: network, Timeout: patience}
		_, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), d.Addr())
		return err
	}
	if err := exchange("tcp", "tctcp.example.", 10*time.Second); err == nil {
		t.Error("TCP answers in spite of tcpToo")
	}
	if err := exchange("udp", "bad.example.", 10*time.Second); err == nil {
		t.Error("a malformed packet is parsed")
	}
	var timeout net.Error
	if err := exchange("udp", "drop.example.", 100*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("dropped query: %v", err)
	}
	d.Fail("fail.example", dns.RcodeSuccess)
	if reply := ask(t, d, "udp", "fail.example", dns.TypeA); len(reply.Answer) != 1 {
		t.Errorf("after taking the failure back: %s", reply)
	}
}

// An answer too large for the client's buffer is truncated without being told.
func TestDNSLargeAnswer(t *testing.T) {
	t.Parallel()
	d := newDNS(t)
	for i := range 60 {
		d.MX("many.example", uint16(i), fmt.Sprintf("%d%s.example", i, strings.Repeat("x", 40)))
	}
	if err := d.Add("odd.example. 60 IN SPF \"x\""); err != nil {
		t.Error(err)
	}
	if d.Add("nonsense") == nil || d.Add("; comment") == nil {
		t.Error("nonsense is accepted as a record")
	}
	if reply := ask(t, d, "udp", "many.example", dns.TypeMX); !reply.Truncated {
		t.Error("not truncated over UDP")
	}
	if reply := ask(t, d, "tcp", "many.example", dns.TypeMX); len(reply.Answer) != 60 {
		t.Errorf("%d records over TCP", len(reply.Answer))
	}
}
