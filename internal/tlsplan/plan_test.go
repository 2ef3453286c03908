package tlsplan

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mjl-/adns"

	"tlscontrol/internal/policy"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	floor := func(f ...Floor) []Floor { return f }
	tests := []struct {
		name     string
		settings policy.Settings
		floors   Floors
		demand   Demand
		keep     bool // KeepUnverified
		ext, mx  bool // NeedREQUIRETLS, NeedAuthenticMX
		floored  []Floor
	}{
		{name: "nothing asked", demand: Opportunistic},
		{name: "opportunistic, unverified fallback", settings: policy.Settings{Fallback: policy.Unverified}, demand: Opportunistic, keep: true},
		{name: "opportunistic, skip", settings: policy.Settings{SkipVerification: true}, demand: Opportunistic, keep: true},
		{name: "required", settings: policy.Settings{RequireTLS: true}, demand: DemandVerified},
		{name: "required, unverified fallback does not weaken", settings: policy.Settings{RequireTLS: true, Fallback: policy.Unverified}, demand: DemandVerified},
		{name: "required, skip", settings: policy.Settings{RequireTLS: true, SkipVerification: true}, demand: DemandTLS, keep: true},
		{name: "floor none", floors: Floors{MinTLS: LevelNone}, demand: Opportunistic},
		{name: "floor encrypted", floors: Floors{MinTLS: LevelEncrypted}, demand: DemandTLS, keep: true, floored: floor(FloorLocalPolicy)},
		{name: "floor authenticated", floors: Floors{MinTLS: LevelAuthenticated}, demand: DemandVerified, floored: floor(FloorLocalPolicy)},
		{name: "floor authenticated over skip", settings: policy.Settings{RequireTLS: true, SkipVerification: true},
			floors: Floors{MinTLS: LevelAuthenticated}, demand: DemandVerified, floored: floor(FloorLocalPolicy)},
		{name: "floor encrypted under required", settings: policy.Settings{RequireTLS: true},
			floors: Floors{MinTLS: LevelEncrypted}, demand: DemandVerified, floored: floor(FloorLocalPolicy)},
		{name: "REQUIRETLS", floors: Floors{REQUIRETLS: true}, demand: DemandVerified, ext: true, mx: true, floored: floor(FloorREQUIRETLS)},
		{name: "REQUIRETLS relaxed", floors: Floors{REQUIRETLS: true, RelaxedREQUIRETLS: true}, demand: DemandVerified, mx: true, floored: floor(FloorREQUIRETLS)},
		{name: "REQUIRETLS over skip", settings: policy.Settings{SkipVerification: true}, floors: Floors{REQUIRETLS: true},
			demand: DemandVerified, ext: true, mx: true, floored: floor(FloorREQUIRETLS)},
		{name: "floor on MX records", floors: Floors{MinMX: MXByMTASTS}, demand: Opportunistic, floored: floor(FloorLocalPolicy)},
		{name: "floors on both", floors: Floors{MinTLS: LevelAuthenticated, MinMX: MXByDNSSEC}, demand: DemandVerified, floored: floor(FloorLocalPolicy)},
		{name: "no floor on MX records", floors: Floors{MinMX: MXUnproven}, demand: Opportunistic},
		{name: "MTA-STS", floors: Floors{MTASTS: true}, demand: DemandVerified, floored: floor(FloorMTASTS)},
		{name: "MTA-STS over skip", settings: policy.Settings{RequireTLS: true, SkipVerification: true}, floors: Floors{MTASTS: true},
			demand: DemandVerified, floored: floor(FloorMTASTS)},
		{name: "relaxed alone", floors: Floors{RelaxedREQUIRETLS: true}, demand: Opportunistic},
		{name: "both floors", floors: Floors{REQUIRETLS: true, MinTLS: LevelEncrypted}, demand: DemandVerified, ext: true, mx: true,
			floored: floor(FloorLocalPolicy, FloorREQUIRETLS)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := Decide(tt.settings, tt.floors)
			if p.Demand != tt.demand || p.KeepUnverified != tt.keep || p.NeedREQUIRETLS != tt.ext || p.NeedAuthenticMX != tt.mx {
				t.Errorf("Decide = %+v", p)
			}
			if !slices.Equal(p.Floors, tt.floored) {
				t.Errorf("floors = %v, want %v", p.Floors, tt.floored)
			}
		})
	}
}

