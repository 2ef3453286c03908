package tlsplan_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"github.com/mjl-/adns"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

const mxHost = "mx.example.net"

// record makes a TLSA record of a certificate.
func record(usage, selector, matching uint8, c *x509.Certificate) adns.TLSA {
	data := c.Raw
	if selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return adns.TLSA{
		Usage: adns.TLSAUsage(usage), Selector: adns.TLSASelector(selector),
		MatchType: adns.TLSAMatchType(matching), CertAssoc: data,
	}
}

// shown is a finished handshake in which the host showed a certificate, followed
// by those of authorities.
func shown(t testing.TB, cert tls.Certificate, more ...*x509.Certificate) tls.ConnectionState {
	t.Helper()
	cs := tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{cert.Leaf}}
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		cs.PeerCertificates = append(cs.PeerCertificates, c)
	}
	cs.PeerCertificates = append(cs.PeerCertificates, more...)
	return cs
}

func newCA(t testing.TB) *mailtest.CA {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *mailtest.CA, kind mailtest.Kind, names ...string) tls.Certificate {
	t.Helper()
	cert, err := ca.Issue(kind, names...)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestDANEMatrix: each usage, selector and matching type, against each kind of
// certificate. DANE-EE looks at the certificate or key alone; DANE-TA at the
// chain to the authority, names and dates, but not at whom we trust.
func TestDANEMatrix(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	good := []mailtest.Kind{mailtest.Good, mailtest.Wildcard}
	for _, kind := range mailtest.Kinds {
		for selector := range uint8(2) {
			for matching := range uint8(3) {
				t.Run(fmt.Sprintf("%s %d %d", kind, selector, matching), func(t *testing.T) {
					t.Parallel()
					cert := issue(t, ca, kind, mxHost)
					cs := shown(t, cert, ca.Root())
					for usage := range uint8(4) {
						for name, of := range map[string]*x509.Certificate{
							"leaf": cert.Leaf, "root": ca.Root(), "other": other.Root(),
						} {
							d := tlsplan.NewDANE(mxHost, []adns.TLSA{record(usage, selector, matching, of)})
							if d.Usable() != (usage >= 2) {
								t.Errorf("usage %d: usable %v", usage, d.Usable())
							}
							o := tlsplan.Examiner{Host: mxHost, DANE: d, DANEAlone: true}.Examine(cs)
							var want tlsplan.Verification
							switch {
							case usage == 3 && name == "leaf":
								want = tlsplan.VerifiedDANEEE
							case usage == 2 && name == "root" && slices.Contains(good, kind),
								usage == 2 && name == "root" && kind == mailtest.WithIntermediate:
								want = tlsplan.VerifiedDANETA
							case usage == 2 && name == "leaf" && (slices.Contains(good, kind) || kind == mailtest.WithIntermediate ||
								kind == mailtest.SelfSigned || kind == mailtest.UnknownCA || kind == mailtest.MissingIntermediate):
								// A leaf that is its own authority still needs name and dates.
								want = tlsplan.VerifiedDANETA
							default:
								want = tlsplan.VerifiedNone
							}
							if o.Verification != want || (o.Problem == nil) != (want != tlsplan.VerifiedNone) || o.Verified() != (want != tlsplan.VerifiedNone) {
								t.Errorf("usage %d of %s: %s, %v; want %s", usage, name, o.Verification, o.Problem, want)
							}
							if usage >= 2 && want == tlsplan.VerifiedNone && o.Problem.Reason != tlsplan.DANEMismatch {
								t.Errorf("usage %d of %s: blamed on %s", usage, name, o.Problem.Reason)
							}
						}
					}
				})
			}
		}
	}
}

// TestDANETANames: the certificate must be for one of the names that count.
func TestDANETANames(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for _, tt := range []struct {
		cert  []string
		names []string
		want  bool
	}{
		{[]string{"mx.test"}, []string{"mx.test"}, true},
		{[]string{"example.net"}, []string{"mx.test"}, false},
		{[]string{"example.net"}, []string{"mx.test", "", "example.net"}, true},
		{[]string{"expanded.test"}, []string{"mx.test", "example.net", "expanded.test"}, true},
		{[]string{"other.test"}, []string{"mx.test", "example.net", "expanded.test"}, false},
	} {
		d := tlsplan.NewDANE(tt.names[0], []adns.TLSA{record(2, 0, 1, ca.Root())}, tt.names[1:]...)
		o := tlsplan.Examiner{Host: "mx.test", DANE: d, DANEAlone: true}.Examine(shown(t, issue(t, ca, mailtest.Good, tt.cert...), ca.Root()))
		if o.Verified() != tt.want || !tt.want && o.Problem.Reason != tlsplan.DANEMismatch {
			t.Errorf("certificate for %q, names %q: %s, %v", tt.cert, tt.names, o.Verification, o.Problem)
		}
	}
}

// TestDANETAAuthorityNotSent: a record that holds the authority itself needs no
// copy of it in the handshake; a digest does.
func TestDANETAAuthorityNotSent(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cs := shown(t, issue(t, ca, mailtest.Good, mxHost))
	for matching, want := range map[uint8]bool{0: true, 1: false, 2: false} {
		d := tlsplan.NewDANE(mxHost, []adns.TLSA{record(2, 0, matching, ca.Root())})
		if o := (tlsplan.Examiner{Host: mxHost, DANE: d, DANEAlone: true}).Examine(cs); o.Verified() != want {
			t.Errorf("2 0 %d: %v", matching, o.Problem)
		}
	}
}

// TestDigestAgility: where digests of several strengths are published for one
// usage and selector, only the strongest count (RFC 7671, section 9).
func TestDigestAgility(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert, old := issue(t, ca, mailtest.SelfSigned, mxHost), issue(t, ca, mailtest.SelfSigned, mxHost)
	for _, tt := range []struct {
		name    string
		records []adns.TLSA
		want    bool
	}{
		{"the weaker one matches, the stronger does not", []adns.TLSA{record(3, 1, 1, cert.Leaf), record(3, 1, 2, old.Leaf)}, false},
		{"the stronger one matches", []adns.TLSA{record(3, 1, 1, old.Leaf), record(3, 1, 2, cert.Leaf)}, true},
		{"of another selector", []adns.TLSA{record(3, 1, 1, cert.Leaf), record(3, 0, 2, old.Leaf)}, true},
		{"of another usage", []adns.TLSA{record(3, 1, 1, cert.Leaf), record(2, 1, 2, old.Leaf)}, true},
		{"in full beside a digest", []adns.TLSA{record(3, 1, 0, cert.Leaf), record(3, 1, 2, old.Leaf)}, true},
		{"a stronger one that is malformed", []adns.TLSA{record(3, 1, 1, cert.Leaf), {Usage: 3, Selector: 1, MatchType: 2, CertAssoc: []byte{1}}}, true},
		{"several of one strength", []adns.TLSA{record(3, 1, 1, old.Leaf), record(3, 1, 1, cert.Leaf)}, true},
	} {
		d := tlsplan.NewDANE(mxHost, tt.records)
		o := tlsplan.Examiner{Host: mxHost, DANE: d, DANEAlone: true}.Examine(shown(t, cert))
		if o.Verified() != tt.want {
			t.Errorf("%s: %v", tt.name, o.Problem)
		}
	}
}

// TestManyAnchors: of very many authorities only some are tried; certificates
// and keys cost nothing and are all compared.
func TestManyAnchors(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert := issue(t, ca, mailtest.Good, mxHost)
	cs := shown(t, cert, ca.Root())
	var filler []adns.TLSA
	for i := range 90 {
		filler = append(filler, adns.TLSA{Usage: 2, Selector: 1, MatchType: 1, CertAssoc: slices.Repeat([]byte{byte(i)}, 32)})
	}
	for name, tt := range map[string]struct {
		records []adns.TLSA
		want    bool
	}{
		"within bounds":     {append([]adns.TLSA{record(2, 0, 1, ca.Root())}, filler...), true},
		"out of bounds":     {append(slices.Clone(filler), record(2, 0, 1, ca.Root())), false},
		"a key behind them": {append(slices.Clone(filler), record(3, 1, 1, cert.Leaf)), true},
	} {
		d := tlsplan.NewDANE(mxHost, tt.records)
		if o := (tlsplan.Examiner{Host: mxHost, DANE: d, DANEAlone: true}).Examine(cs); o.Verified() != tt.want {
			t.Errorf("%s: %v", name, o.Problem)
		}
	}
}

// TestUnusable: records that mean nothing to us make TLS mandatory, and change
// nothing else.
func TestUnusable(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert := issue(t, ca, mailtest.SelfSigned, mxHost)
	right := record(3, 1, 1, cert.Leaf)
	change := func(f func(*adns.TLSA)) adns.TLSA {
		r := right
		f(&r)
		return r
	}
	for name, r := range map[string]adns.TLSA{
		"PKIX-TA":                 change(func(r *adns.TLSA) { r.Usage = 0 }),
		"PKIX-EE":                 change(func(r *adns.TLSA) { r.Usage = 1 }),
		"PrivCert":                change(func(r *adns.TLSA) { r.Usage = 255 }),
		"unknown usage":           change(func(r *adns.TLSA) { r.Usage = 4 }),
		"unknown selector":        change(func(r *adns.TLSA) { r.Selector = 2 }),
		"unknown matching type":   change(func(r *adns.TLSA) { r.MatchType = 3 }),
		"short digest":            change(func(r *adns.TLSA) { r.CertAssoc = r.CertAssoc[:31] }),
		"wrong digest length":     change(func(r *adns.TLSA) { r.MatchType = 2 }),
		"no data":                 change(func(r *adns.TLSA) { r.CertAssoc = nil }),
		"no data in full":         change(func(r *adns.TLSA) { r.MatchType, r.CertAssoc = 0, nil }),
		"a broken key in full":    change(func(r *adns.TLSA) { r.MatchType = 0 }),
		"a broken certificate":    change(func(r *adns.TLSA) { r.Selector, r.MatchType, r.CertAssoc = 0, 0, cert.Leaf.Raw[:100] }),
		"a certificate for a key": change(func(r *adns.TLSA) { r.MatchType, r.CertAssoc = 0, cert.Leaf.Raw }),
	} {
		d := tlsplan.NewDANE(mxHost, []adns.TLSA{r})
		if d.Usable() || len(d.Published()) != 1 {
			t.Errorf("%s is usable", name)
		}
	}
	d := tlsplan.NewDANE(mxHost, []adns.TLSA{change(func(r *adns.TLSA) { r.Usage = 1 })})
	for _, tt := range []struct {
		s      policy.Settings
		floors tlsplan.Floors
		demand tlsplan.Demand
		keep   bool
	}{
		{policy.Settings{}, tlsplan.Floors{}, tlsplan.DemandTLS, true},
		{policy.Settings{SkipVerification: true}, tlsplan.Floors{}, tlsplan.DemandTLS, true},
		{policy.Settings{RequireTLS: true}, tlsplan.Floors{}, tlsplan.DemandVerified, false},
		{policy.Settings{}, tlsplan.Floors{MTASTS: true}, tlsplan.DemandVerified, false},
	} {
		p := tlsplan.Decide(tt.s, tt.floors).ForHost(d)
		if p.Demand != tt.demand || p.KeepUnverified != tt.keep || !p.HasFloor(tlsplan.FloorDANE) || p.Skip != (tt.s.SkipVerification && tt.keep) {
			t.Errorf("%+v, %+v: %+v", tt.s, tt.floors, p)
		}
	}
}

// TestForHost: records that can be used are what the certificate is judged by,
// whoever asked for what.
func TestForHost(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert := issue(t, ca, mailtest.Good, mxHost)
	d := tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 1, cert.Leaf)})
	wrong := tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 1, ca.Root())})
	for _, s := range allSettings() {
		for _, f := range allFloors() {
			base := tlsplan.Decide(s, f)
			p := base.ForHost(d)
			if p.Demand != tlsplan.DemandDANE || p.Skip || p.KeepUnverified || !p.HasFloor(tlsplan.FloorDANE) || base.HasFloor(tlsplan.FloorDANE) {
				t.Errorf("%+v, %+v: %+v", s, f, p)
			}
			for _, plan := range []tlsplan.Plan{p, base.ForHost(wrong)} {
				o := plan.Examiner(mxHost, ca.Pool()).Examine(shown(t, cert))
				j, problem := plan.Judge(o)
				if want := plan.DANE == d; (j == tlsplan.Accept) != want || !want && problem.Reason != tlsplan.DANEMismatch || !o.PKIX {
					t.Errorf("%+v, %+v: judged %v, %v", s, f, j, problem)
				}
				if o.Verified() != (plan.DANE == d) {
					t.Errorf("%+v, %+v: verified %v", s, f, o.Verified())
				}
			}
			if got := base.ForHost(nil); got.Demand != base.Demand || got.DANE != nil {
				t.Errorf("no records: %+v", got)
			}
		}
	}
}

