package smtpwire

import (
	"strings"
	"testing"
)

// What a server calls itself is the first word of what it says, in bounds.
func TestServerName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ greeting, ehlo, wantGreeting, wantEHLO string }{
		{"220 mx.example ESMTP", "250 mx.example says hello", "mx.example", "mx.example"},
		{"220-mx.example\n220 second", "250-a.example\n250 PIPELINING", "mx.example", "a.example"},
		{"220", "250", "", ""},
		{"220 \tmx.example", "250  mx.example", "", ""},
		{"220 mx.example\x00\x1b[2J x", "250 é", "mx.example\x00\x1b[2J", "é"},
		{"220 " + strings.Repeat("a", 1000), "250 " + strings.Repeat("b", 1000), strings.Repeat("a", 255), strings.Repeat("b", 255)},
	} {
		script := ""
		for line := range strings.SplitSeq(test.greeting, "\n") {
			script += "S: " + line + "\n"
		}
		script += "C: EHLO relay.example\n"
		for line := range strings.SplitSeq(test.ehlo, "\n") {
			script += "S: " + line + "\n"
		}
		c := open(t, dialogue(t, script), patient())
		if greeting, hello := c.ServerName(); greeting != test.wantGreeting || hello != test.wantEHLO {
			t.Errorf("%q, %q: got %q, %q", test.greeting, test.ehlo, greeting, hello)
		}
	}
	c := open(t, dialogue(t, `
		S: 220 old.example
		C: EHLO relay.example
		S: 502 what
		C: HELO relay.example
		S: 250 older.example
	`), patient())
	if _, hello := c.ServerName(); hello != "older.example" {
		t.Errorf("after HELO: %q", hello)
	}
}
