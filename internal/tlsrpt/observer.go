package tlsrpt

import (
	"errors"
	"strconv"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// verdicts is how what went wrong is called in reports (RFC 8460, section 4.3).
// What is not here is no failure of TLS and not in a report. The reason code says
// it in our own word, where the type does not say it all.
var verdicts = map[tlsplan.Reason]mox.ResultType{
	tlsplan.TLSNotOffered:           mox.ResultSTARTTLSNotSupported,
	tlsplan.TLSRejected:             mox.ResultSTARTTLSNotSupported,
	tlsplan.TLSHandshake:            mox.ResultValidationFailure,
	tlsplan.CertificateExpired:      mox.ResultCertificateExpired,
	tlsplan.CertificateNotYetValid:  mox.ResultCertificateNotTrusted,
	tlsplan.CertificateNameMismatch: mox.ResultCertificateHostMismatch,
	tlsplan.CertificateUntrusted:    mox.ResultCertificateNotTrusted,
	tlsplan.CertificateInvalid:      mox.ResultCertificateNotTrusted,
	tlsplan.DANEMismatch:            mox.ResultValidationFailure,
	tlsplan.DANELookup:              mox.ResultDNSSECInvalid,
	tlsplan.MTASTSMismatch:          mox.ResultValidationFailure,
}

// coded are the reasons whose result type stands for several of them.
var coded = map[tlsplan.Reason]bool{
	tlsplan.TLSRejected:            true,
	tlsplan.TLSHandshake:           true,
	tlsplan.CertificateNotYetValid: true,
	tlsplan.CertificateInvalid:     true,
	tlsplan.DANEMismatch:           true,
	tlsplan.MTASTSMismatch:         true,
}

// Observer records what deliveries tell of TLS.
type Observer struct{ reporter *Reporter }

var _ delivery.Observer = Observer{}

// Observer returns the ear of the reporter.
func (r *Reporter) Observer() Observer { return Observer{r} }

// Secured implements delivery.Observer.
func (o Observer) Secured(s *delivery.Secured) {
	// Else two domains whose TLS is broken would write to each other for ever,
	// about the failures of their reports.
	if s.Report {
		return
	}
	if session, ok := sessionOf(s); ok {
		o.reporter.Record(session)
	}
}

// Connected does nothing: a connection in use again is no new session.
func (Observer) Connected(delivery.Connected) {}

// Troubled does nothing.
func (Observer) Troubled(delivery.Trouble) {}

// Concluded does nothing.
func (Observer) Concluded(*delivery.Attempt, float64) {}

// PoolChanged does nothing.
func (Observer) PoolChanged(int, int) {}

// sessionOf says in the words of reports how TLS came out. It is not ok if that
// is nothing to report.
func sessionOf(s *delivery.Secured) (Session, bool) {
	domain, err := route.ASCII(s.Domain)
	if err != nil {
		return Session{}, false
	}
	session := Session{Domain: domain, MXHost: s.MXHost, MXIP: s.MXIP, LocalIP: s.LocalIP, Helo: s.Helo}
	failure, code, known := failureOf(s.Problem)
	if !known {
		return Session{}, false
	}
	add := func(p Policy, failure mox.ResultType, code string) {
		session.Verdicts = append(session.Verdicts, Verdict{Policy: p, Failure: failure, Reason: code})
	}
	if failed, why := policyFailure(s.STSErr); failed != "" && s.STS == nil {
		// There is a policy, if only we could read it. The connection was made as
		// if there were none, and that counts beside it.
		add(Policy{Type: mox.STS, Domain: domain}, failed, why)
	}
	if len(s.TLSA) > 0 || s.Problem != nil && s.Problem.Reason == tlsplan.DANELookup {
		p := Policy{Type: mox.TLSA, Domain: s.TLSABase, Strings: s.TLSA}
		if p.Domain == "" {
			p.Domain = s.MXHost
		}
		if !s.TLSAUnusable {
			add(p, failure, code)
			return session, true // DANE goes before MTA-STS (RFC 8461, section 2)
		}
		if s.Outcome.GaveTLS() { // any certificate would have done (RFC 7672, section 2.2)
			add(p, mox.ResultTLSAInvalid, "unusable")
		} else {
			add(p, failure, code)
		}
	}
	switch {
	case s.STS != nil:
		add(policyOf(domain, s.STS), failure, code)
	case len(s.TLSA) == 0:
		add(Policy{Type: mox.NoPolicyFound, Domain: domain}, failure, code)
	}
	return session, true
}

// failureOf looks a problem up in verdicts. No problem is a success. A problem
// that is not about TLS is not known.
func failureOf(p *tlsplan.Problem) (failure mox.ResultType, code string, known bool) {
	if p == nil {
		return "", "", true
	}
	failure, known = verdicts[p.Reason]
	if coded[p.Reason] {
		code = string(p.Reason)
	}
	return failure, code, known
}

// policyFailure is the result type for a policy that could not be had.
func policyFailure(err error) (failure mox.ResultType, code string) {
	var e *mtasts.Error
	if !errors.As(err, &e) {
		return "", ""
	}
	switch e.Kind {
	case mtasts.FetchError, mtasts.Invalid, mtasts.WebPKIInvalid:
		return mox.ResultType(e.Kind), e.Detail()
	}
	return "", "" // not a fault of the domain
}

// policyOf writes an MTA-STS policy as its lines (RFC 8461, section 3.2).
func policyOf(domain string, p *mtasts.Policy) Policy {
	lines := []string{"version: STSv1", "mode: " + string(p.Mode)}
	for _, mx := range p.MX {
		lines = append(lines, "mx: "+mx)
	}
	lines = append(lines, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
	return Policy{Type: mox.STS, Domain: domain, Strings: lines, MX: p.MX}
}
