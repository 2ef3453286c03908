package delivery_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

type hostFunc = func(*world, string) mailtest.Behaviour

// TestOneBadHost: with one bad host of three, in each place, the message gets
// through, and the document names the bad one if it was tried.
func TestOneBadHost(t *testing.T) {
	t.Parallel()
	bad := map[string]struct {
		host   hostFunc
		reason tlsplan.Reason
	}{
		"no TLS":          {inClear(), tlsplan.TLSNotOffered},
		"expired":         {withCert(mailtest.Expired), tlsplan.CertificateExpired},
		"EOF":             {good(func(b *mailtest.Behaviour) { b.Greeting = "eof" }), tlsplan.ConnectionLost},
		"garbage":         {good(func(b *mailtest.Behaviour) { b.Greeting = "invalid" }), tlsplan.ConnectionLost},
		"554 greeting":    {good(func(b *mailtest.Behaviour) { b.Greeting = "554 5.3.2 go away" }), tlsplan.Connect},
		"421 to MAIL":     {good(reply("mail", "421 4.3.2 busy")), tlsplan.MailRejected},
		"451 to MAIL":     {good(reply("mail", "451 4.3.2 busy")), tlsplan.MailRejected},
		"EOF at MAIL":     {good(reply("mail", "eof")), tlsplan.ConnectionLost},
		"reset at RCPT":   {good(reply("rcpt", "reset")), tlsplan.ConnectionLost},
		"421 to RCPT":     {good(reply("rcpt", "421 4.3.2 busy")), tlsplan.RcptRejected},
		"endless EHLO":    {good(reply("ehlo", "endless")), tlsplan.ConnectionLost},
		"1 MB line":       {good(reply("ehlo", "longline")), tlsplan.ConnectionLost},
		"EHLO under TLS":  {good(reply("ehlo-tls", "eof")), tlsplan.TLSHandshake},
		"no such address": {nil, tlsplan.MXLookup},
		"refused":         {nil, tlsplan.Connect},
	}
	for name, tt := range bad {
		for place := range 3 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				hosts := []hostFunc{good(), good(), good()}
				if tt.host != nil {
					hosts[place] = tt.host
				}
				w := newWorld(t, settings(policy.Settings{RequireTLS: true}), hosts...)
				switch name {
				case "no such address":
					w.dns.Remove(hostName(place))
				case "refused":
					w.mx[place].Close()
				}
				if f := w.sendOne(); f != nil {
					t.Fatal(f)
				}
				a := w.last()
				if place == 0 {
					if len(a.Hosts) != 1 || a.Hosts[0].Host != hostName(0) || a.Hosts[0].Reason != tt.reason {
						t.Errorf("hosts %+v, want %s blamed for %s", a.Hosts, hostName(0), tt.reason)
					}
				} else if len(a.Hosts) != 0 || a.Connection.Host != hostName(0) {
					t.Errorf("hosts %+v, connection %+v", a.Hosts, a.Connection)
				}
				w.neverInClear()
			})
		}
	}
}