// TestJudgeTable is the table of the contract, cell by cell.
func TestJudgeTable(t *testing.T) {
	t.Parallel()
	clear := func(r Reason) Outcome { return Plaintext(&Problem{Reason: r}, nil) }
	bad := Outcome{TLS: true, Verification: VerifiedNone, Problem: &Problem{Reason: CertificateExpired}}
	good := Outcome{TLS: true, Verification: VerifiedPKIX}

	columns := []struct {
		name     string
		settings policy.Settings
	}{
		{"opportunistic, verify", policy.Settings{}},
		{"opportunistic, verify, fallback unverified", policy.Settings{Fallback: policy.Unverified}},
		{"opportunistic, skip", policy.Settings{SkipVerification: true}},
		{"required, verify", policy.Settings{RequireTLS: true}},
		{"required, skip", policy.Settings{RequireTLS: true, SkipVerification: true}},
	}
	rows := []struct {
		name    string
		outcome Outcome
		want    [5]Judgement
	}{
		{"no STARTTLS", clear(TLSNotOffered), [5]Judgement{Accept, Accept, Accept, Refuse, Refuse}},
		{"STARTTLS refused", clear(TLSRejected), [5]Judgement{Accept, Accept, Accept, Refuse, Refuse}},
		{"broken handshake", clear(TLSHandshake), [5]Judgement{Accept, Accept, Accept, Refuse, Refuse}},
		{"bad certificate", bad, [5]Judgement{Clear, Accept, Accept, Refuse, Accept}},
		{"in clear after a bad certificate", clear(CertificateExpired), [5]Judgement{Accept, Refuse, Refuse, Refuse, Refuse}},
		{"good certificate", good, [5]Judgement{Accept, Accept, Accept, Accept, Accept}},
	}
	for _, row := range rows {
		for i, col := range columns {
			got, problem := Decide(col.settings, Floors{}).Judge(row.outcome)
			if got != row.want[i] {
				t.Errorf("%s / %s: %v, want %v", row.name, col.name, got, row.want[i])
			}
			if (problem == nil) != (got == Accept) {
				t.Errorf("%s / %s: judgement %v with problem %v", row.name, col.name, got, problem)
			}
			if got != Accept && problem.Reason != row.outcome.Problem.Reason {
				t.Errorf("%s / %s: blamed on %s", row.name, col.name, problem.Reason)
			}
		}
	}
}

// TestNeverWeaker: whatever the outcome, a plan never accepts less than its
// demand.
func TestNeverWeaker(t *testing.T) {
	t.Parallel()
	var outcomes []Outcome
	for _, v := range []Verification{VerifiedNone, VerifiedPKIX, VerifiedDANEEE, VerifiedDANETA, ""} {
		for _, tls := range []bool{false, true} {
			for _, r := range append(Reasons(), "") {
				o := Outcome{TLS: tls, Verification: v}
				if r != "" {
					o.Problem = &Problem{Reason: r}
				}
				outcomes = append(outcomes, o)
			}
		}
	}
	for _, d := range []Demand{Opportunistic, DemandTLS, DemandVerified, DemandDANE} {
		for _, keep := range []bool{false, true} {
			for _, o := range outcomes {
				p := Plan{Demand: d, KeepUnverified: keep}
				if j, _ := p.Judge(o); j != Accept {
					continue
				}
				if d != Opportunistic && !o.TLS {
					t.Errorf("%v accepts plaintext %v", d, o)
				}
				if (d == DemandVerified || d == DemandDANE) && !o.Verified() {
					t.Errorf("%v accepts unverified %v", d, o)
				}
			}
		}
	}
}

