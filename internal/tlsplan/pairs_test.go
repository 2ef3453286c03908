package tlsplan_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/mjl-/adns"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

func allSettings() (all []policy.Settings) {
	for _, require := range []bool{false, true} {
		for _, skip := range []bool{false, true} {
			for _, fallback := range []policy.Fallback{policy.Plaintext, policy.Unverified} {
				all = append(all, policy.Settings{RequireTLS: require, SkipVerification: skip, Fallback: fallback})
			}
		}
	}
	return all
}

func allFloors() (all []tlsplan.Floors) {
	for _, level := range []tlsplan.Level{tlsplan.LevelNone, tlsplan.LevelEncrypted, tlsplan.LevelAuthenticated} {
		for i := range 8 {
			all = append(all, tlsplan.Floors{MinTLS: level, MTASTS: i&1 != 0, REQUIRETLS: i&2 != 0, RelaxedREQUIRETLS: i&4 != 0})
		}
	}
	return all
}

// TestEveryPair: whatever plan a session was opened for, to a host that behaves
// in whatever way: another plan may have it only if the same host, behaving as it
// did, would have been taken over a fresh connection, and what came of it is no
// less. In particular a plan with TLSA records only gets what its own prove.
func TestEveryPair(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	self, good := issue(t, ca, mailtest.SelfSigned, mxHost), issue(t, ca, mailtest.Good, mxHost)
	elsewhere, expired := issue(t, ca, mailtest.Good, "example.net"), issue(t, ca, mailtest.Expired, mxHost)

	published := []*tlsplan.DANE{
		nil,
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 1, self.Leaf)}),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 2, self.Leaf)}),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 0, 1, good.Leaf), record(3, 1, 1, self.Leaf)}),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 0, 0, expired.Leaf)}),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(2, 0, 1, ca.Root())}),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(2, 0, 1, ca.Root())}, "example.net"),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(2, 0, 1, ca.Root())}, "example.org"),
		tlsplan.NewDANE(mxHost, []adns.TLSA{record(0, 0, 1, ca.Root())}), // unusable
	}
	var plans []tlsplan.Plan
	seen := make(map[string]bool)
	add := func(p tlsplan.Plan) {
		p.Floors = nil // no judgement looks at them
		if key := fmt.Sprintf("%+v", p); !seen[key] {
			seen[key] = true
			plans = append(plans, p)
		}
	}
	for _, s := range allSettings() {
		for _, f := range allFloors() {
			base := tlsplan.Decide(s, f)
			for _, d := range published {
				add(base.ForHost(d))
				if d.Usable() {
					add(base.Lifted(d))
				}
			}
		}
	}

	// examine is what a connection for a plan turns out to be, with each host.
	type host func(tlsplan.Plan) tlsplan.Outcome
	var hosts []host
	for _, why := range []tlsplan.Reason{tlsplan.TLSNotOffered, tlsplan.TLSRejected, tlsplan.TLSHandshake} {
		hosts = append(hosts, func(tlsplan.Plan) tlsplan.Outcome {
			return tlsplan.Plaintext(&tlsplan.Problem{Reason: why}, nil)
		})
	}
	roots := ca.Pool()
	for _, h := range []struct {
		cert   tls.Certificate
		offers bool // REQUIRETLS
	}{{self, false}, {good, true}, {good, false}, {elsewhere, false}, {expired, true}} {
		cs, offers := shown(t, h.cert, ca.Root()), h.offers
		// One examination for each set of records: they are the same for all plans.
		type key struct {
			d     *tlsplan.DANE
			alone bool
		}
		known := make(map[key]tlsplan.Outcome)
		hosts = append(hosts, func(p tlsplan.Plan) tlsplan.Outcome {
			k := key{p.DANE, p.Demand == tlsplan.DemandDANE}
			o, ok := known[k]
			if !ok {
				o = p.Examiner(mxHost, roots).Examine(cs)
				o.OffersREQUIRETLS = offers
				known[k] = o
			}
			if j, problem := p.Judge(o); j == tlsplan.Clear {
				return tlsplan.Plaintext(problem, o.Certificate)
			}
			return o
		})
	}

	accepts := func(p tlsplan.Plan, o tlsplan.Outcome) bool {
		j, _ := p.Judge(o)
		e, _ := p.JudgeExtensions(o)
		return j == tlsplan.Accept && e == tlsplan.Accept
	}
	reused := 0
	for i, fresh := range hosts {
		for _, first := range plans {
			o := fresh(first)
			if !accepts(first, o) {
				continue // never kept
			}
			for _, second := range plans {
				if !second.MayReuse(o) {
					continue
				}
				reused++
				own := fresh(second)
				switch {
				case !accepts(second, own):
					t.Fatalf("host %d: %+v may have %+v of %+v, but would not get as much itself", i, second, o, first)
				case second.Requires() && !o.TLS:
					t.Fatalf("host %d: clear text for %+v", i, second)
				case own.TLS && !o.TLS:
					t.Fatalf("host %d: %+v gets clear text, and TLS by itself", i, second)
				case second.Demand == tlsplan.DemandDANE && (o.Proof == nil || !o.Verified()),
					second.Demand == tlsplan.DemandVerified && !o.Verified():
					t.Fatalf("host %d: %+v gets unverified %+v", i, second, o)
				}
			}
		}
	}
	if reused == 0 {
		t.Error("nothing may ever be reused")
	}
}

