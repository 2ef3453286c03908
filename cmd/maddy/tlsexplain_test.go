package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"tlscontrol/internal/mailtest"
)

// serve: starts a resolver and MX hosts, and writes the roots to ca.pem. The resolver is $DNS, the port of the hosts
// $PORT. mx1.example.net of example.net has a good certificate, mx2.example.net one signed by itself. The same hosts
// serve signed.test as mx1.signed.test and mx2.signed.test, where everything is signed and mx2 has a TLSA record that
// proves its certificate, and mx1 one that does not. They serve sts.test too, whose MTA-STS policy, from a host with the
// port $STS, is about mx1.example.net alone. clear.test has a host without STARTTLS, down.test one where nobody
// listens, silent.test is not answered for. The policy host of slow.test does not say a word.
func serve(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: serve")
	}
	ca, err := mailtest.NewCA()
	ts.Check(err)
	ts.Check(ca.WriteFile(ts.MkAbs("ca.pem")))
	resolver, err := mailtest.NewDNS()
	ts.Check(err)
	ts.Defer(func() { resolver.Close() })
	good, err := ca.Issue(mailtest.Good, "mx1.example.net", "mx1.signed.test")
	ts.Check(err)
	self, err := ca.Issue(mailtest.SelfSigned, "mx2.example.net", "mx2.signed.test")
	ts.Check(err)
	hosts, port, err := mailtest.NewMXs(3,
		mailtest.Behaviour{Certificate: &good}, mailtest.Behaviour{Certificate: &self}, mailtest.Behaviour{})
	ts.Check(err)
	for _, h := range hosts {
		ts.Defer(func() { h.Close() })
	}
	for i, domain := range []string{"example.net", "signed.test"} {
		for n, h := range hosts[:2] {
			name := fmt.Sprintf("mx%d.%s", n+1, domain)
			resolver.A(name, h.IP())
			resolver.MX(domain, uint16(10*(n+1)), name)
			if i == 1 {
				of := sha256.Sum256(self.Leaf.RawSubjectPublicKeyInfo)
				tlsa := fmt.Sprintf("_%d._tcp.%s", port, name)
				resolver.TLSA(tlsa, 3, 1, 1, of[:])
				resolver.Authentic(tlsa)
				resolver.Authentic(name)
			}
		}
	}
	resolver.Authentic("signed.test")
	resolver.A("clear.test", hosts[2].IP())
	resolver.MX("clear.test", 10, "clear.test")
	resolver.A("down.test", "127.255.255.254")
	resolver.MX("down.test", 10, "down.test")
	resolver.Fail("silent.test", 2)
	for n := range 2 {
		resolver.MX("sts.test", uint16(20-10*n), fmt.Sprintf("mx%d.example.net", n+1))
	}
	policies, err := mailtest.NewSTS(ca)
	ts.Check(err)
	ts.Defer(func() { policies.Close() })
	resolver.A("mta-sts.sts.test", policies.IP())
	resolver.TXT("_mta-sts.sts.test", "v=STSv1; id=20261126;")
	policies.Serve("sts.test", mailtest.STSPage{
		Body: "version: STSv1\r\nmode: enforce\r\nmax_age: 86400\r\nmx: mx1.example.net\r\n",
	})
	resolver.MX("slow.test", 10, "mx1.example.net")
	resolver.TXT("_mta-sts.slow.test", "v=STSv1; id=20261126;")
	silent, err := net.Listen("tcp", net.JoinHostPort("127.66.0.9", strconv.Itoa(policies.Port())))
	ts.Check(err)
	ts.Defer(func() { silent.Close() })
	resolver.A("mta-sts.slow.test", "127.66.0.9")
	ts.Setenv("STS", strconv.Itoa(policies.Port()))
	ts.Setenv("DNS", resolver.Addr())
	ts.Setenv("PORT", strconv.Itoa(port))
}