// TestWhoSpeaks: a temporary failure wins over permanent ones; among equals
// the most preferred host speaks.
func TestWhoSpeaks(t *testing.T) {
	t.Parallel()
	perm1 := good(func(b *mailtest.Behaviour) { b.Greeting = "554 5.3.1 one" })
	perm2 := good(func(b *mailtest.Behaviour) { b.Greeting = "554 5.3.2 two" })
	temp1 := good(func(b *mailtest.Behaviour) { b.Greeting = "421 4.3.1 one" })
	temp2 := good(func(b *mailtest.Behaviour) { b.Greeting = "421 4.3.2 two" })
	for _, tt := range []struct {
		name  string
		hosts []hostFunc
		want  string
	}{
		{"two permanent", []hostFunc{perm1, perm2}, "554 5.3.1 connect"},
		{"permanent, temporary", []hostFunc{perm1, temp2}, "421 4.3.2 connect"},
		{"temporary, permanent", []hostFunc{temp1, perm2}, "421 4.3.1 connect"},
		{"two temporary", []hostFunc{temp1, temp2}, "421 4.3.1 connect"},
		{"policy, permanent", []hostFunc{inClear(), perm2}, "451 4.7.4 tls-not-offered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, settings(policy.Settings{RequireTLS: true}), tt.hosts...)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if a := w.last(); len(a.Hosts) != 2 {
				t.Errorf("hosts %+v", a.Hosts)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(w *world)
		want   string
	}{
		{"null MX", func(w *world) { w.dns.Remove("example.net"); w.dns.MX("example.net", 0, ".") }, "556 5.1.10 null-mx"},
		{"no such domain", func(w *world) { w.dns.Remove("example.net") }, "550 5.1.2 mx-lookup"},
		{"implicit MX without address", func(w *world) { w.dns.Remove("example.net"); w.dns.Empty("example.net") }, "550 5.1.2 mx-lookup"},
		{"implicit MX", func(w *world) { w.dns.Remove("example.net"); w.dns.A("example.net", w.mx[0].IP()) }, "delivered"},
		{"CNAME", func(w *world) {
			w.dns.Remove("example.net")
			w.dns.CNAME("example.net", "other.test")
			w.dns.MX("other.test", 10, "mx1.test")
		}, "delivered"},
		{"CNAME loop", func(w *world) { w.dns.Remove("example.net"); w.dns.CNAME("example.net", "example.net") }, "451 4.4.3 mx-lookup"},
		{"MX host is an alias", func(w *world) {
			w.dns.Remove("example.net")
			w.dns.MX("example.net", 10, "alias.test")
			w.dns.CNAME("alias.test", "mx1.test")
		}, "delivered"},
		{"SERVFAIL", func(w *world) { w.dns.Fail("example.net", dns.RcodeServerFailure) }, "451 4.4.3 mx-lookup"},
		{"REFUSED", func(w *world) { w.dns.Fail("example.net", dns.RcodeRefused) }, "451 4.4.3 mx-lookup"},
		{"NOTIMP", func(w *world) { w.dns.Fail("example.net", dns.RcodeNotImplemented) }, "451 4.4.3 mx-lookup"},
		{"truncated for good", func(w *world) { w.dns.Truncate("example.net", true) }, "451 4.4.3 mx-lookup"},
		{"truncated, TCP works", func(w *world) { w.dns.Truncate("example.net", false) }, "delivered"},
		{"resolver down", func(w *world) { w.dns.Close() }, "451 4.4.3 mx-lookup"},
		{"SERVFAIL for the host", func(w *world) { w.dns.Fail("mx1.test", dns.RcodeServerFailure) }, "451 4.4.3 mx-lookup"},
		{"pointing at ourselves", func(w *world) { w.dns.Remove("example.net"); w.dns.MX("example.net", 10, "Relay.example.com") }, "554 5.4.6 mx-lookup"},
		{"ourselves as backup", func(w *world) { w.dns.MX("example.net", 20, "relay.example.com") }, "delivered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, inClear())
			tt.change(w)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestAddresses: every address of a host is tried, of both families.
func TestAddresses(t *testing.T) {
	t.Parallel()
	dead := func(w *world) string {
		// An address of the same network, where nobody listens.
		ip := net.ParseIP(w.mx[0].IP()).To4()
		ip[3] = 250
		return ip.String()
	}
	w := newWorld(t, nil, inClear())
	w.dns.Remove("mx1.test")
	w.dns.A("mx1.test", dead(w), w.mx[0].IP())
	if f := w.sendOne(); f != nil {
		t.Fatal(f)
	}

	t.Run("IPv6 dead, IPv4 alive", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, inClear())
		w.dns.A("mx1.test", "::1") // nobody listens there on this port
		if f := w.sendOne(); f != nil {
			t.Fatal(f)
		}
	})
	t.Run("IPv4 dead, IPv6 alive", func(t *testing.T) {
		t.Parallel()
		hosts, port, err := mailtest.NewMXsOn([]string{"::1"}, mailtest.Behaviour{})
		if err != nil {
			t.Skipf("SKIPPED: no IPv6 loopback here: %v", err)
		}
		defer hosts[0].Close()
		w := newWorld(t, func(c *delivery.Config) { c.Port = port }, inClear())
		w.dns.Remove("mx1.test")
		w.dns.A("mx1.test", dead(w), "::1")
		if f := w.sendOne(); f != nil {
			t.Fatal(f)
		}
		if a := w.last(); a.Connection.IP.String() != "::1" {
			t.Errorf("delivered to %v", a.Connection.IP)
		}
	})
	t.Run("force_ipv4", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *delivery.Config) { c.IPv4Only = true }, inClear())
		w.dns.A("mx1.test", "::1")
		if f := w.sendOne(); f != nil {
			t.Fatal(f)
		}
		for _, q := range w.dns.Queries() {
			if q == "AAAA mx1.test." {
				t.Error("asked for IPv6 addresses")
			}
		}
	})
}

