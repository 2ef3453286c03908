package tlsrpt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/tlsplan"
)

// said lists a session's verdicts as "type domain: failure code".
func said(s Session) string {
	var all []string
	for _, v := range s.Verdicts {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s: %s %s", v.Policy.Type, v.Policy.Domain, v.Failure, v.Reason)))
	}
	return strings.Join(all, ", ")
}

func TestSessionOf(t *testing.T) {
	t.Parallel()
	const domain = "bücher.example"
	sts := &mtasts.Policy{Mode: mtasts.Testing, MX: []string{"*.example.net"}, MaxAge: 24 * time.Hour}
	encrypted := tlsplan.Outcome{TLS: true}
	problem := func(r tlsplan.Reason) *tlsplan.Problem { return &tlsplan.Problem{Reason: r} }
	refused := tlsplan.Plaintext(problem(tlsplan.CertificateExpired), nil)
	tlsa := []string{"3 1 1 ab"}
	for _, test := range []struct {
		name string
		in   delivery.Secured
		want string
	}{
		{"no policy, TLS", delivery.Secured{Outcome: encrypted}, "no-policy-found D:"},
		{"no policy, a certificate that we refused", delivery.Secured{Outcome: refused}, "no-policy-found D:"},
		{"no policy, STARTTLS refused", delivery.Secured{Problem: problem(tlsplan.TLSRejected)}, "no-policy-found D: starttls-not-supported tls-rejected"},
		{"MTA-STS kept", delivery.Secured{STS: sts, Outcome: encrypted}, "sts D:"},
		{"MTA-STS, host not listed", delivery.Secured{STS: sts, Problem: problem(tlsplan.MTASTSMismatch)}, "sts D: validation-failure mta-sts-mx-mismatch"},
		{"MTA-STS, name", delivery.Secured{STS: sts, Outcome: encrypted, Problem: problem(tlsplan.CertificateNameMismatch)}, "sts D: certificate-host-mismatch"},
		{"DANE kept", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", Outcome: encrypted}, "tlsa mx.example.net:"},
		{"DANE goes before MTA-STS", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", STS: sts, Problem: problem(tlsplan.DANEMismatch)}, "tlsa mx.example.net: validation-failure dane-mismatch"},
		{"records nobody can use, TLS", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", TLSAUnusable: true, Outcome: encrypted}, "tlsa mx.example.net: tlsa-invalid unusable"},
		{"records nobody can use, a certificate that we refused", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", TLSAUnusable: true, Outcome: refused}, "tlsa mx.example.net: tlsa-invalid unusable"},
		{"records nobody can use, in clear", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", TLSAUnusable: true, Problem: problem(tlsplan.TLSNotOffered)}, "tlsa mx.example.net: starttls-not-supported"},
		{"records nobody can use, MTA-STS", delivery.Secured{TLSA: tlsa, TLSABase: "mx.example.net", TLSAUnusable: true, STS: sts, Outcome: encrypted}, "tlsa mx.example.net: tlsa-invalid unusable, sts D:"},
		{"records not found out", delivery.Secured{Problem: problem(tlsplan.DANELookup), Err: errLater}, "tlsa mx1.test: dnssec-invalid"},
		{"policy not fetched, TLS", delivery.Secured{STSErr: &mtasts.Error{Kind: mtasts.FetchError, Err: errors.New("404")}, Outcome: encrypted}, "sts D: sts-policy-fetch-error 404, no-policy-found D:"},
		{"policy host's certificate", delivery.Secured{STSErr: &mtasts.Error{Kind: mtasts.WebPKIInvalid, Err: errLater}, Problem: problem(tlsplan.TLSNotOffered)}, "sts D: sts-webpki-invalid not now, no-policy-found D: starttls-not-supported"},
		{"policy not refreshed, but in force", delivery.Secured{STS: sts, STSErr: &mtasts.Error{Kind: mtasts.FetchError, Err: errLater}, Outcome: encrypted}, "sts D:"},
		{"no fault of the domain", delivery.Secured{STSErr: &mtasts.Error{Kind: mtasts.Internal, Err: errLater}, Outcome: encrypted}, "no-policy-found D:"},
	} {
		test.in.Domain, test.in.MXHost = domain, "mx1.test"
		got, ok := sessionOf(&test.in)
		if want := strings.ReplaceAll(test.want, "D", "xn--bcher-kva.example"); !ok || said(got) != want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, said(got), want)
		}
	}
	for _, s := range []delivery.Secured{
		{Domain: domain, Problem: problem(tlsplan.Internal)},
		{Domain: domain, Problem: problem(tlsplan.MXUnauthenticated)},
		{Domain: strings.Repeat("x", 300)},
	} {
		if got, ok := sessionOf(&s); ok {
			t.Errorf("reported: %s", said(got))
		}
	}
	got, _ := sessionOf(&delivery.Secured{Domain: domain, STS: sts, Helo: "node7.mx.test"})
	if got.Helo != "node7.mx.test" {
		t.Errorf("the host called itself %q", got.Helo)
	}
	if lines := strings.Join(got.Verdicts[0].Policy.Strings, "|"); lines != "version: STSv1|mode: testing|mx: *.example.net|max_age: 86400" {
		t.Errorf("policy %s", lines)
	}
}

// Every reason that is about TLS is called something in reports, and in words
// that the RFC registered.
func TestReasonsHaveVerdicts(t *testing.T) {
	t.Parallel()
	for _, r := range tlsplan.Reasons() {
		if _, ok := verdicts[r]; r.IsTLS() && !ok {
			t.Errorf("%s is about TLS and not reported", r)
		}
	}
	for _, v := range verdicts {
		switch v {
		case mox.ResultSTARTTLSNotSupported, mox.ResultCertificateHostMismatch, mox.ResultCertificateExpired,
			mox.ResultCertificateNotTrusted, mox.ResultValidationFailure, mox.ResultTLSAInvalid, mox.ResultDNSSECInvalid:
		default:
			t.Errorf("%q is no result type", v)
		}
	}
}

// Sessions that carry reports are not counted.
func TestReportsAreNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.r.Observer()
	o.Secured(&delivery.Secured{Domain: "example.net", Report: true, Problem: &tlsplan.Problem{Reason: tlsplan.TLSNotOffered}})
	o.Secured(&delivery.Secured{Domain: "example.org", Outcome: tlsplan.Outcome{TLS: true}})
	if docs := w.read(); len(docs) != 1 || docs[0].Domain != "example.org" {
		t.Errorf("counted %v", counted(docs))
	}
}
