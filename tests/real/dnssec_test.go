package real

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/route"
)

// records is what each zone has.
const records = `@ MX 10 mx
mx A 127.0.0.1
mx AAAA ::1
only4 A 127.0.0.1
empty TXT "neither MX nor addresses"
null MX 0 .
alias CNAME @
mx-alias CNAME mx
lost-alias CNAME nothing
loop CNAME loop
*.wild MX 10 mx
*.wild A 127.0.0.1
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
`

// inSecure is what is found of the MX records and of the addresses of each name
// in a zone where everything can be proven. "implicit" is the proof that there are
// no MX records.
var inSecure = map[string]string{
	"":            "secure / not found",
	"mx.":         "secure implicit / secure",
	"only4.":      "secure implicit / secure",
	"empty.":      "secure implicit / not found",
	"null.":       "null MX / not found",
	"alias.":      "secure / not found",
	"mx-alias.":   "secure implicit / secure",
	"lost-alias.": "not found / not found",
	"loop.":       "temporary / temporary",
	"any.wild.":   "secure / secure",
	"nothing.":    "not found / not found",
}

const bogus = "temporary / temporary"

// TestDNSSEC: what Unbound says of zones signed in every way, in the words of our
// resolver. What is secure is authentic, what is insecure is not, and what is
// bogus cannot be found out: it never passes for missing.
func TestDNSSEC(t *testing.T) {
	t.Parallel()
	n := startNameserver(t,
		zone{"nsec", nsec, records + "to-nsec3 CNAME nsec3.test.\nto-unsigned CNAME unsigned.test.\n" +
			"to-alien CNAME alien.test.\nfar MX 10 mx.unsigned.test.\ndname DNAME nsec3.test.\n"},
		zone{"nsec3", nsec3, records},
		zone{"opt-out", optOut, records},
		zone{"unsigned", unsigned, records + "to-nsec CNAME nsec.test.\n"},
		zone{"island", island, records},
		zone{"stripped", stripped, records},
		zone{"alien", alien, records},
		zone{"expired", expired, records},
		zone{"altered", altered, records},
	)
	r := route.NewResolver([]string{n.resolver})
	t.Cleanup(r.Close)
	count := 0
	expect := func(name, want string) {
		count++
		if got := foundMX(t, r, name) + " / " + foundAddresses(t, r, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range inSecure {
		expect(name+"nsec.test", want)
		expect(name+"nsec3.test", want)
		insecure := strings.ReplaceAll(want, "secure", "insecure")
		expect(name+"unsigned.test", insecure)
		expect(name+"island.test", insecure)
		if name == "any.wild." {
			// That the name itself is missing is not proven here, only that the
			// wildcard is there.
			want = insecure
		}
		expect(name+"opt-out.test", want)
		for _, zone := range []string{"stripped", "alien", "expired"} {
			expect(name+zone+".test", bogus)
		}
	}
	for name, want := range map[string]string{
		"to-nsec3.nsec.test":    "secure / not found",
		"mx.dname.nsec.test":    "secure implicit / secure",
		"to-unsigned.nsec.test": "insecure / not found",
		"to-nsec.unsigned.test": "insecure / not found",
		"to-alien.nsec.test":    bogus,
		"far.nsec.test":         "secure / not found", // whatever is known of the host
		"altered.test":          "secure / not found",
		"only4.altered.test":    "secure implicit / temporary",
		"mx.altered.test":       "secure implicit / secure", // its IPv6 address alone
		"no-such-zone.test":     "not found / not found",
		"no-such-top-level":     "not found / not found",
	} {
		expect(name, want)
	}
	for name, want := range map[string]string{
		"mx.nsec.test": "1 secure", "mx.nsec3.test": "1 secure", "mx.opt-out.test": "1 secure",
		"mx.unsigned.test": "1 insecure", "mx.island.test": "1 insecure",
		"mx.stripped.test": "temporary", "mx.alien.test": "temporary", "mx.expired.test": "temporary",
		"only4.nsec.test": "0 secure", "only4.nsec3.test": "0 secure", "only4.unsigned.test": "0 insecure",
		// Without a proof that there is none, for what that would be worth.
		"only4.opt-out.test": "0 insecure", "only4.alien.test": "temporary",
		"mx-alias.nsec.test": "0 secure", "any.wild.nsec.test": "0 secure", "nothing.nsec.test": "0 secure",
	} {
		count++
		if got := foundTLSA(t, r, name); got != want {
			t.Errorf("TLSA of %s: %s, want %s", name, got, want)
		}
	}
	t.Logf("%d lookups", count)
}

// foundMX is what is found of the MX records of a name.
func foundMX(t *testing.T, r *route.Resolver, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	found, err := r.Route(ctx, name)
	switch {
	case err != nil:
		return kindOf(t, err)
	case found.Hosts[0].Implicit:
		return security(found.Authentic) + " implicit"
	}
	return security(found.Authentic)
}

// foundAddresses is what is found of the addresses of a name.
func foundAddresses(t *testing.T, r *route.Resolver, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	found, err := r.Addresses(ctx, name, false)
	if err != nil {
		return kindOf(t, err)
	}
	return security(found.Authentic)
}

// foundTLSA is what is found of the TLSA records for port 25 of a name.
func foundTLSA(t *testing.T, r *route.Resolver, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	found, err := r.TLSA(ctx, name, 25)
	if err != nil {
		return kindOf(t, err)
	}
	return fmt.Sprintf("%d %s", len(found.Records), security(found.Authentic))
}

func security(authentic bool) string {
	if authentic {
		return "secure"
	}
	return "insecure"
}

func kindOf(t *testing.T, err error) string {
	t.Helper()
	var failure *route.Error
	if !errors.As(err, &failure) {
		t.Fatal(err)
	}
	return failure.Kind.String()
}
