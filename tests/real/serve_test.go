package real

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// host is the name of the MX host.
func (c mxCase) host() string {
	switch {
	case c.door != "":
		return c.door + ".mx.test"
	case c.plainHost:
		return c.name + "-mx.plain.test"
	case c.bogus:
		return c.name + "-mx.test"
	}
	return c.name + "-mx.signed.test"
}

// domain is where mail goes.
func (c mxCase) domain() string {
	if c.plainDomain {
		return c.name + ".plain.test"
	}
	return c.name + ".signed.test"
}

// serveCases starts the MX hosts of all cases, on the receiver's port, and returns
// the zones that name them.
func serveCases(t *testing.T, r *receiver, cases []mxCase) []zone {
	t.Helper()
	zones := map[string]*zone{
		"signed": {"signed", nsec, ""},
		"plain":  {"plain", unsigned, ""},
		"mx":     {"mx", nsec, ""},
		"":       {"", nsec, ""},
	}
	ips := network(len(cases))
	for i, c := range cases {
		if c.bogus {
			label := "_tcp." + c.name + "-mx"
			zones[label] = &zone{label, alien, ""}
		}
		for record := range strings.Lines(c.serve(t, r, ips[i])) {
			owner, _, _ := strings.Cut(record, ".test. ")
			in := "" // the closest zone
			for name := range zones {
				if strings.HasSuffix(owner, "."+name) && len(name) > len(in) {
					in = name
				}
			}
			zones[in].records += record
		}
	}
	var all []zone
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		all = append(all, *zones[name])
	}
	return all
}

// serve starts the MX host of a case, unless it is a door of the receiver, and
// returns its records.
func (c mxCase) serve(t *testing.T, r *receiver, ip string) (records string) {
	t.Helper()
	cert := r.certs[c.door]
	if c.door != "" {
		ip = r.ips[c.door]
	} else {
		b := mailtest.Behaviour{}
		if c.kind != "" {
			cert = c.certificate(t, r.ca)
			b.Certificate = &cert
		}
		if c.onlySNI {
			other, err := r.ca.Issue(mailtest.SelfSigned, "elsewhere.invalid")
			if err != nil {
				t.Fatal(err)
			}
			b.NoSNICertificate = &other
		}
		if c.script != nil {
			c.script(&b)
		}
		m, err := mailtest.NewMX(net.JoinHostPort(ip, fmt.Sprint(r.port)), b)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
	}
	at, target := c.host(), c.host()
	if c.alias != "" {
		target = strings.Replace(target, "-mx.", "-target.", 1)
		records += fmt.Sprintf("%s. CNAME %s.\n", at, target)
	}
	if c.alias == "target" {
		at = target
	}
	records += fmt.Sprintf("%s. MX 10 %s.\n%s. A %s\n", c.domain(), c.host(), target, ip)
	for _, spec := range c.tlsa {
		records += fmt.Sprintf("_%d._tcp.%s. TLSA %s\n", r.port, at, tlsaRecord(t, spec, cert, r.ca))
	}
	return records
}

// certificate is what the host of a case shows.
func (c mxCase) certificate(t *testing.T, ca *mailtest.CA) tls.Certificate {
	t.Helper()
	names := map[string][]string{
		"": {c.host(), c.domain()}, "host": {c.host()}, "domain": {c.domain()}, "neither": {"neither.invalid"},
	}[c.names]
	cert, err := ca.Issue(c.kind, names...)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// tlsaRecord makes the data of a TLSA record out of usage, selector, matching type
// and what it is about: leaf, intermediate or root, other (of somebody else), or
// malformed.
func tlsaRecord(t *testing.T, spec string, cert tls.Certificate, ca *mailtest.CA) string {
	t.Helper()
	var usage, selector, matching int
	var about string
	if _, err := fmt.Sscan(spec, &usage, &selector, &matching, &about); err != nil {
		t.Fatal(err)
	}
	stranger, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]*x509.Certificate{
		"leaf": cert.Leaf, "intermediate": ca.Intermediate(), "root": ca.Root(), "other": stranger.Root(),
	}[about]
	data := []byte("malformed")
	if of != nil {
		data = of.Raw
		if selector == 1 {
			data = of.RawSubjectPublicKeyInfo
		}
		switch matching {
		case 1:
			sum := sha256.Sum256(data)
			data = sum[:]
		case 2:
			sum := sha512.Sum512(data)
			data = sum[:]
		}
	}
	return fmt.Sprintf("%d %d %d %s", usage, selector, matching, hex.EncodeToString(data))
}
