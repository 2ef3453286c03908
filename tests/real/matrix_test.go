package real

import (
	"slices"
	"strings"

	"tlscontrol/internal/mailtest"
)

// mxCase is one MX host that posttls-finger and we look at.
type mxCase struct {
	name  string        // the domain is name.signed.test, its host name-mx.signed.test
	level string        // of Postfix
	kind  mailtest.Kind // of the certificate, for the host and the domain; "" for no STARTTLS
	names string        // instead of these: "host", "domain" or "neither"
	tlsa  []string      // TLSA records, as tlsaRecord reads them

	script      func(*mailtest.Behaviour)
	door        string // the host is this door of Postfix or Exim instead
	plainDomain bool   // the MX record is in plain.test, which is not signed
	plainHost   bool   // the host is
	bogus       bool   // the TLSA records are in a zone that does not validate
	alias       string // the host is an alias of name-target; the records are at the "alias" or the "target"
	onlySNI     bool   // who does not name the host in the handshake is shown somebody else's certificate
	sni         bool   // posttls-finger names it

	want   string // what we say, and posttls-finger
	theirs string // what posttls-finger says, if it is something else
	why    string // it is
}

// mxCases is the matrix.
func mxCases() []mxCase {
	return slices.Concat(starttlsCases(), pkixCases(), recordCases(), daneCases(), aroundCases())
}

// starttlsCases are about whether there is TLS.
func starttlsCases() []mxCase {
	cases := []mxCase{
		{name: "no-starttls", want: notOffered},
		{name: "door-clear", door: "clear", want: notOffered},
		{name: "refused", script: func(b *mailtest.Behaviour) { b.STARTTLSReply = "454 4.7.0 not now" }, want: refused},
	}
	for _, how := range []string{"eof", "garbage", "alert", "cipher", "version"} {
		cases = append(cases, mxCase{name: how, kind: mailtest.Good, script: handshake(how), want: noHandshake})
	}
	return atLevel("verify", cases)
}

// pkixCases are about chain and name.
func pkixCases() []mxCase {
	const byCN = "Postfix takes the common name for a name; RFC 9525 forbids it"
	cases := []mxCase{
		{name: "door-good", door: "good", want: isVerified},
		{name: "door-intermediate", door: "intermediate", want: isVerified},
		{name: "door-self", door: "self", want: isUntrusted},
		{name: "door-name", door: "name", want: isUntrusted},
		{name: "sni", kind: mailtest.Good, names: "host", onlySNI: true, sni: true, want: isVerified},
		{name: "no-sni", kind: mailtest.Good, names: "host", onlySNI: true, want: isVerified,
			theirs: isUntrusted, why: "Postfix does not name the host in the handshake unless asked to, and is shown another certificate"},
	}
	for _, kind := range mailtest.Kinds {
		c := mxCase{name: string(kind), kind: kind, names: "host", want: isUntrusted}
		switch {
		case kind.IsGood():
			c.want = isVerified
		case kind == mailtest.CNOnly, kind == mailtest.IPOnly:
			c.theirs, c.why = isVerified, byCN
		}
		cases = append(cases, c)
	}
	return atLevel("verify", cases)
}

// recordCases are about TLSA records of each form.
func recordCases() []mxCase {
	var cases []mxCase
	for _, form := range []string{"0 0", "0 1", "0 2", "1 0", "1 1", "1 2"} {
		label := strings.ReplaceAll(form, " ", "")
		unsent := mxCase{name: "root-2" + label, kind: mailtest.WithIntermediate, tlsa: []string{"2 " + form + " root"}, want: isUntrusted}
		switch form {
		case "0 0": // The record is the certificate.
			unsent.want = isVerified
		case "1 0":
			unsent.theirs, unsent.why = isVerified, "the root is not sent, and the record is its key alone: OpenSSL verifies signatures with it, Go needs a certificate"
		}
		cases = append(cases, unsent,
			mxCase{name: "leaf-3" + label, kind: mailtest.SelfSigned, tlsa: []string{"3 " + form + " leaf"}, want: isVerified},
			mxCase{name: "other-3" + label, kind: mailtest.Good, tlsa: []string{"3 " + form + " other"}, want: isUntrusted},
			mxCase{name: "intermediate-2" + label, kind: mailtest.WithIntermediate, tlsa: []string{"2 " + form + " intermediate"}, want: isVerified})
	}
	const noName = "no record can be used, so that both ask for no more than TLS; only we still check chain and name, for the document"
	return atLevel("dane", append(cases, []mxCase{
		{name: "two", kind: mailtest.SelfSigned, tlsa: []string{"3 1 1 other", "3 1 1 leaf"}, want: isVerified},
		{name: "agility", kind: mailtest.SelfSigned, tlsa: []string{"3 1 2 other", "3 1 1 leaf"}, want: isUntrusted},
		{name: "no-agility", kind: mailtest.SelfSigned, tlsa: []string{"3 0 2 other", "3 1 1 leaf"}, want: isVerified},
		{name: "ta-and-ee", kind: mailtest.SelfSigned, tlsa: []string{"2 1 1 root", "3 1 1 leaf"}, want: isVerified},
		{name: "pkix-ta", kind: mailtest.SelfSigned, tlsa: []string{"0 1 1 root"}, want: isUntrusted},
		{name: "pkix-ee", kind: mailtest.SelfSigned, tlsa: []string{"1 1 1 leaf"}, want: isUntrusted},
		{name: "pkix-ee-good", kind: mailtest.Good, tlsa: []string{"1 1 1 leaf"}, want: isVerified},
		{name: "selector", kind: mailtest.SelfSigned, tlsa: []string{"3 9 1 leaf"}, want: isUntrusted},
		{name: "matching", kind: mailtest.SelfSigned, tlsa: []string{"3 1 9 leaf"}, want: isUntrusted},
		{name: "malformed-311", kind: mailtest.SelfSigned, tlsa: []string{"3 1 1 malformed"}, want: isUntrusted},
		{name: "malformed-300", kind: mailtest.Good, tlsa: []string{"3 0 0 malformed"}, want: isVerified, theirs: isTrusted, why: noName},
		{name: "malformed-310", kind: mailtest.Good, tlsa: []string{"3 1 0 malformed"}, want: isVerified, theirs: isTrusted, why: noName},
		{name: "unusable-and-other", kind: mailtest.Good, tlsa: []string{"1 1 1 leaf", "3 1 1 other"}, want: isUntrusted},
	}...))
}

