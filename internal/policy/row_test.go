package policy

import (
	"strings"
	"testing"
)

func TestParseRow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		row  string
		want Block
		err  string
	}{
		{row: "require_tls=yes", want: Block{RequireTLS: Yes}},
		{row: "\trequire_tls=ON  skip_verification=0 ", want: Block{RequireTLS: Yes, SkipVerification: No}},
		{
			row: "require_tls=yes skip_verification=no on_failure=reject opportunistic_fallback=unverified message_override=tighten",
			want: Block{RequireTLS: Yes, SkipVerification: No, OnFailure: Reject, Fallback: Unverified,
				MessageOverride: AdmitTighten},
		},
		{row: "on_failure=defer opportunistic_fallback=plaintext message_override=none",
			want: Block{OnFailure: Defer, Fallback: Plaintext, MessageOverride: AdmitNone}},

		{row: "", err: "empty row, expected key=value words"},
		{row: " \t", err: "empty row, expected key=value words"},
		{row: "require_tls", err: `unexpected "require_tls", expected key=value`},
		{row: "require_tls=yes,", err: `require_tls: unexpected "yes,", expected yes or no`},
		{row: "require_tls=", err: `require_tls: unexpected "", expected yes or no`},
		{row: "require_tls = yes", err: `unexpected "require_tls", expected key=value`},
		{row: "require_tls=yes require_tls=yes", err: `"require_tls" is set twice`},
		{row: "Require_TLS=yes", err: `unexpected "Require_TLS", expected one of require_tls, skip_verification, on_failure, opportunistic_fallback, message_override`},
		{row: "=yes", err: `unexpected "", expected one of require_tls, skip_verification, on_failure, opportunistic_fallback, message_override`},
		{row: "on_failure=bounce", err: `on_failure: unexpected "bounce", expected defer or reject`},
		{row: "opportunistic_fallback=none", err: `opportunistic_fallback: unexpected "none", expected plaintext or unverified`},
		{row: "message_override=yes", err: `message_override: unexpected "yes", expected any, tighten or none`},
		{row: "require_tls=yes\x00\x1b[2J", err: `require_tls: unexpected "yes\x00\x1b[2J", expected yes or no`},
		{row: strings.Repeat(" ", 1025), err: "longer than 1024 bytes"},
		{row: strings.Repeat("ü", 100), err: `unexpected "` + strings.Repeat(`\u00fc`, 32) + `"..., expected key=value`},
	}
	for _, test := range tests {
		got, err := ParseRow(test.row)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != test.want || text != test.err {
			t.Errorf("ParseRow(%q)\n got %+v, %s\nwant %+v, %s", test.row, got, text, test.want, test.err)
		}
	}
}

func TestQuoteCutsBetweenCharacters(t *testing.T) {
	t.Parallel()
	if got, want := Quote(strings.Repeat("x", 63)+"üü"), `"`+strings.Repeat("x", 63)+`"...`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Quote(strings.Repeat("\xbf", 1000)); len(got) > 4*64+5 {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add("require_tls=yes skip_verification=no on_failure=reject opportunistic_fallback=unverified message_override=tighten")
	f.Add("require_tls=yes require_tls=no")
	f.Add("=\x00= \u2003 on_failure")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseRow(s)
		if err != nil {
			if b != (Block{}) {
				t.Errorf("half a row: %+v", b)
			}
			checkHarmless(t, err.Error())
			return
		}
		if b.Silent() {
			t.Errorf("%q is read as a row that says nothing", s)
		}
	})
}

// checkHarmless fails if a text could break a log line or an SMTP reply.
func checkHarmless(t *testing.T, text string) {
	t.Helper()
	if len(text) > 1024 {
		t.Errorf("%d bytes", len(text))
	}
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			t.Errorf("%q holds byte %#x", text, c)
		}
	}
}

// A block that is written as a row is read as the same block.
func TestRowRoundTrip(t *testing.T) {
	t.Parallel()
	const all = "require_tls=yes skip_verification=no on_failure=reject opportunistic_fallback=unverified message_override=tighten"
	b, err := ParseRow(all)
	if err != nil || b.Row() != all {
		t.Fatalf("%q, %v", b.Row(), err)
	}
	for _, name := range SettingNames() {
		value := b.Get(name)
		if err := b.Clear(name); err != nil || value == "" || b.Get(name) != "" {
			t.Errorf("%s: %q became %q, %v", name, value, b.Get(name), err)
		}
		if got, err := ParseRow(b.Row()); err != nil && !b.Silent() || got != b {
			t.Errorf("%q: %+v, %v", b.Row(), got, err)
		}
	}
	if b.Row() != "" || b.Get("tls") != "" {
		t.Errorf("%+v", b)
	}
	if err := b.Clear("tls"); err == nil {
		t.Error("an unknown setting was cleared")
	}
}
