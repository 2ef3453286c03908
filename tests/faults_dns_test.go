package tests

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlscontrol/internal/mailtest"
)

// TestFaultsOfDNS: a domain is given up only if its DNS says for certain that no
// mail can go there; whatever else goes wrong is tried again.
func TestFaultsOfDNS(t *testing.T) {
	t.Parallel()
	const (
		deferred = "failed temporary 451 mx-lookup"
		gone     = "failed permanent 550 mx-lookup"
	)
	sound := []faultHost{faultyTLS(mailtest.Behaviour{})}
	var faults []fault
	delivered := func(name string, zone func(z zone)) {
		faults = append(faults, fault{name: name, strict: true, hosts: sound, zone: zone, want: "delivered 250", verified: true})
	}
	failed := func(name, want string, zone func(z zone)) {
		faults = append(faults, fault{name: name, hosts: sound, zone: zone, want: want})
	}
	for name, rcode := range map[string]int{"SERVFAIL": dns.RcodeServerFailure, "REFUSED": dns.RcodeRefused, "NOTIMP": dns.RcodeNotImplemented} {
		failed(name, deferred, func(z zone) {
			z.MX(z.domain, 10, z.hosts[0])
			z.Fail(z.domain, rcode)
		})
		failed(name+" for the host", deferred, func(z zone) {
			z.MX(z.domain, 10, z.hosts[0])
			z.Fail(z.hosts[0], rcode)
		})
	}
	failed("no answer", deferred, func(z zone) {
		z.MX(z.domain, 10, z.hosts[0])
		z.Drop(z.domain)
	})
	failed("malformed answer", deferred, func(z zone) {
		z.MX(z.domain, 10, z.hosts[0])
		z.Malformed(z.domain)
	})
	failed("truncated over UDP, closed over TCP", deferred, func(z zone) {
		z.MX(z.domain, 10, z.hosts[0])
		z.Truncate(z.domain, true)
	})
	delivered("truncated over UDP", func(z zone) {
		z.MX(z.domain, 10, z.hosts[0])
		z.Truncate(z.domain, false)
	})
	failed("null MX", "failed permanent 556 null-mx", func(z zone) {
		z.MX(z.domain, 0, ".")
	})
	delivered("null MX beside another", func(z zone) {
		z.MX(z.domain, 0, ".")
		z.MX(z.domain, 10, z.hosts[0])
	})
	failed("no such domain", gone, func(zone) {})
	failed("no MX and no address", gone, func(z zone) { z.Empty(z.domain) })
	faults = append(faults, fault{name: "no MX", hosts: []faultHost{faultyClear(mailtest.Behaviour{})},
		zone: func(z zone) { z.A(z.domain, z.ips[0]) },
		want: "delivered 250", fallback: "tls-not-offered"})
	failed("MX host without address", deferred, func(z zone) {
		z.MX(z.domain, 10, "nowhere.test")
	})
	failed("MX host that is no name", deferred, func(z zone) {
		z.MX(z.domain, 10, "127.0.0.1")
	})
	delivered("alias", func(z zone) {
		z.CNAME(z.domain, "alias.of."+z.domain)
		z.MX("alias.of."+z.domain, 10, z.hosts[0])
	})
	failed("alias of itself", deferred, func(z zone) { z.CNAME(z.domain, z.domain) })
	failed("aliases in a circle", deferred, func(z zone) {
		z.CNAME(z.domain, "a."+z.domain)
		z.CNAME("a."+z.domain, z.domain)
	})
	failed("MX pointing at ourselves", "failed permanent 554 mx-lookup", func(z zone) {
		z.MX(z.domain, 10, "RELAY.example.com")
	})
	delivered("ourselves behind another", func(z zone) {
		z.MX(z.domain, 10, z.hosts[0])
		z.MX(z.domain, 20, "relay.example.com")
	})
	startFaults(t, blocks{target: patient}, faults...).run()
}