// daneCases are about certificates under TLSA records.
func daneCases() []mxCase {
	const noCA = "the record says CA and is about the host's certificate itself, which OpenSSL takes for none, and Go for its own root"
	return atLevel("dane", []mxCase{
		{name: "ee-expired", kind: mailtest.Expired, tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "ee-name", kind: mailtest.WrongName, tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "ee-usage", kind: mailtest.WrongUsage, tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "ta-host", kind: mailtest.WithIntermediate, names: "host", tlsa: []string{"2 1 1 intermediate"}, want: isVerified},
		{name: "ta-domain", kind: mailtest.WithIntermediate, names: "domain", tlsa: []string{"2 1 1 intermediate"}, want: isVerified},
		{name: "ta-neither", kind: mailtest.WithIntermediate, names: "neither", tlsa: []string{"2 1 1 intermediate"}, want: isUntrusted},
		{name: "ta-expired", kind: mailtest.Expired, tlsa: []string{"2 0 0 root"}, want: isUntrusted},
		{name: "ta-unsent", kind: mailtest.MissingIntermediate, tlsa: []string{"2 0 0 intermediate"}, want: isVerified},
		{name: "ta-unsent-digest", kind: mailtest.MissingIntermediate, tlsa: []string{"2 0 1 intermediate"}, want: isUntrusted},
		{name: "ta-other", kind: mailtest.WithIntermediate, tlsa: []string{"2 1 1 other"}, want: isUntrusted},
		{name: "ta-leaf", kind: mailtest.WithIntermediate, tlsa: []string{"2 1 1 leaf"}, want: isVerified, theirs: isUntrusted, why: noCA},
		{name: "ta-self", kind: mailtest.SelfSigned, tlsa: []string{"2 1 1 leaf"}, want: isVerified, theirs: isUntrusted, why: noCA},
		{name: "tlsa-clear", tlsa: []string{"3 1 1 other"}, want: notOffered},
		{name: "unusable-clear", tlsa: []string{"1 1 1 other"}, want: notOffered},
		{name: "tlsa-eof", kind: mailtest.Good, script: handshake("eof"), tlsa: []string{"3 1 1 leaf"}, want: noHandshake},
		{name: "dane-sni", kind: mailtest.SelfSigned, names: "host", onlySNI: true, tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "door-again", door: "again", tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "door-expired", door: "expired", tlsa: []string{"3 0 1 leaf"}, want: isVerified},
		{name: "door-idle", door: "idle", tlsa: []string{"3 1 1 other"}, want: isUntrusted},
	})
}

// aroundCases are about what stands around TLSA records in DNS.
func aroundCases() []mxCase {
	const noMX = "the record matches, but the MX record could be forged: Postfix delivers, and calls that Trusted (smtp_tls_dane_insecure_mx_policy)"
	return atLevel("dane", []mxCase{
		{name: "none", kind: mailtest.Good, want: isVerified},
		{name: "none-self", kind: mailtest.SelfSigned, want: isUntrusted},
		{name: "plain-host", kind: mailtest.SelfSigned, plainHost: true, tlsa: []string{"3 1 1 leaf"}, want: isUntrusted},
		{name: "plain-host-good", kind: mailtest.Good, plainHost: true, tlsa: []string{"3 1 1 other"}, want: isVerified},
		{name: "plain-domain", kind: mailtest.SelfSigned, plainDomain: true, tlsa: []string{"3 1 1 leaf"}, want: isVerified, theirs: isTrusted, why: noMX},
		{name: "plain-domain-other", kind: mailtest.Good, plainDomain: true, tlsa: []string{"3 1 1 other"}, want: isUntrusted},
		{name: "plain-domain-ta", kind: mailtest.WithIntermediate, names: "host", plainDomain: true, tlsa: []string{"2 1 1 intermediate"}, want: isVerified, theirs: isTrusted, why: noMX},
		{name: "plain-domain-name", kind: mailtest.WithIntermediate, names: "domain", plainDomain: true, tlsa: []string{"2 1 1 intermediate"}, want: isUntrusted,
			theirs: isTrusted, why: "only a name that was found securely may be in the certificate (RFC 7672, 3.2.3); Postfix takes that of the domain all the same"},
		{name: "alias-target", kind: mailtest.SelfSigned, alias: "target", tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "alias-alias", kind: mailtest.SelfSigned, alias: "alias", tlsa: []string{"3 1 1 leaf"}, want: isVerified},
		{name: "alias-other", kind: mailtest.Good, alias: "target", tlsa: []string{"3 1 1 other"}, want: isUntrusted},
		{name: "bogus", kind: mailtest.Good, bogus: true, tlsa: []string{"3 1 1 leaf"}, want: noLookup},
	})
}

// atLevel sets the security level of Postfix.
func atLevel(level string, cases []mxCase) []mxCase {
	for i := range cases {
		cases[i].level = level
	}
	return cases
}

func handshake(how string) func(*mailtest.Behaviour) {
	return func(b *mailtest.Behaviour) { b.Handshake = how }
}
