package tlsplan

// Judgement is what a plan does with a connection.
type Judgement int

// The three judgements.
const (
	// Refuse: nothing of this message may go to this host as it is.
	Refuse Judgement = iota
	// Clear: give this connection up and talk to the host in clear.
	Clear
	// Accept: the connection meets the plan.
	Accept
)

// Judge says what the plan does with a connection that turned out as o. The
// problem says why when the judgement is not Accept.
//
// A host that did not give TLS is judged through a plaintext Outcome
// (Plaintext): Accept then means that the message may go in clear.
func (p Plan) Judge(o Outcome) (Judgement, *Problem) {
	if !o.TLS {
		return p.judgeClear(o)
	}
	switch {
	case p.satisfied(o):
		return Accept, nil
	case p.Demand.strictness() >= DemandVerified.strictness():
		return Refuse, o.problem()
	case p.KeepUnverified:
		return Accept, nil
	}
	return Clear, o.problem()
}

// satisfied reports whether the certificate is proved in the way that the plan
// wants. A proof by TLSA records counts only where they are the plan's own: it
// may be old, or about another domain. Who demands nothing takes any.
func (p Plan) satisfied(o Outcome) bool {
	switch p.Demand {
	case DemandDANE:
		return p.DANE.provedBy(o.Proof)
	case DemandVerified:
		return o.byPKIX() || p.DANE.provedBy(o.Proof)
	}
	return o.Verified()
}

// JudgeExtensions says whether a connection that Judge accepted lets the
// message through with what the host offers in its last EHLO reply. It stands
// apart because REQUIRETLS is announced only after the handshake.
func (p Plan) JudgeExtensions(o Outcome) (Judgement, *Problem) {
	if p.NeedREQUIRETLS && !(o.TLS && o.OffersREQUIRETLS) {
		return Refuse, &Problem{Reason: RequireTLSUnsupported, Text: "the host does not offer REQUIRETLS"}
	}
	return Accept, nil
}

// JudgeMX says, before anything is dialled, whether the way to the host is
// proven well enough by what is known of the MX record.
func (p Plan) JudgeMX(by MXLevel) (Judgement, *Problem) {
	refuse := func(text string) (Judgement, *Problem) {
		return Refuse, &Problem{Reason: MXUnauthenticated, Text: text}
	}
	switch {
	case p.NeedAuthenticMX && by.strictness() == 0:
		return refuse("the MX record is proven neither by DNSSEC nor by MTA-STS, which REQUIRETLS demands")
	case by.strictness() >= p.MinMX.strictness():
		return Accept, nil
	case p.MinMX == MXByMTASTS:
		return refuse("the MX record is proven neither by DNSSEC nor by MTA-STS, which local_policy demands")
	}
	return refuse("the MX record is not proven by DNSSEC, which local_policy demands")
}

// MayReuse reports whether an idle connection that turned out as o may serve
// this plan: only if the same host, behaving as it did, would have been taken
// in the same state over a fresh connection. The check of JudgeMX is the
// caller's, because it is about the route and not about the connection.
func (p Plan) MayReuse(o Outcome) bool {
	if j, _ := p.Judge(o); j != Accept {
		return false
	}
	j, _ := p.JudgeExtensions(o)
	return j == Accept
}

// judgeClear judges a connection without TLS. A host that was given up over
// its certificate stays plaintext only for plans that would give it up too;
// for others a fresh connection gets TLS.
func (p Plan) judgeClear(o Outcome) (Judgement, *Problem) {
	why := o.problem()
	if p.Requires() || why.Reason.IsCertificate() && p.KeepUnverified {
		return Refuse, why
	}
	return Accept, nil
}

// problem is never nil: an Outcome without TLS or verification that does not
// say why is our own mistake and must not pass for a good one. One that is
// verified in another way than a plan wants cannot be fresh.
func (o Outcome) problem() *Problem {
	if o.Problem != nil {
		return o.Problem
	}
	if o.Verified() {
		return &Problem{Reason: DANEMismatch, Text: "the certificate was verified by " + string(o.Verification) + ", and not as is wanted"}
	}
	return &Problem{Reason: Internal, Text: "no reason recorded"}
}

// Shortfall is the problem because of which a delivery over o got less than
// the sender wanted, nil if it got all. Somebody who does not care for
// certificates misses nothing on an unverified TLS connection.
func (p Plan) Shortfall(o Outcome) *Problem {
	if o.Verified() || o.TLS && p.Skip {
		return nil
	}
	return o.problem()
}

// Lacking is what the policy in force finds wanting in a connection, nil if
// nothing, whether or not that keeps the plan from using it: TLSA records that can
// be used, else pkix, an MTA-STS policy in whatever mode, else that there should be
// TLS. A host that publishes nothing has promised nothing about its certificate: if
// that alone was refused, or mail went in clear over it, by our own policy, the host
// did its part (RFC 8460, section 4.3.1). It is for reports to the recipient.
func (p Plan) Lacking(o Outcome, pkix bool) *Problem {
	switch {
	case p.DANE.Usable():
		if p.DANE.provedBy(o.Proof) {
			return nil
		}
	case pkix && o.byPKIX(), !pkix && o.GaveTLS():
		return nil
	}
	return o.problem()
}
