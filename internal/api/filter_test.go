package api

import (
	"fmt"
	"strings"
	"testing"
)

// text is a filter as one line.
func text(f Filter) string {
	list := func(op string, all []Filter) string {
		words := make([]string, len(all))
		for i, f := range all {
			words[i] = text(f)
		}
		return "(" + strings.Join(words, op) + ")"
	}
	switch f := f.(type) {
	case And:
		return list(" & ", f)
	case Or:
		return list(" | ", f)
	case Not:
		return "!" + text(f.Filter)
	case Is:
		return f.Field + "=" + strings.Join(f.Values, ",")
	case Contains:
		return f.Field + "~" + f.Text
	case Compare:
		return fmt.Sprint(f.Field, f.How, f.Value)
	}
	return "nil"
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, expression, want string }{
		{"event", "failed", "event=failed"},
		{"event", "accepted OR Delivered", "(event=accepted | event=Delivered)"},
		{"event", "NOT failed", "!event=failed"},
		{"event", "opened", "()"},
		{"event", "opened OR failed", "(() | event=failed)"},
		{"event", "Clicked OR unsubscribed OR complained OR stored OR rejected", "(() | () | () | () | ())"},
		{"event", "NOT opened", "!()"},
		{"severity", "Temporary OR permanent", "(severity=Temporary | severity=permanent)"},
		{"severity", "permanent", "severity=permanent"},
		{"recipient", "b@example.net", "recipient=b@example.net"},
		{"recipient", "b@xn--bcher-kva.example", "recipient=b@xn--bcher-kva.example,b@bücher.example"},
		{"from", "b@Bücher.example", "sender=b@Bücher.example,b@xn--bcher-kva.example"},
		{"recipients", "example.net", "recipient~example.net"},
		{"to", "@example.net", "recipient~@example.net"},
		{"from", "a@example.com OR b@example.com", "(sender=a@example.com | sender=b@example.com)"},
		{"subject", "foo bar", "(subject~foo & subject~bar)"},
		{"subject", "foo AND bar", "(subject~foo & subject~bar)"},
		{"subject", `"foo bar" baz`, "(subject~foo bar & subject~baz)"},
		{"subject", `"AND" "("`, "(subject~AND & subject~()"},
		{"subject", "foo and bar", "(subject~foo & subject~and & subject~bar)"},
		{"subject", "(foo AND bar) OR NOT baz", "((subject~foo & subject~bar) | !subject~baz)"},
		{"subject", "a OR b c OR d", "(subject~a | (subject~b & subject~c) | subject~d)"},
		{"subject", "NOT NOT(a)b", "(!!subject~a & subject~b)"},
		{"subject", "x'; DROP TABLE events --", "(subject~x'; & subject~DROP & subject~TABLE & subject~events & subject~--)"},
		{"message-id", "<x@example.com>", "message-id=x@example.com"},
		{"tags", `bills OR "two words"`, "(tags=bills | tags=two words)"},
		{"size", ">10000 <20000", "(size>10000 & size<20000)"},
		{"size", "NOT (>=10000 OR <=5)", "!(size>=10000 | size<=5)"},
		{"size", "42", "size=42"},
		{"tls", "yes", "tls=true"},
		{"tls", "False", "tls=false"},
		{"certificate-verified", "no", "certificate-verified=false"},
		{"content-sent", "clear OR Unverified", "(content-sent=clear | content-sent=Unverified)"},
		{"mx-host", "mx1.example.net", "mx-host=mx1.example.net"},
		{"reason", "timeout OR connect", "(reason=timeout | reason=connect)"},
	} {
		f, err := parseFilter(tt.name, tt.expression)
		if err != nil || text(f) != tt.want {
			t.Errorf("%s %s: %s, %v, want %s", tt.name, tt.expression, text(f), err, tt.want)
		}
	}
	for _, tt := range []struct{ name, expression, want string }{
		{"subject", "", "subject parameter is empty, expected an expression"},
		{"subject", "  ", "subject parameter is empty, expected an expression"},
		{"subject", "AND", "subject parameter: unexpected AND in the expression"},
		{"subject", "a OR", "subject parameter: the expression ends where a word is expected"},
		{"subject", "(a", "subject parameter: the expression ends where a word is expected"},
		{"subject", "a)", "subject parameter: unexpected ) in the expression"},
		{"subject", "()", "subject parameter: unexpected ) in the expression"},
		{"subject", "NOT", "subject parameter: the expression ends where a word is expected"},
		{"subject", `"a`, "subject parameter: expected words between quotation marks"},
		{"subject", `""`, "subject parameter: expected words between quotation marks"},
		{"subject", strings.Repeat("(", 11) + "a" + strings.Repeat(")", 11), "subject parameter: more than 10 parentheses inside each other"},
		{"subject", strings.Repeat("NOT ", 11) + "a", "subject parameter: more than 10 parentheses inside each other"},
		{"subject", strings.Repeat("a ", 201), "subject parameter: the expression has more than 200 words"},
		{"subject", strings.Repeat("a", 2049), "subject parameter: expected an expression of at most 2048 octets without control characters"},
		{"subject", "a\x00", "subject parameter: expected an expression of at most 2048 octets without control characters"},
		{"subject", "a\xff", "subject parameter: expected an expression of at most 2048 octets without control characters"},
		{"size", "big", "size parameter: unexpected big, expected a number, or one with < or > before it"},
		{"size", "<>5", "size parameter: unexpected <>5, expected a number, or one with < or > before it"},
		{"size", ">", `size parameter: unexpected >, expected a number, or one with < or > before it`},
		{"size", "99999999999999999999", "size parameter: unexpected 99999999999999999999, expected a number, or one with < or > before it"},
		{"tls", "1", "tls parameter: unexpected 1, expected true or false"},
		{"event", "bogus", "event parameter: unexpected bogus, expected accepted, delivered or failed"},
		{"event", "failed OR delivred", "event parameter: unexpected delivred, expected accepted, delivered or failed"},
		{"event", "NOT \x27", "event parameter: unexpected ', expected accepted, delivered or failed"},
		{"content-sent", "plain", "content-sent parameter: unexpected plain, expected clear, unverified or verified"},
		{"severity", "x", "severity parameter: unexpected x, expected permanent or temporary"},
		{"reason", "bounce", "reason parameter: unexpected bounce, expected " + words(reasonWords)},
	} {
		if _, err := parseFilter(tt.name, tt.expression); err == nil || err.Error() != tt.want {
			t.Errorf("%s %.80s: %v, want %s", tt.name, tt.expression, err, tt.want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("subject", `(foo AND "bar baz") OR NOT >=10`)
	f.Add("size", "NOT (>10000 OR <5)")
	f.Add("event", "accepted failed")
	f.Add("tls", "true OR (no")
	f.Fuzz(func(t *testing.T, name, expression string) {
		if _, ok := filters[name]; !ok {
			return
		}
		tree, err := parseFilter(name, expression)
		if err != nil {
			if len(err.Error()) > 600 || strings.ContainsFunc(err.Error(), control) {
				t.Errorf("error %q", err)
			}
			return
		}
		if depth(tree) > 4*maxNesting {
			t.Errorf("%d conditions inside each other", depth(tree))
		}
	})
}

func depth(f Filter) int {
	deepest := 0
	each := func(all []Filter) {
		for _, f := range all {
			deepest = max(deepest, depth(f))
		}
	}
	switch f := f.(type) {
	case And:
		each(f)
	case Or:
		each(f)
	case Not:
		each([]Filter{f.Filter})
	}
	return deepest + 1
}
