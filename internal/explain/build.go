package explain

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/status"
	"tlscontrol/internal/tlsplan"
)

// New makes the document of the answer to a question.
func New(target string, q delivery.Question, x *delivery.Explanation) *Document {
	m := q.Message
	d := &Document{
		Target: target, Sender: m.From, Recipient: m.Recipients[0].Address, Domain: x.Domain, Probed: q.Probe,
		Message: Message{Admitted: q.Admitted, REQUIRETLS: m.Options.RequireTLS, Lifts: x.Lifted},
		Plan:    planOf(x.Base), StrictPlan: planOf(x.Strict),
		failure: x.Failure,
	}
	d.Message.read(x.Override)
	if x.Settings != nil {
		d.Message.refuse(x.Settings.Refused)
		d.Settings = settingsOf(x.Settings)
	}
	if len(x.Route.Hosts) > 0 {
		d.Published = &Published{DANE: x.DANE, MXAuthentic: x.Route.Authentic}
		if x.MTASTS {
			d.Published.MTASTS = mtastsOf(x.STS)
		}
	}
	for i := range x.Hosts {
		d.Hosts = append(d.Hosts, hostOf(x, &x.Hosts[i]))
	}
	d.Outcome = outcomeOf(q, x)
	return d
}

func (m *Message) read(o policy.Override) {
	if o.RequireTLS != policy.Unset {
		m.RequireTLS = o.RequireTLS.String()
	}
	if o.SkipVerification != policy.Unset {
		m.SkipVerification = o.SkipVerification.String()
	}
}

func (m *Message) refuse(o policy.Override) {
	if o.RequireTLS != policy.Unset {
		m.Refused = append(m.Refused, "require-tls")
	}
	if o.SkipVerification != policy.Unset {
		m.Refused = append(m.Refused, "skip-verification")
	}
}

func settingsOf(s *policy.Settings) []Setting {
	yesNo := map[bool]string{true: "yes", false: "no"}
	return []Setting{
		{"require_tls", yesNo[s.RequireTLS], string(s.RequireTLSSource), s.RequireTLSPlace},
		{"skip_verification", yesNo[s.SkipVerification], string(s.SkipVerificationSource), s.SkipVerificationPlace},
		{"on_failure", string(s.OnFailure), string(s.OnFailureSource), s.OnFailurePlace},
		{"opportunistic_fallback", string(s.Fallback), string(s.FallbackSource), s.FallbackPlace},
		{"message_override", string(s.MessageOverride), string(s.MessageOverrideSource), s.MessageOverridePlace},
	}
}

func mtastsOf(r mtasts.Result) *MTASTS {
	m := &MTASTS{Mode: string(mtasts.None)}
	if p := r.Policy; p != nil {
		*m = MTASTS{Mode: string(p.Mode), ID: p.ID, MX: slices.Clone(p.MX), Expires: stamp(p.Expires)}
	}
	if r.Err != nil {
		m.Error = r.Err.Error()
	}
	return m
}

func planOf(p *tlsplan.Plan) *Plan {
	if p == nil {
		return nil
	}
	bad := "clear"
	switch {
	case p.Demand == tlsplan.DemandVerified, p.Demand == tlsplan.DemandDANE:
		bad = "refused"
	case p.KeepUnverified:
		bad = "kept"
	}
	return &Plan{Demanded: p.Demand, Floors: p.Floors, BadCertificate: bad, OnFailure: string(p.OnFailure)}
}

func hostOf(x *delivery.Explanation, h *delivery.ExplainedHost) Host {
	host := Host{
		Name: h.Name, Preference: h.Preference, Implicit: h.Implicit, Ours: h.Ours, Beyond: h.Beyond,
		Authentic: h.Addresses.Authentic, MXProof: string(h.MXLevel), Failure: failureOf(h.Failure),
	}
	if h.Ours || h.Beyond {
		host.MXProof = string(tlsplan.MXUnproven)
		return host
	}
	for _, ip := range h.Addresses.IPs {
		host.IPs = append(host.IPs, ip.String())
	}
	if x.STS.Policy != nil {
		host.Listed = &h.Listed
	}
	if dane := h.Plan.DANE; dane != nil {
		host.TLSA, host.TLSABase, host.TLSAUsable = dane.Published(), dane.Base(), dane.Usable()
	}
	if e := h.Expected; e.Level != "" {
		host.Expected = &Expected{string(e.Level), string(e.By), stamp(e.LastSeen), string(x.Memory)}
	}
	host.Plan, host.StrictPlan, host.Strict = planOf(&h.Plan), planOf(h.Strict), failureOf(h.StrictRefused)
	host.Addresses = addressesOf(h)
	return host
}