// TestLifted: a message that lifts what is published is not worse off for it.
func TestLifted(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	self, good := issue(t, ca, mailtest.SelfSigned, mxHost), issue(t, ca, mailtest.Good, mxHost)
	d := tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 1, self.Leaf)})
	p := tlsplan.Decide(policy.Settings{RequireTLS: true}, tlsplan.Floors{}).Lifted(d)
	for _, tt := range []struct {
		cert tls.Certificate
		want tlsplan.Verification
	}{
		{self, tlsplan.VerifiedDANEEE}, {good, tlsplan.VerifiedPKIX}, {issue(t, ca, mailtest.Expired, mxHost), tlsplan.VerifiedNone},
	} {
		o := p.Examiner(mxHost, ca.Pool()).Examine(shown(t, tt.cert))
		if j, _ := p.Judge(o); o.Verification != tt.want || (j == tlsplan.Accept) != o.Verified() {
			t.Errorf("%s, judged %v; want %s", o.Verification, j, tt.want)
		}
	}
	if p.Demand != tlsplan.DemandVerified || p.HasFloor(tlsplan.FloorDANE) {
		t.Errorf("plan %+v", p)
	}
}

func TestDANENothingShown(t *testing.T) {
	t.Parallel()
	d := tlsplan.NewDANE(mxHost, []adns.TLSA{{Usage: 3, Selector: 1, MatchType: 1, CertAssoc: make([]byte, 32)}})
	o := tlsplan.Examiner{Host: mxHost, DANE: d, DANEAlone: true}.Examine(tls.ConnectionState{})
	if o.Verified() || o.Problem.Reason != tlsplan.DANEMismatch {
		t.Errorf("%+v", o)
	}
}