func TestJudgeMX(t *testing.T) {
	t.Parallel()
	levels := []MXLevel{"", MXUnproven, MXByMTASTS, MXByDNSSEC}
	for _, tt := range []struct {
		need bool
		min  MXLevel
		want [4]Judgement // by level
	}{
		{false, "", [4]Judgement{Accept, Accept, Accept, Accept}},
		{false, MXUnproven, [4]Judgement{Accept, Accept, Accept, Accept}},
		{false, MXByMTASTS, [4]Judgement{Refuse, Refuse, Accept, Accept}},
		{false, MXByDNSSEC, [4]Judgement{Refuse, Refuse, Refuse, Accept}},
		{true, "", [4]Judgement{Refuse, Refuse, Accept, Accept}},
		{true, MXByDNSSEC, [4]Judgement{Refuse, Refuse, Refuse, Accept}},
	} {
		for i, level := range levels {
			j, problem := Plan{NeedAuthenticMX: tt.need, MinMX: tt.min}.JudgeMX(level)
			if j != tt.want[i] || (problem != nil) != (j == Refuse) || problem != nil && problem.Reason != MXUnauthenticated {
				t.Errorf("JudgeMX(need=%v, min=%q, %q) = %v, %v", tt.need, tt.min, level, j, problem)
			}
		}
	}
}

// TestPanicIsNoProof: what a library panics over proves nothing.
func TestPanicIsNoProof(t *testing.T) {
	t.Parallel()
	d := NewDANE("mx.test", []adns.TLSA{{Usage: 3, Selector: 1, MatchType: 1, CertAssoc: make([]byte, 32)}})
	proof, problem := d.examine(tls.ConnectionState{PeerCertificates: []*x509.Certificate{nil}})
	if proof != nil || problem == nil || problem.Reason != DANEMismatch || !strings.HasPrefix(problem.Text, "internal error") {
		t.Errorf("%v, %v", proof, problem)
	}
}

func TestJudgeExtensions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		need bool
		o    Outcome
		want Judgement
	}{
		{false, Outcome{}, Accept},
		{true, Outcome{TLS: true, OffersREQUIRETLS: true}, Accept},
		{true, Outcome{TLS: true}, Refuse},
		{true, Outcome{OffersREQUIRETLS: true}, Refuse}, // announced in clear: worth nothing
	} {
		if j, _ := (Plan{NeedREQUIRETLS: tt.need}).JudgeExtensions(tt.o); j != tt.want {
			t.Errorf("JudgeExtensions(need=%v, %+v) = %v", tt.need, tt.o, j)
		}
	}
}

func TestShortfall(t *testing.T) {
	t.Parallel()
	bad := Outcome{TLS: true, Verification: VerifiedNone, Problem: &Problem{Reason: CertificateUntrusted}}
	noTLS := Plaintext(&Problem{Reason: TLSNotOffered}, nil)
	for _, tt := range []struct {
		s    policy.Settings
		o    Outcome
		want Reason
	}{
		{policy.Settings{}, Outcome{TLS: true, Verification: VerifiedPKIX}, ""},
		{policy.Settings{}, noTLS, TLSNotOffered},
		{policy.Settings{SkipVerification: true}, noTLS, TLSNotOffered},
		{policy.Settings{Fallback: policy.Unverified}, bad, CertificateUntrusted},
		{policy.Settings{SkipVerification: true}, bad, ""},
		{policy.Settings{RequireTLS: true, SkipVerification: true}, bad, ""},
	} {
		var got Reason
		if p := Decide(tt.s, Floors{}).Shortfall(tt.o); p != nil {
			got = p.Reason
		}
		if got != tt.want {
			t.Errorf("Shortfall(%+v, %+v) = %q, want %q", tt.s, tt.o, got, tt.want)
		}
	}
}

func ExamplePlan_Judge() {
	plan := Decide(policy.Settings{RequireTLS: true}, Floors{})
	expired := Outcome{TLS: true, Verification: VerifiedNone, Problem: &Problem{CertificateExpired, "it expired yesterday"}}
	judgement, problem := plan.Judge(expired)
	fmt.Println(judgement == Refuse, problem)
	// Output: true certificate-expired: it expired yesterday
}
