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
	if !o.Verified() {
		switch {
		case p.Demand.strictness() >= DemandVerified.strictness():
			return Refuse, o.problem()
		case !p.KeepUnverified:
			return Clear, o.problem()
		}
	}
	return Accept, nil
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
// proven well enough. authentic is true when the MX record came with DNSSEC.
func (p Plan) JudgeMX(authentic bool) (Judgement, *Problem) {
	if p.NeedAuthenticMX && !authentic {
		return Refuse, &Problem{
			Reason: MXUnauthenticated,
			Text:   "the MX record is proven neither by DNSSEC nor by MTA-STS, which REQUIRETLS demands",
		}
	}
	return Accept, nil
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
// say why is our own mistake and must not pass for a good one.
func (o Outcome) problem() *Problem {
	if o.Problem != nil {
		return o.Problem
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