// TestTimeouts: every phase has its own deadline, and running into it is a
// temporary failure with the reason timeout.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	short := func(c *delivery.Config) {
		c.Wire.Timeouts.Greeting, c.Wire.Timeouts.Command = 200*time.Millisecond, 200*time.Millisecond
		c.Wire.Timeouts.Body, c.Wire.Timeouts.Final = 200*time.Millisecond, 200*time.Millisecond
	}
	for step, host := range map[string]hostFunc{
		"greeting":    inClear(func(b *mailtest.Behaviour) { b.Greeting = "stall" }),
		"dribbled":    inClear(func(b *mailtest.Behaviour) { b.Greeting = "dribble" }),
		"ehlo":        inClear(reply("ehlo", "stall")),
		"mail":        inClear(reply("mail", "stall")),
		"rcpt":        inClear(reply("rcpt", "stall")),
		"data":        inClear(func(b *mailtest.Behaviour) { b.ExtensionsClear = []string{} }, reply("data", "stall")),
		"final":       inClear(reply("body", "stall")),
		"starttls":    good(func(b *mailtest.Behaviour) { b.STARTTLSReply = "stall" }),
		"second ehlo": good(reply("ehlo-tls", "stall")),
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *delivery.Config) {
				short(c)
				c.Policies = static(policy.Settings{RequireTLS: step == "starttls" || step == "second ehlo"})
			}, host)
			f := w.sendOne()
			switch {
			case step == "dribbled" && f == nil:
				// The greeting is short; all of it came in time.
			case f == nil || !f.Temporary():
				t.Errorf("%s", code(f))
			case f.Reason != tlsplan.Timeout && f.Reason != tlsplan.TLSHandshake:
				t.Errorf("%s, want a timeout", code(f))
			}
		})
	}
}

// TestCancelled: the context ends every wait, each recipient has its status,
// and nothing is left open.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for step, tt := range map[string]struct {
		host hostFunc
		last string // what the host has read when it falls silent
	}{
		"greeting":  {inClear(func(b *mailtest.Behaviour) { b.Greeting = "stall" }), ""},
		"ehlo":      {inClear(reply("ehlo", "stall")), "C: EHLO"},
		"starttls":  {good(func(b *mailtest.Behaviour) { b.STARTTLSReply = "stall" }), "C: STARTTLS"},
		"handshake": {good(func(b *mailtest.Behaviour) { b.Handshake = "stall" }), "C: STARTTLS"},
		"ehlo-tls":  {good(reply("ehlo-tls", "stall")), "T: EHLO"},
		"mail":      {good(reply("mail", "stall")), "T: MAIL"},
		"rcpt":      {good(reply("rcpt", "stall")), "T: RCPT"},
		"body":      {good(reply("body", "stall")), "T: BDAT"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, tt.host, tt.host)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			statuses := make(chan map[string]error, 1)
			go func() { statuses <- w.send(ctx, message("b@example.net")) }()
			w.eventually("the host falls silent", func() bool {
				s := w.mx[0].Sessions()
				if len(s) == 0 {
					return false
				}
				commands := s[0].Commands
				return tt.last == "" || len(commands) > 0 && strings.HasPrefix(commands[len(commands)-1], tt.last)
			})
			cancel()
			f := failure(t, (<-statuses)["b@example.net"])
			if f == nil || f.Code != 451 || f.Reason != tlsplan.Internal {
				t.Errorf("%s", code(f))
			}
			if n := w.mx[1].Connections(); n != 0 {
				t.Error("the next host was tried after the end")
			}
		})
	}
	t.Run("dns", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, nil, good())
		w.dns.Drop("example.net")
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		f := failure(t, w.send(ctx, message("b@example.net"))["b@example.net"])
		if f == nil || f.Code != 451 || f.Reason != tlsplan.Timeout {
			t.Errorf("%s", code(f))
		}
	})
}