// FuzzDANE: whatever is published and shown, nothing panics, and what is not
// one of the records proves nothing.
func FuzzDANE(f *testing.F) {
	ca := newCA(f)
	cert := issue(f, ca, mailtest.Good, mxHost)
	for usage := range uint8(4) {
		for matching := range uint8(3) {
			f.Add(usage, uint8(0), matching, record(usage, 0, matching, cert.Leaf).CertAssoc)
			f.Add(usage, uint8(1), matching, record(usage, 1, matching, ca.Root()).CertAssoc)
		}
	}
	f.Add(uint8(255), uint8(255), uint8(255), []byte(nil))
	cs := shown(f, cert, ca.Root())
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		r := adns.TLSA{Usage: adns.TLSAUsage(usage), Selector: adns.TLSASelector(selector), MatchType: adns.TLSAMatchType(matching), CertAssoc: data}
		d := tlsplan.NewDANE(mxHost, []adns.TLSA{r})
		o := tlsplan.Examiner{Host: "elsewhere.test", DANE: d, DANEAlone: true}.Examine(cs)
		if !o.Verified() {
			return
		}
		for _, c := range cs.PeerCertificates {
			if string(record(usage, selector, matching, c).CertAssoc) == string(data) {
				return
			}
		}
		t.Errorf("proved by %s", r.Record())
	})
}
