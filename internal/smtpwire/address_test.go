package smtpwire

import (
	"errors"
	"strings"
	"testing"
)

func TestWireAddress(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 990)
	for _, test := range []struct {
		in   string
		utf8 bool
		want string
		err  error
	}{
		{"a@example.org", false, "a@example.org", nil},
		{"A.b+c@EXAMPLE.org", false, "A.b+c@EXAMPLE.org", nil},
		{"a@[192.0.2.1]", false, "a@[192.0.2.1]", nil},
		{"a@_odd.example", false, "a@_odd.example", nil},
		{"postMASTER", false, "postMASTER", nil},
		{`"a b"@example.org`, false, `"a b"@example.org`, nil},
		{`"a@b"@example.org`, false, `"a@b"@example.org`, nil},
		{`"<\">"@example.org`, false, `"<\">"@example.org`, nil},
		{"ü@bücher.example", true, "ü@bücher.example", nil},
		{"a@bücher.example", false, "a@xn--bcher-kva.example", nil},
		{"a@BÜCHER.example", false, "a@xn--bcher-kva.example", nil},
		{"a@_ü.example", false, "a@xn--_-eha.example", nil},
		{"a@ab--ü.example", false, "a@xn--ab---3ra.example", nil},
		{"ü@example.org", false, "", ErrUTF8},
		{"ü", false, "", ErrUTF8},
		{"", false, "", ErrBadAddress},
		{"a", false, "", ErrBadAddress},
		{"@", false, "", ErrBadAddress},
		{"a@", false, "", ErrBadAddress},
		{"@example.org", false, "", ErrBadAddress},
		{"@relay.example:a@example.org", false, "", ErrBadAddress},
		{"a@b@example.org", false, "", ErrBadAddress},
		{"a b@example.org", false, "", ErrBadAddress},
		{"a<b@example.org", false, "", ErrBadAddress},
		{`a"b@example.org`, false, "", ErrBadAddress},
		{`a\>@example.org`, false, "", ErrBadAddress},
		{`"a"b@example.org`, false, "", ErrBadAddress},
		{`"a@example.org`, false, "", ErrBadAddress},
		{`"a\"@example.org`, false, "", ErrBadAddress},
		{`"a"`, false, "", ErrBadAddress},
		{`"a"@`, false, "", ErrBadAddress},
		{"a@example.org> BODY=7BIT", false, "", ErrBadAddress},
		{"a@example.org>", false, "", ErrBadAddress},
		{"a@example.org ", false, "", ErrBadAddress},
		{"a@example.org\r\nDATA", false, "", ErrBadAddress},
		{"a\n@example.org", false, "", ErrBadAddress},
		{"\"a\r\n\"@example.org", false, "", ErrBadAddress},
		{"a\x00@example.org", false, "", ErrBadAddress},
		{"a\x7f@example.org", false, "", ErrBadAddress},
		{"a\u0085@example.org", true, "", ErrBadAddress},
		{"a@ex\xffample.org", true, "", ErrBadAddress},
		{long + "@exam.org", false, long + "@exam.org", nil},
		{long + "@example.org", false, "", ErrBadAddress},
		{"a@" + strings.Repeat("ü.", 300) + "example", false, "", ErrBadAddress},
		{"a@exa﹤mple.org", false, "", ErrBadAddress}, // maps to "<"
	} {
		got, err := wireAddress(test.in, test.utf8)
		if !errors.Is(err, test.err) || err == nil && got != test.want {
			t.Errorf("%.60q: %q, %v", test.in, got, err)
		}
	}
}

// FuzzAddress builds commands from hostile input: whatever is admitted makes
// exactly one line, whose path ends where ours does.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"a@example.org", `"a \" <b>"@example.org`, "ü@bücher.example", "a@b> X=Y\r\nDATA", "postmaster", "a@exa﹤mple.org", "a@[::1]",
	} {
		f.Add(seed, "QQ 1+=\r\n", "rfc822;"+seed, "FULL", true)
		f.Add(seed, "", "utf-8;"+seed, "", false)
	}
	f.Fuzz(func(t *testing.T, addr, envid, orcpt, notify string, utf8 bool) {
		c := &Conn{ext: parseExtensions("mx\nDSN\nSIZE\n8BITMIME")}
		x := &exchange{c: c, dsn: true, t: &Transaction{
			From: addr, EnvelopeID: envid, Size: 5,
			Recipients: []Recipient{{Address: addr, OriginalRecipient: orcpt, Notify: []string{notify}}},
		}}
		x.res.UTF8 = utf8
		if x.sender() == nil {
			checkCommand(t, string(x.appendMail(nil)), "MAIL FROM:", utf8)
		}
		wire, err := x.recipient(&x.t.Recipients[0])
		if err != nil {
			return
		}
		x.rcpts = []wireRcpt{{0, wire}}
		checkCommand(t, string(x.appendRcpt(nil, 0)), "RCPT TO:", utf8)
	})
}

// checkCommand takes a command apart as a server does.
func checkCommand(t *testing.T, line, verb string, utf8 bool) {
	t.Helper()
	rest, ok := strings.CutPrefix(line, verb+"<")
	rest, ended := strings.CutSuffix(rest, "\r\n")
	if !ok || !ended || strings.ContainsAny(rest, "\r\n\x00") || !utf8 && !isASCII(line) {
		t.Fatalf("bad command %q", line)
	}
	quoted := false
	for i := 0; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && quoted:
			i++
		case rest[i] == '"':
			quoted = !quoted
		case rest[i] == '<' && !quoted:
			t.Fatalf("a path in the path: %q", line)
		case rest[i] == '>' && !quoted:
			params := rest[i+1:]
			if params != "" && params[0] != ' ' || strings.ContainsAny(params, "<>\"") && !strings.Contains(params, "ENVID=") && !strings.Contains(params, "ORCPT=") {
				t.Fatalf("bad parameters %q", line)
			}
			for p := range strings.FieldsSeq(params) {
				name, value, _ := strings.Cut(p, "=")
				if !strings.Contains("SIZE BODY RET ENVID SMTPUTF8 NOTIFY ORCPT", name) || strings.Contains(value, "=") || !isASCII(value) {
					t.Fatalf("bad parameter %q in %q", p, line)
				}
			}
			return
		}
	}
	t.Fatalf("no end of the path: %q", line)
}