// addressesOf lists the addresses that were tried, those too that could not be
// reached, and those that may not be.
func addressesOf(h *delivery.ExplainedHost) (all []Address) {
	answered := make(map[netip.Addr]bool)
	for i := range h.Probed {
		answered[h.Probed[i].IP] = true
	}
	for _, lost := range h.GaveUp {
		if lost.IP.IsValid() && !answered[lost.IP] {
			all = append(all, Address{IP: lost.IP.String(), Failure: &Failure{Reason: lost.Reason, Text: lost.Text}, Unwanted: lost.Unwanted})
		}
	}
	for i := range h.Probed {
		all = append(all, addressOf(h, &h.Probed[i]))
	}
	return all
}

func addressOf(h *delivery.ExplainedHost, p *delivery.Probed) Address {
	a := Address{IP: p.IP.String(), Failure: failureOf(p.Failure), Seconds: p.Seconds}
	has := p.Outcome
	if !has.TLS && has.Problem != nil && has.Problem.Reason.IsCertificate() {
		has = p.Seen
	}
	switch {
	case has.Verified():
		a.Verdict = Verified
	case has.TLS:
		a.Verdict = Unverified
	case has.Problem != nil:
		a.Verdict = NoTLS
	}
	if p.Seen.TLS {
		a.shown(h, p.Seen)
	}
	if p.Outcome.TLS {
		a.REQUIRETLS = &p.Outcome.OffersREQUIRETLS
	}
	a.Problem = problemOf(has.Problem)
	if p.Failure == nil {
		a.Use = "clear"
		if p.Outcome.TLS {
			a.Use = "tls"
		}
	}
	if h.Strict != nil && h.StrictRefused == nil {
		a.Strict = problemOf(p.Under(*h.Strict))
	}
	return a
}

// shown tells what the handshake showed.
func (a *Address) shown(h *delivery.ExplainedHost, o tlsplan.Outcome) {
	a.TLSVersion = o.VersionName()
	a.TLSCipher, a.TLSKeyExchange = status.CipherName(o.CipherSuite), status.KeyExchangeName(o.KeyExchange)
	a.Verification, a.PKIX = o.Verification, &o.PKIX
	if h.Plan.DANE.Usable() {
		a.DANE = "mismatch"
		if o.Proof != nil {
			a.DANE = "matched"
		}
	}
	if c := o.Certificate; c != nil {
		a.Certificate = &Certificate{c.Subject, c.Issuer, stamp(c.NotBefore), stamp(c.NotAfter), hex.EncodeToString(c.SHA256[:])}
	}
}

func outcomeOf(q delivery.Question, x *delivery.Explanation) Outcome {
	if f := x.Failure; f != nil {
		o := Outcome{Result: Permanent, Failure: failureOf(f)}
		if f.Temporary() {
			o.Result = Temporary
		}
		return o
	}
	h := &x.Hosts[x.Via]
	if !q.Probe {
		return Outcome{Result: Dialled, MXHost: h.Name}
	}
	p := &h.Probed[len(h.Probed)-1]
	verified := p.Outcome.Verified()
	o := Outcome{
		Result: Delivered, MXHost: h.Name, MXIP: p.IP.String(),
		TLS: &p.Outcome.TLS, Verified: &verified, Verification: p.Outcome.Verification,
	}
	if lack := h.Plan.Shortfall(p.Outcome); lack != nil {
		o.Fallback = lack.Reason
	}
	return o
}

func failureOf(f *delivery.Failure) *Failure {
	if f == nil {
		return nil
	}
	out := &Failure{Code: f.Code, Reason: f.Reason, Text: f.Message}
	if f.Enhanced[0] != 0 {
		out.Enhanced = fmt.Sprintf("%d.%d.%d", f.Enhanced[0], f.Enhanced[1], f.Enhanced[2])
	}
	if f.Err != nil && f.Reply == nil {
		out.Cause = strings.TrimPrefix(f.Error(), f.Message+": ")
	}
	return out
}

func problemOf(p *tlsplan.Problem) *Problem {
	if p == nil {
		return nil
	}
	return &Problem{Reason: p.Reason, Text: p.Text}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
