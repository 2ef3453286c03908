package delivery_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// withDANE makes TLSA records count.
func withDANE(more ...func(*delivery.Config)) func(*delivery.Config) {
	return func(c *delivery.Config) {
		c.DANE = true
		for _, change := range more {
			change(c)
		}
	}
}

// association is the data of a TLSA record.
func association(selector, matching uint8, c *x509.Certificate) []byte {
	data := c.Raw
	if selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		return sum[:]
	case 2:
		sum := sha512.Sum512(data)
		return sum[:]
	}
	return data
}

// publish adds a TLSA record for the port at a name.
func (w *world) publish(name string, usage, selector, matching uint8, c *x509.Certificate) {
	w.dns.TLSA(w.tlsaName(name), usage, selector, matching, association(selector, matching, c))
}

func (w *world) tlsaName(name string) string {
	return fmt.Sprintf("_%d._tcp.%s", w.mx[0].Port(), name)
}

// shows is the certificate that a host with this index shows.
type shows struct{ cert tls.Certificate }

// host is a host whose certificate the test knows, with the authority sent along.
func (s *shows) host(kind mailtest.Kind, names ...string) hostFunc {
	return func(w *world, host string) mailtest.Behaviour {
		if names == nil {
			names = []string{host}
		}
		cert, err := w.ca.Issue(kind, names...)
		if err != nil {
			w.Fatal(err)
		}
		s.cert = cert
		cert.Certificate = append(slices.Clone(cert.Certificate), w.ca.Root().Raw)
		return mailtest.Behaviour{Certificate: &cert}
	}
}

// TestDANEMatrix on real sockets: usages, selectors and matching types against
// hosts with good and bad certificates. Whatever it is, it takes one connection,
// and a certificate that is proved is good, whoever signed it.
func TestDANEMatrix(t *testing.T) {
	t.Parallel()
	kinds := []mailtest.Kind{mailtest.Good, mailtest.SelfSigned, mailtest.Expired, mailtest.WrongName}
	for _, kind := range kinds {
		for usage := range uint8(4) {
			for selector := range uint8(2) {
				for matching := range uint8(3) {
					for _, right := range []bool{true, false} {
						t.Run(fmt.Sprintf("%s %d %d %d %v", kind, usage, selector, matching, right), func(t *testing.T) {
							t.Parallel()
							var s shows
							w := newWorld(t, withDANE(), s.host(kind))
							w.dns.SetAuthenticated(true)
							of := s.cert.Leaf
							if usage == 0 || usage == 2 {
								of = w.ca.Root()
							}
							if !right {
								of = w.ca.Intermediate()
							}
							w.publish(hostName(0), usage, selector, matching, of)
							want, verification := "451 4.7.5 dane-mismatch", tlsplan.VerifiedNone
							switch {
							case usage < 2: // not for SMTP: any certificate does
								want = "delivered"
								if kind == mailtest.Good {
									verification = tlsplan.VerifiedPKIX
								}
							case usage == 2 && right && kind == mailtest.Good:
								want, verification = "delivered", tlsplan.VerifiedDANETA
							case usage == 3 && right:
								want, verification = "delivered", tlsplan.VerifiedDANEEE
							}
							if got := code(w.sendOne()); got != want {
								t.Errorf("%s, want %s", got, want)
							}
							w.neverInClear()
							if n := w.mx[0].Connections(); n != 1 {
								t.Errorf("%d connections", n)
							}
							a := w.last()
							o := a.Connection.Outcome
							if o.Verification != verification || o.Verified() != (verification != tlsplan.VerifiedNone) || o.Certificate == nil {
								t.Errorf("outcome %+v, want %s", o, verification)
							}
							if !slices.Equal(a.Plan.Floors, []tlsplan.Floor{tlsplan.FloorDANE}) {
								t.Errorf("floors %v", a.Plan.Floors)
							}
							demand := tlsplan.DemandDANE
							if usage < 2 {
								demand = tlsplan.DemandTLS
							}
							if a.Plan.Demand != demand {
								t.Errorf("demanded %s, want %s", a.Plan.Demand, demand)
							}
							if usage >= 2 && want == "delivered" && (a.Fallback != "" || o.Problem != nil) {
								t.Errorf("fallback %q, problem %v", a.Fallback, o.Problem)
							}
							w.checkSecured(want != "delivered", usage < 2)
						})
					}
				}
			}
		}
	}
}

// checkSecured: observers hear of the one connection and its records.
func (w *world) checkSecured(mismatch, unusable bool) {
	w.Helper()
	if len(w.rec.secured) != 1 {
		w.Fatalf("%d connections were told of", len(w.rec.secured))
	}
	s := w.rec.secured[0]
	if s.Domain != "example.net" || s.MXHost != hostName(0) || s.MXIP.String() != w.mx[0].IP() || !s.LocalIP.IsValid() || s.STS != nil {
		w.Errorf("told %+v", s)
	}
	if len(s.TLSA) != 1 || s.TLSABase != hostName(0) || s.TLSAUnusable != unusable {
		w.Errorf("records %q at %q, unusable %v", s.TLSA, s.TLSABase, s.TLSAUnusable)
	}
	if (s.Problem != nil) != mismatch || mismatch && s.Problem.Reason != tlsplan.DANEMismatch {
		w.Errorf("problem %v", s.Problem)
	}
}

