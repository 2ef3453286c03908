package tlsplan

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"

	"github.com/mjl-/adns"
	"github.com/mjl-/mox/dane"
	"github.com/mjl-/mox/dns"
)

// DANE is what a host publishes about its certificate, securely: TLSA records
// (RFC 7672). It never changes once it is made.
type DANE struct {
	base      string
	names     []string
	published []adns.TLSA
	usable    []adns.TLSA // of published, those that a certificate is held against
}

// NewDANE prepares the TLSA records found at a base domain. names are those
// that a certificate may have besides the base domain, for records of usage
// DANE-TA (RFC 7672, section 3.2.3).
func NewDANE(base string, published []adns.TLSA, names ...string) *DANE {
	d := &DANE{base: base, names: []string{base}, published: published}
	for _, name := range names {
		if name != "" && !slices.Contains(d.names, name) {
			d.names = append(d.names, name)
		}
	}
	for _, r := range published {
		if usable(r) {
			d.usable = append(d.usable, r)
		}
	}
	d.usable = affordable(strongest(d.usable))
	return d
}

// maxAnchors bounds the records of usage DANE-TA that a certificate is held
// against. For each of them that the host shows the authority of, a chain is
// built, for which a hostile host can make us check a hundred signatures. Who
// changes an authority needs two or three.
const maxAnchors = 8

// affordable leaves out what there is too much of.
func affordable(records []adns.TLSA) []adns.TLSA {
	anchors := 0
	return slices.DeleteFunc(records, func(r adns.TLSA) bool {
		if r.Usage == adns.TLSAUsageDANETA {
			anchors++
		}
		return r.Usage == adns.TLSAUsageDANETA && anchors > maxAnchors
	})
}

// Usable reports whether there is a record that a certificate can be held
// against. If there is none, the host promises TLS and nothing more.
func (d *DANE) Usable() bool { return d != nil && len(d.usable) > 0 }

// Base is the TLSA base domain, which is also the name that the host is asked
// for in the handshake (RFC 7672, section 8.1).
func (d *DANE) Base() string { return d.base }

// Published lists all records in presentation form.
func (d *DANE) Published() []string {
	texts := make([]string, len(d.published))
	for i, r := range d.published {
		texts[i] = r.Record()
	}
	return texts
}

// Key stands for the records and names that a certificate is held against.
func (d *DANE) Key() [sha256.Size]byte {
	h := sha256.New()
	for _, r := range d.usable {
		fmt.Fprintf(h, "%s\n", r.Record())
	}
	for _, name := range d.names {
		fmt.Fprintf(h, "%s\n", name)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// usable reports whether a record means something to SMTP: usages DANE-TA and
// DANE-EE only (RFC 7672, section 3.1), and parameters and data that are known
// and well-formed.
func usable(r adns.TLSA) bool {
	if r.Usage != adns.TLSAUsageDANETA && r.Usage != adns.TLSAUsageDANEEE {
		return false
	}
	if r.Selector != adns.TLSASelectorCert && r.Selector != adns.TLSASelectorSPKI {
		return false
	}
	switch r.MatchType {
	case adns.TLSAMatchTypeSHA256:
		return len(r.CertAssoc) == 32
	case adns.TLSAMatchTypeSHA512:
		return len(r.CertAssoc) == 64
	case adns.TLSAMatchTypeFull:
		return wellFormed(r)
	}
	return false
}

// wellFormed reports whether the data of a record is what it should be in full.
func wellFormed(r adns.TLSA) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	var err error
	if r.Selector == adns.TLSASelectorCert {
		_, err = x509.ParseCertificate(r.CertAssoc)
	} else {
		_, err = x509.ParsePKIXPublicKey(r.CertAssoc)
	}
	return err == nil
}

// strongest leaves out records whose digest is weaker than that of others with
// the same usage and selector (RFC 7671, section 9). Records without a digest
// stay.
func strongest(records []adns.TLSA) []adns.TLSA {
	weaker := func(r adns.TLSA) bool {
		return r.MatchType == adns.TLSAMatchTypeSHA256 && slices.ContainsFunc(records, func(other adns.TLSA) bool {
			return other.MatchType == adns.TLSAMatchTypeSHA512 && other.Usage == r.Usage && other.Selector == r.Selector
		})
	}
	var kept []adns.TLSA
	for _, r := range records {
		if !weaker(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// Proof is by what a certificate was found good: one TLSA record.
type Proof struct {
	record adns.TLSA
	leaf   *x509.Certificate
}

// Verification is the proof in a word.
func (p *Proof) Verification() Verification {
	if p.record.Usage == adns.TLSAUsageDANETA {
		return VerifiedDANETA
	}
	return VerifiedDANEEE
}

// discard is where the library logs to.
var discard = slog.New(slog.DiscardHandler)

// examine holds what the host showed against the records. The chain is a
// stranger's, and so are the records: a panic over them is no proof.
func (d *DANE) examine(cs tls.ConnectionState) (proof *Proof, problem *Problem) {
	defer func() {
		if p := recover(); p != nil {
			proof, problem = nil, &Problem{Reason: DANEMismatch, Text: fmt.Sprintf("internal error: %v", p)}
		}
	}()
	if len(cs.PeerCertificates) == 0 {
		return nil, &Problem{Reason: DANEMismatch, Text: "the server showed no certificate"}
	}
	leaf := cs.PeerCertificates[0]
	// A chain is built for each name that is given: the one that will do is enough.
	name := d.base
	if i := slices.IndexFunc(d.names, func(name string) bool { return leaf.VerifyHostname(name) == nil }); i >= 0 {
		name = d.names[i]
	}
	ok, record, err := dane.Verify(discard, d.usable, cs, dns.Domain{ASCII: name}, nil, nil)
	switch {
	case ok:
		return &Proof{record: record, leaf: leaf}, nil
	case err != nil:
		return nil, &Problem{Reason: DANEMismatch, Text: "no TLSA record proves the certificate: " + err.Error()}
	}
	return nil, &Problem{Reason: DANEMismatch, Text: "no TLSA record matches the certificate"}
}

// provedBy reports whether an earlier proof holds under these records too: the
// record is still one of them, and, since DANE-TA is about names, the
// certificate has one of those that count here.
func (d *DANE) provedBy(p *Proof) bool {
	if d == nil || p == nil || !slices.ContainsFunc(d.usable, p.by) {
		return false
	}
	return p.Verification() == VerifiedDANEEE || slices.ContainsFunc(d.names, func(name string) bool {
		return p.leaf.VerifyHostname(name) == nil
	})
}

// by reports whether r is the record that the proof rests on.
func (p *Proof) by(r adns.TLSA) bool {
	return r.Usage == p.record.Usage && r.Selector == p.record.Selector && r.MatchType == p.record.MatchType &&
		string(r.CertAssoc) == string(p.record.CertAssoc)
}
