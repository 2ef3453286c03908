package real

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// TestAgreement: posttls-finger and we say the same about every MX host of the
// matrix, except where the matrix says otherwise, and why. What we say is what
// "maddy tls probe" prints.
func TestAgreement(t *testing.T) {
	t.Parallel()
	need(t, fingerPart, nsdPart, unboundPart, ldnsPart)
	all := mxCases()
	doors := slices.DeleteFunc(slices.Clone(all), func(c mxCase) bool { return c.door == "" })
	t.Run("scripted and Postfix", func(t *testing.T) {
		t.Parallel()
		agree(t, all, startPostfix(t, domainsOf(doors)...))
	})
	t.Run("Exim", func(t *testing.T) {
		t.Parallel()
		agree(t, doors, startExim(t, domainsOf(doors)...))
	})
}

func domainsOf(cases []mxCase) (domains []string) {
	for _, c := range cases {
		domains = append(domains, c.domain())
	}
	return domains
}

// agree compares the verdicts. Doors are those of r.
func agree(t *testing.T, cases []mxCase, r *receiver) {
	n := startNameserver(t, serveCases(t, r, cases)...)
	roots := n.path("ca.pem")
	if err := r.ca.WriteFile(roots); err != nil {
		t.Fatal(err)
	}
	f := newFinger(t, n, roots)
	table := &strings.Builder{}
	w := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	agreed := 0
	for _, c := range cases {
		var options []string
		if c.sni {
			options = []string{"-s", c.host()}
		}
		theirs, said := f.examine(t, c.level, fmt.Sprintf("%s:%d", c.domain(), r.port), options...)
		doc := probe(t, c.domain(), n.resolver, r.port, roots)
		ours := verdictOf(doc)
		expected := c.theirs
		if expected == "" {
			expected = c.want
		}
		if theirs != expected || ours != c.want {
			t.Errorf("%s: posttls-finger says %q, want %q; we say %q, want %q\n%s%v", c.name, theirs, expected, ours, c.want, said, doc)
		}
		if theirs == ours {
			agreed++
			if by := doc.address()["verification"]; ours == isVerified && by != provedBy(said) {
				t.Errorf("%s: verified by %v, but posttls-finger says\n%s", c.name, by, said)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.name, c.level, theirs, ours, c.why)
	}
	w.Flush()
	t.Logf("posttls-finger and we, case by case:\n%s%d cases, %d agree, %d differ as expected", table, len(cases), agreed, len(cases)-agreed)
}