// TestOneBadHostOfThree: with one bad host of three, in each place, the message
// gets through, and the document names the bad one exactly if it was tried.
func TestOneBadHostOfThree(t *testing.T) {
	t.Parallel()
	bad := []struct {
		name   string
		host   faultHost
		reason string
	}{
		{"no STARTTLS", faultyClear(mailtest.Behaviour{}), "tls-not-offered"},
		{"454", faultyTLS(mailtest.Behaviour{STARTTLSReply: "454 4.7.0 not now"}), "tls-rejected"},
		{"broken handshake", faultyTLS(mailtest.Behaviour{Handshake: "garbage"}), "tls-handshake"},
		{"expired", faultHost{cert: mailtest.Expired}, "certificate-expired"},
		{"EOF", faultyTLS(answering("greeting", "eof")), "connection-lost"},
		{"554", faultyTLS(answering("greeting", "554 5.3.2 go away")), "connect"},
		{"421 to MAIL", faultyTLS(answering("mail", "421 4.3.2 busy")), "mail-rejected"},
		{"451 to MAIL", faultyTLS(answering("mail", "451 4.3.2 busy")), "mail-rejected"},
		{"reset at RCPT", faultyTLS(answering("rcpt", "reset")), "connection-lost"},
		{"no address", faultyTLS(mailtest.Behaviour{}), "mx-lookup"},
		{"SERVFAIL", faultyTLS(mailtest.Behaviour{}), "mx-lookup"},
		{"refuses connections", faultyTLS(mailtest.Behaviour{}), "connect"},
	}
	var faults []fault
	for _, b := range bad {
		for place := range 3 {
			hosts := []faultHost{faultyTLS(mailtest.Behaviour{}), faultyTLS(mailtest.Behaviour{}), faultyTLS(mailtest.Behaviour{})}
			hosts[place] = b.host
			faults = append(faults, fault{name: b.name, strict: true, hosts: hosts, want: "delivered 250", verified: true,
				zone: func(z zone) {
					for j := range hosts {
						z.MX(z.domain, uint16(10*(j+1)), z.hosts[j])
					}
					switch b.name {
					case "no address":
						z.Remove(z.hosts[place])
						z.Empty(z.hosts[place])
					case "SERVFAIL":
						z.Fail(z.hosts[place], dns.RcodeServerFailure)
					case "refuses connections":
						z.Remove(z.hosts[place])
						z.A(z.hosts[place], z.nobody)
					}
				}})
		}
	}
	s := startFaults(t, blocks{target: patient}, faults...)
	s.run()
	for i, f := range faults {
		want, reason := host(s.first[i]), any(nil)
		if i%3 == 0 { // the most preferred host is the bad one
			want, reason = host(s.first[i]+1), bad[i/3].reason
		}
		d := s.documentOf("b@" + s.domain(i))
		given, _ := d.get("delivery-status.hosts").([]any)
		if d.get("delivery-status.mx-host") != want || len(given) > 1 || (len(given) == 1) != (reason != nil) {
			t.Errorf("%s in place %d: %v", f.name, i%3, d)
			continue
		}
		if len(given) == 1 {
			if h := document(given[0].(map[string]any)); h["mx-host"] != host(s.first[i]) || h["reason"] != reason {
				t.Errorf("%s: %v", f.name, h)
			}
		}
	}
}

// TestResolverDown: as long as one resolver answers nobody notices that another
// is down; without any, everything is deferred but mail to where the way is known.
func TestResolverDown(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{})
	second, err := mailtest.NewDNSAt(s.ip)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	second.A(host(0), s.mx[0].IP())
	for _, name := range []string{"one.test", "two.test", "three.test"} {
		s.dns.MX(name, 10, host(0))
		second.MX(name, 10, host(0))
	}
	s.config(blocks{endpoints: twoDoors})
	s.configText(strings.Replace(s.conf, "resolver "+s.dns.Addr(), "resolver {dns} "+second.Addr(), 1))
	s.start()
	none := func() error { return nil }
	for i, step := range []struct {
		name   string
		do     func() error
		domain string
		want   string
	}{
		{"both up", none, "one.test", "delivered 250"},
		{"first down", s.dns.Close, "two.test", "delivered 250"},
		{"both down", second.Close, "three.test", "failed temporary 451 mx-lookup"},
		{"both down, within the TTL", none, "one.test", "delivered 250"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		// The document tells.
		_ = s.submit(mail{to: []string{"b@" + step.domain}, anonymous: true, port: atTarget})
		if d := s.lastDocument(i + 1); d.status() != step.want {
			t.Errorf("%s: %v", step.name, d)
		}
	}
	if n := len(s.mx[0].Messages()); n != 3 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestAddressFamilies: a host whose address of one family is dead is reached by
// the other.
func TestAddressFamilies(t *testing.T) {
	t.Parallel()
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("SKIPPED: no IPv6 loopback here, so that nothing is known of mail over IPv6: %v", err)
	} else {
		l.Close()
	}
	s := newServer(t)
	alive, port, err := mailtest.NewMXsOn([]string{s.ip, "::1"}, mailtest.Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	s.mx, s.port = alive, port
	for _, m := range alive {
		t.Cleanup(func() { m.Close() })
	}
	dead := net.ParseIP(s.ip).To4()
	dead[3] = 250 // of the same network, where nobody listens
	s.dns.A("four.test", dead.String(), "::1")
	s.dns.A("six.test", "::2", s.ip)
	for _, name := range []string{"four.test", "six.test"} {
		s.dns.MX(name, 10, name)
	}
	s.config(blocks{endpoints: twoDoors, target: "connect_timeout 8s"})
	s.start()
	for name, ip := range map[string]string{"four.test": "::1", "six.test": s.ip} {
		s.mustSubmit(mail{to: []string{"b@" + name}, anonymous: true, port: atTarget})
		for _, d := range s.readLog() {
			if d["recipient-domain"] == name && (d.status() != "delivered 250" || d.get("delivery-status.mx-ip") != ip) {
				t.Errorf("%s: document %v", name, d)
			}
		}
	}
	for i, m := range s.mx {
		if n := len(m.Messages()); n != 1 {
			t.Errorf("host %d got %d messages", i, n)
		}
	}
}