// TestOldProof: a record that is not there any more proves nothing, nor does one
// of another domain.
func TestOldProof(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	cert, next := issue(t, ca, mailtest.SelfSigned, mxHost), issue(t, ca, mailtest.SelfSigned, mxHost)
	plan := func(s policy.Settings, records ...adns.TLSA) tlsplan.Plan {
		p := tlsplan.Decide(s, tlsplan.Floors{})
		if records == nil {
			return p
		}
		return p.ForHost(tlsplan.NewDANE(mxHost, records))
	}
	old := plan(policy.Settings{}, record(3, 1, 1, cert.Leaf))
	o := old.Examiner(mxHost, ca.Pool()).Examine(shown(t, cert))
	for name, tt := range map[string]struct {
		plan tlsplan.Plan
		want bool
	}{
		"same record":                     {plan(policy.Settings{}, record(3, 1, 1, cert.Leaf)), true},
		"a record more":                   {plan(policy.Settings{}, record(3, 1, 1, cert.Leaf), record(3, 1, 1, next.Leaf)), true},
		"another record":                  {plan(policy.Settings{}, record(3, 1, 1, next.Leaf)), false},
		"the records are gone, required":  {plan(policy.Settings{RequireTLS: true}), false},
		"the records are gone, wished":    {plan(policy.Settings{}), true},
		"the records are gone, any cert":  {plan(policy.Settings{RequireTLS: true, SkipVerification: true}), true},
		"only unusable records are there": {plan(policy.Settings{}, record(1, 1, 1, next.Leaf)), true},
	} {
		if got := tt.plan.MayReuse(o); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestJudgingAllocatesNothing where a session in use again is good enough.
func TestJudgingAllocatesNothing(t *testing.T) {
	ca := newCA(t)
	cert := issue(t, ca, mailtest.Good, mxHost)
	base := tlsplan.Decide(policy.Settings{RequireTLS: true}, tlsplan.Floors{})
	for name, p := range map[string]tlsplan.Plan{
		"without records": base, "DANE-EE": base.ForHost(tlsplan.NewDANE(mxHost, []adns.TLSA{record(3, 1, 1, cert.Leaf)})),
	} {
		o := p.Examiner(mxHost, ca.Pool()).Examine(shown(t, cert))
		if n := testing.AllocsPerRun(100, func() {
			if !p.MayReuse(o) {
				t.Fatal(name)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
