package deliverylog

import (
	"strings"
	"testing"

	parser "github.com/foxcpp/maddy/framework/cfgparser"
)

// Whatever a block holds, the answer is settings within their bounds, or an
// error that says where. Nothing is opened: parse only reads.
func FuzzConfig(f *testing.F) {
	for _, m := range mistakes("/missing/log") {
		f.Add(m.line)
	}
	f.Add("output file a.jsonl\noutput syslog\nheaders Message-ID X-Campaign")
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.Contains(lines, "import") || strings.Contains(lines, "{env:") {
			return // the parser would open other files
		}
		blocks, err := parser.Read(strings.NewReader("delivery_log d {\n"+lines+"\n}"), "maddy.conf")
		if err != nil || len(blocks) == 0 {
			return
		}
		s, err := parse(blocks[0])
		if err != nil {
			if !strings.HasPrefix(err.Error(), "maddy.conf:") {
				t.Errorf("no place: %v", err)
			}
			return
		}
		if len(s.headers) == 0 || len(s.headers) > 32 {
			t.Errorf("%d headers", len(s.headers))
		}
		for _, o := range s.outputs {
			if o.kind == kindOff || (o.kind == kindFile) != (o.path != "") {
				t.Errorf("output %+v", o)
			}
		}
	})
}