// TestDANELookups: which answers turn DANE on, which leave it off, and which
// keep the host from being used.
func TestDANELookups(t *testing.T) {
	t.Parallel()
	host := hostName(0)
	for name, c := range map[string]struct {
		zone  func(w *world)
		want  string
		floor bool
	}{
		"all signed":                      {func(w *world) { w.dns.SetAuthenticated(true) }, "delivered", true},
		"the MX record is not signed":     {func(w *world) { w.dns.Authentic(host); w.dns.Authentic(w.tlsaName(host)) }, "delivered", true},
		"the records are not signed":      {func(w *world) { w.dns.Authentic(host) }, "delivered", false},
		"the addresses are not signed":    {func(w *world) { w.dns.Authentic(w.tlsaName(host)) }, "delivered", false},
		"nothing is signed":               {func(*world) {}, "delivered", false},
		"nothing is signed, lookups fail": {func(w *world) { w.dns.Fail(w.tlsaName(host), dns.RcodeServerFailure) }, "delivered", false},
		"signed, no records":              {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Remove(w.tlsaName(host)) }, "delivered", false},
		"signed, no records of this type": {func(w *world) {
			w.dns.SetAuthenticated(true)
			w.dns.Remove(w.tlsaName(host))
			w.dns.Empty(w.tlsaName(host))
		}, "delivered", false},
		"signed, SERVFAIL":               {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Fail(w.tlsaName(host), dns.RcodeServerFailure) }, "451 4.4.3 dane-lookup", false},
		"signed, REFUSED":                {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Fail(w.tlsaName(host), dns.RcodeRefused) }, "451 4.4.3 dane-lookup", false},
		"signed, a malformed answer":     {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Malformed(w.tlsaName(host)) }, "451 4.4.3 dane-lookup", false},
		"signed, cut, and TCP fails":     {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Truncate(w.tlsaName(host), true) }, "451 4.4.3 dane-lookup", false},
		"signed, the addresses SERVFAIL": {func(w *world) { w.dns.SetAuthenticated(true); w.dns.Fail(host, dns.RcodeServerFailure) }, "451 4.4.3 mx-lookup", false},
		"signed, IPv6 addresses SERVFAIL": {func(w *world) {
			w.dns.SetAuthenticated(true)
			w.dns.FailType(host, dns.TypeAAAA, dns.RcodeServerFailure)
		}, "delivered", true},
		"an alias, records at its target":  {alias(true, true), "delivered", true},
		"a signed alias of something else": {alias(true, false), "delivered", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s shows
			w := newWorld(t, withDANE(settings(policy.Settings{OnFailure: policy.Reject})), s.host(mailtest.SelfSigned))
			w.publish(host, 3, 1, 1, s.cert.Leaf)
			c.zone(w)
			if strings.Contains(name, "alias") {
				w.publish("target.test", 3, 1, 1, s.cert.Leaf)
			}
			got := code(w.sendOne())
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			a := w.last()
			if a.Plan.HasFloor(tlsplan.FloorDANE) != c.floor {
				t.Errorf("plan %+v", a.Plan)
			}
			if c.floor && a.Connection.Outcome.Verification != tlsplan.VerifiedDANEEE {
				t.Errorf("outcome %+v", a.Connection.Outcome)
			}
			if c.floor {
				w.neverInClear()
			}
			if got != "delivered" && w.mx[0].Connections() != 0 {
				t.Error("the host was dialled")
			}
			if strings.Contains(got, "dane-lookup") {
				if s := w.rec.secured; len(s) != 1 || s[0].Problem.Reason != tlsplan.DANELookup || s[0].Err == nil || s[0].MXHost != host {
					t.Errorf("told %+v", s)
				}
			}
		})
	}
}

// alias makes the host an alias of target.test.
func alias(signed, targetSigned bool) func(*world) {
	return func(w *world) {
		host := hostName(0)
		w.dns.Remove(host)
		w.dns.CNAME(host, "target.test")
		w.dns.A("target.test", w.mx[0].IP())
		for _, name := range []string{host, w.tlsaName(host)} {
			if signed {
				w.dns.Authentic(name)
			}
		}
		for _, name := range []string{"target.test", w.tlsaName("target.test")} {
			if targetSigned {
				w.dns.Authentic(name)
			}
		}
	}
}

