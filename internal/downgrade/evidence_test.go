package downgrade

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func verified(by tlsplan.Verification) tlsplan.Outcome {
	return tlsplan.Outcome{TLS: true, Verification: by}
}

func unverified() tlsplan.Outcome {
	return tlsplan.Outcome{
		TLS: true, Verification: tlsplan.VerifiedNone,
		Problem: &tlsplan.Problem{Reason: tlsplan.CertificateUntrusted},
	}
}

func inClear(r tlsplan.Reason) tlsplan.Outcome {
	return tlsplan.Plaintext(&tlsplan.Problem{Reason: r}, nil)
}

// TestEvidenceAddsUp: what a host proves is added to what it proved, and nothing
// is taken away by its proving less.
func TestEvidenceAddsUp(t *testing.T) {
	t.Parallel()
	var e Evidence
	for i, step := range []struct {
		after   time.Duration
		outcome tlsplan.Outcome
		want    Evidence
		changed bool
	}{
		{0, inClear(tlsplan.TLSNotOffered), Evidence{}, false},
		{0, unverified(), Evidence{TLS: noon}, true},
		{time.Minute, unverified(), Evidence{TLS: noon}, false},
		{2 * time.Minute, verified(tlsplan.VerifiedPKIX),
			Evidence{noon.Add(2 * time.Minute), noon.Add(2 * time.Minute), tlsplan.VerifiedPKIX}, true},
		{time.Hour, verified(tlsplan.VerifiedPKIX),
			Evidence{noon.Add(2 * time.Minute), noon.Add(2 * time.Minute), tlsplan.VerifiedPKIX}, false},
		{3 * time.Hour, unverified(), Evidence{noon.Add(3 * time.Hour), noon.Add(2 * time.Minute), tlsplan.VerifiedPKIX}, true},
		{3 * time.Hour, inClear(tlsplan.TLSHandshake), Evidence{noon.Add(3 * time.Hour), noon.Add(2 * time.Minute), tlsplan.VerifiedPKIX}, false},
		{3 * time.Hour, verified(tlsplan.VerifiedDANEEE), Evidence{noon.Add(3 * time.Hour), noon.Add(3 * time.Hour), tlsplan.VerifiedDANEEE}, true},
		// The clock was put back: what lies ahead of it does not stay there.
		{2 * time.Hour, verified(tlsplan.VerifiedDANETA), Evidence{noon.Add(2 * time.Hour), noon.Add(2 * time.Hour), tlsplan.VerifiedDANETA}, true},
	} {
		next, changed := e.with(step.outcome, noon.Add(step.after))
		if changed != step.changed {
			t.Errorf("step %d: changed %v", i, changed)
		}
		if diff := cmp.Diff(step.want, next); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		e = next
	}
}

func TestEvidenceGetsOld(t *testing.T) {
	t.Parallel()
	e := Evidence{TLS: noon.Add(time.Hour), Verified: noon, By: tlsplan.VerifiedPKIX}
	for since, want := range map[time.Duration]Level{
		0: Verified, time.Second: TLS, time.Hour: TLS, time.Hour + time.Second: "",
	} {
		if got := e.after(noon.Add(since)); got.Level() != want || got.IsZero() != (want == "") || (got.By == "") != (want != Verified) {
			t.Errorf("after %v: %+v", since, got)
		}
	}
}

func TestExpect(t *testing.T) {
	t.Parallel()
	none := Evidence{}
	tlsOnly := Evidence{TLS: noon}
	both := Evidence{TLS: noon.Add(time.Hour), Verified: noon, By: tlsplan.VerifiedDANEEE}
	opportunistic := tlsplan.Plan{Demand: tlsplan.Opportunistic}
	skip := tlsplan.Plan{Demand: tlsplan.Opportunistic, Skip: true, KeepUnverified: true}
	for _, tt := range []struct {
		name string
		e    Evidence
		p    tlsplan.Plan
		want Expectation
	}{
		{"a stranger", none, opportunistic, Expectation{}},
		{"tls", tlsOnly, opportunistic, Expectation{Level: TLS, LastSeen: noon}},
		{"verified", both, opportunistic, Expectation{Level: Verified, By: tlsplan.VerifiedDANEEE, LastSeen: noon}},
		{"whoever skips verification expects none", both, skip, Expectation{Level: TLS, LastSeen: noon.Add(time.Hour)}},
		{"required", both, tlsplan.Plan{Demand: tlsplan.DemandTLS}, Expectation{}},
		{"required verified", tlsOnly, tlsplan.Plan{Demand: tlsplan.DemandVerified}, Expectation{}},
		{"dane", both, tlsplan.Plan{Demand: tlsplan.DemandDANE}, Expectation{}},
	} {
		if diff := cmp.Diff(tt.want, tt.e.Expect(tt.p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestRaiseIsExact: over every opportunistic plan, every evidence and every
// outcome, the raised plan takes nothing that falls short of the expectation, and
// refuses nothing that the plan took and that does not fall short.
func TestRaiseIsExact(t *testing.T) {
	t.Parallel()
	outcomes := []tlsplan.Outcome{
		verified(tlsplan.VerifiedPKIX), verified(tlsplan.VerifiedDANEEE), verified(tlsplan.VerifiedDANETA), unverified(),
	}
	for _, r := range tlsplan.Reasons() {
		outcomes = append(outcomes, inClear(r))
	}
	for _, s := range everySettings() {
		p := tlsplan.Decide(s, tlsplan.Floors{})
		for _, e := range []Evidence{
			{}, {TLS: noon}, {TLS: noon, Verified: noon, By: tlsplan.VerifiedPKIX},
			{TLS: noon, Verified: noon, By: tlsplan.VerifiedDANEEE},
		} {
			x := e.Expect(p)
			raised := x.Raise(p)
			if p.Requires() && x != (Expectation{}) {
				t.Errorf("%+v expects %+v", p, x)
			}
			for _, o := range outcomes {
				before, _ := p.Judge(o)
				after, _ := raised.Judge(o)
				if after == tlsplan.Accept && !x.Met(o) {
					t.Errorf("%+v raised by %+v accepts %+v", p, x, o)
				}
				// A proof by TLSA records that the plan does not know comes with an
				// idle connection only; a fresh one takes its place.
				fresh := !o.Verified() || o.Verification == tlsplan.VerifiedPKIX
				if fresh && before == tlsplan.Accept && x.Met(o) && after != tlsplan.Accept {
					t.Errorf("%+v raised by %+v refuses %+v", p, x, o)
				}
				if x.Level != "" && after == tlsplan.Clear {
					t.Errorf("%+v raised by %+v would go on in clear after %+v", p, x, o)
				}
				if raised.MayReuse(o) && !x.Met(o) {
					t.Errorf("%+v raised by %+v reuses %+v", p, x, o)
				}
			}
			if x.Level != "" && raised.OnFailure != policy.Defer {
				t.Errorf("%+v raised by %+v may bounce", p, x)
			}
		}
	}
}

func everySettings() (all []policy.Settings) {
	for _, require := range []bool{false, true} {
		for _, skip := range []bool{false, true} {
			for _, fallback := range []policy.Fallback{policy.Plaintext, policy.Unverified} {
				for _, onFailure := range []policy.OnFailure{policy.Defer, policy.Reject} {
					all = append(all, policy.Settings{
						RequireTLS: require, SkipVerification: skip, Fallback: fallback, OnFailure: onFailure,
					})
				}
			}
		}
	}
	return all
}
