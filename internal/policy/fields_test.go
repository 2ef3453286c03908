package policy

import (
	"errors"
	"net/textproto"
	"strings"
	"testing"
)

// header returns the values function of a header written as "Name: value" lines.
func header(lines ...string) func(string) []string {
	h := textproto.MIMEHeader{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, value)
	}
	return h.Values
}

func TestReadFields(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		header    []string
		want      Override
		err       string
		tightened Override
	}{
		{name: "none", header: []string{"Subject: X-Require-TLS"}},
		{name: "both", header: []string{"X-Require-TLS: yes", "X-Skip-Verification: no"},
			want: Override{Yes, No}, tightened: Override{Yes, No}},
		{name: "names and values in any case", header: []string{"x-mailgun-require-tls: TRUE", "X-MAILGUN-SKIP-VERIFICATION: Off"},
			want: Override{Yes, No}, tightened: Override{Yes, No}},
		{name: "loosening", header: []string{"X-Require-TLS: 0", "X-Skip-Verification: on"}, want: Override{No, Yes}},
		{name: "folded", header: []string{"X-Require-TLS: \r\n yes \t"}, want: Override{Yes, Unset}, tightened: Override{Yes, Unset}},
		{name: "twice the same", header: []string{"X-Require-TLS: yes", "X-Require-TLS: 1", "X-Mailgun-Require-TLS: True"},
			want: Override{Yes, Unset}, tightened: Override{Yes, Unset}},
		{name: "contradiction in one field", header: []string{"X-Require-TLS: yes", "X-Require-TLS: no"},
			err: `header field X-Require-TLS: "no" contradicts X-Require-TLS`, tightened: Override{Yes, Unset}},
		{name: "contradiction of two fields", header: []string{"X-Skip-Verification: yes", "X-Mailgun-Skip-Verification: no"},
			err:       `header field X-Mailgun-Skip-Verification: "no" contradicts X-Skip-Verification`,
			tightened: Override{Unset, No}},
		{name: "malformed", header: []string{"X-Require-TLS: maybe"},
			err: `header field X-Require-TLS: "maybe", expected yes or no`},
		{name: "malformed beside a good one", header: []string{"X-Require-TLS: yes", "X-Mailgun-Require-TLS: =?utf-8?q?no?=", "X-Skip-Verification: no"},
			err:       `header field X-Mailgun-Require-TLS: "=?utf-8?q?no?=", expected yes or no`,
			tightened: Override{Yes, No}},
		{name: "empty", header: []string{"X-Skip-Verification:"},
			err: `header field X-Skip-Verification: "", expected yes or no`},
		{name: "escaped and cut", header: []string{"X-Require-TLS: \x1b" + strings.Repeat("é", 500)},
			err: `header field X-Require-TLS: "\x1b` + strings.Repeat(`\u00e9`, 31) + `"..., expected yes or no`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := DefaultFields().Read(header(test.header...))
			text := ""
			if err != nil {
				var fe *FieldError
				if !errors.As(err, &fe) {
					t.Errorf("error is a %T", err)
				}
				text = strings.Replace(err.Error(), ": unexpected ", ": ", 1)
			}
			if got != test.want || text != test.err {
				t.Errorf("Read\n got %v, %s\nwant %v, %s", got, text, test.want, test.err)
			}
			if got := DefaultFields().ReadTightening(header(test.header...)); got != test.tightened {
				t.Errorf("ReadTightening: got %v, want %v", got, test.tightened)
			}
		})
	}
}

func TestFieldNames(t *testing.T) {
	t.Parallel()
	f := DefaultFields()
	want := "X-Require-TLS X-Mailgun-Require-TLS X-Skip-Verification X-Mailgun-Skip-Verification"
	if got := strings.Join(f.Names(), " "); got != want {
		t.Errorf("got %s", got)
	}
	f.RequireTLS[0] = "X-Other"
	if got := DefaultFields().Names()[0]; got != "X-Require-TLS" {
		t.Errorf("a caller changed the defaults: %s", got)
	}
}

func FuzzFields(f *testing.F) {
	f.Add("yes", "no", "on", "off")
	f.Add("maybe", "yes", "", "no")
	f.Add(" 1\r\n", "TRUE", "\x00", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		h := textproto.MIMEHeader{
			"X-Require-Tls": {a, b}, "X-Skip-Verification": {c}, "X-Mailgun-Skip-Verification": {d},
		}
		tight := DefaultFields().ReadTightening(h.Values)
		if tight.RequireTLS == No || tight.SkipVerification == Yes {
			t.Errorf("loosened: %v", tight)
		}
		got, err := DefaultFields().Read(h.Values)
		if err != nil {
			checkHarmless(t, err.Error())
			if !got.IsZero() {
				t.Errorf("error and %v", got)
			}
			return
		}
		if tight != tightening(got) {
			t.Errorf("Read says %v, ReadTightening %v", got, tight)
		}
	})
}
