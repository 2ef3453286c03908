package downgrade

import (
	"bytes"
	"strings"
	"testing"

	"tlscontrol/internal/tlsplan"
)

// FuzzParse: whatever is in the file, what is taken from it is what was written,
// and writing it again gives the same.
func FuzzParse(f *testing.F) {
	good := appendLine(nil, record{mx, Evidence{noon, noon, tlsplan.VerifiedDANEEE}})
	for _, seed := range [][]byte{
		nil, good, good[:20], bytes.Repeat(good, 3), append([]byte(strings.Repeat("x", maxLine)), good...),
		[]byte("1 mx1.example.net 0 0 none 00000000\n"), []byte("\n\n"), []byte("1 a 9223372036854775807 -1 pkix 5f3a9c1e\n"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); len(c.records)+c.damaged > lines+1 {
			t.Fatalf("%d records and %d damaged lines of %d", len(c.records), c.damaged, lines)
		}
		var again []byte
		for _, r := range c.records {
			if !ValidHost(r.host) || r.Verified.IsZero() != (r.By == "") {
				t.Fatalf("record %+v", r)
			}
			line := appendLine(nil, r)
			if !bytes.Contains(text, line) {
				t.Fatalf("%q was not there", line)
			}
			again = append(again, line...)
		}
		c2, err := parse(bytes.NewReader(again))
		if err != nil || c2.damaged != 0 || c2.torn || len(c2.records) != len(c.records) {
			t.Fatalf("%+v became %+v, %v", c, c2, err)
		}
	})
}