// TestDANENames: for which names a certificate may be that an authority of the
// host's choice has signed (RFC 7672, section 3.2.3), and which name it is asked
// for.
func TestDANENames(t *testing.T) {
	t.Parallel()
	host := hostName(0)
	for _, c := range []struct {
		name    string // in the certificate
		insecMX bool
		alias   bool
		want    bool
	}{
		{name: host, want: true},
		{name: "example.net", want: true},
		{name: "example.net", insecMX: true},
		{name: host, insecMX: true, want: true},
		{name: "elsewhere.test"},
		{name: "target.test", alias: true, want: true},
		{name: host, alias: true, want: true},
		{name: "target.test", alias: true, insecMX: true, want: true},
		{name: "example.net", alias: true, want: true},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			t.Parallel()
			var s shows
			w := newWorld(t, withDANE(), s.host(mailtest.Good, c.name))
			base := host
			if c.alias {
				alias(true, true)(w)
				base = "target.test"
			}
			w.publish(base, 2, 0, 1, w.ca.Root())
			if c.insecMX {
				w.dns.Authentic(base)
				w.dns.Authentic(host)
				w.dns.Authentic(w.tlsaName(base))
			} else {
				w.dns.SetAuthenticated(true)
			}
			want := "451 4.7.5 dane-mismatch"
			if c.want {
				want = "delivered"
			}
			if got := code(w.sendOne()); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if sni := w.mx[0].Sessions()[0].SNI; sni != base {
				t.Errorf("asked for %q, want %q", sni, base)
			}
		})
	}
}

// TestDANEOverSettings: what the host publishes is demanded of it whatever the
// sender asked for, and nothing else is.
func TestDANEOverSettings(t *testing.T) {
	t.Parallel()
	for _, s := range []policy.Settings{
		{}, {Fallback: policy.Unverified}, {SkipVerification: true}, {RequireTLS: true}, {RequireTLS: true, SkipVerification: true},
	} {
		for _, c := range []struct {
			host func(*shows) hostFunc
			want string
		}{
			{func(s *shows) hostFunc { return s.host(mailtest.Expired) }, "delivered"},
			{func(s *shows) hostFunc {
				return func(w *world, host string) mailtest.Behaviour {
					s.host(mailtest.Good)(w, host)
					return good()(w, host) // another one than is published
				}
			}, "451 4.7.5 dane-mismatch"},
			{func(s *shows) hostFunc {
				return func(w *world, host string) mailtest.Behaviour {
					s.host(mailtest.Good)(w, host)
					return mailtest.Behaviour{}
				}
			}, "451 4.7.4 tls-not-offered"},
			{func(s *shows) hostFunc {
				return func(w *world, host string) mailtest.Behaviour {
					b := s.host(mailtest.Good)(w, host)
					b.Handshake = "garbage"
					return b
				}
			}, "451 4.7.5 tls-handshake"},
		} {
			t.Run(fmt.Sprintf("%+v %s", s, c.want), func(t *testing.T) {
				t.Parallel()
				var seen shows
				w := newWorld(t, withDANE(settings(s)), c.host(&seen))
				w.dns.SetAuthenticated(true)
				w.publish(hostName(0), 3, 1, 1, seen.cert.Leaf)
				if got := code(w.sendOne()); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				w.neverInClear()
				if n := w.mx[0].Connections(); n != 1 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

// TestDANEAmongHosts: records of one host say nothing of another, and a host
// whose records cannot be looked up is passed over.
func TestDANEAmongHosts(t *testing.T) {
	t.Parallel()
	t.Run("mismatch at the first", func(t *testing.T) {
		t.Parallel()
		var first, second shows
		w := newWorld(t, withDANE(), first.host(mailtest.Good), second.host(mailtest.Good))
		w.dns.SetAuthenticated(true)
		w.publish(hostName(0), 3, 1, 1, second.cert.Leaf)
		if got := code(w.sendOne()); got != "delivered" {
			t.Error(got)
		}
		a := w.last()
		if a.Connection.Host != hostName(1) || a.Connection.Outcome.Verification != tlsplan.VerifiedPKIX || a.Plan.HasFloor(tlsplan.FloorDANE) {
			t.Errorf("%+v under %+v", a.Connection, a.Plan)
		}
		if len(a.Hosts) != 1 || a.Hosts[0].Reason != tlsplan.DANEMismatch {
			t.Errorf("hosts %+v", a.Hosts)
		}
	})
	t.Run("lookup fails at the first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, withDANE(), good(), good())
		w.dns.SetAuthenticated(true)
		w.dns.Fail(w.tlsaName(hostName(0)), dns.RcodeServerFailure)
		if got := code(w.sendOne()); got != "delivered" || w.mx[0].Connections() != 0 {
			t.Error(got)
		}
		if a := w.last(); len(a.Hosts) != 1 || a.Hosts[0].Reason != tlsplan.DANELookup {
			t.Errorf("hosts %+v", a.Hosts)
		}
	})
	t.Run("the document has the plan of the host that speaks", func(t *testing.T) {
		t.Parallel()
		var first shows
		w := newWorld(t, withDANE(settings(policy.Settings{RequireTLS: true})), first.host(mailtest.Good), withCert(mailtest.Expired))
		w.dns.SetAuthenticated(true)
		w.publish(hostName(0), 3, 1, 1, w.ca.Root())
		if got := code(w.sendOne()); got != "451 4.7.5 dane-mismatch" {
			t.Error(got)
		}
		if a := w.last(); a.Plan.Demand != tlsplan.DemandDANE || a.Connection.Host != hostName(0) || len(a.Hosts) != 2 {
			t.Errorf("%+v under %+v", a.Connection, a.Plan)
		}
	})
}
