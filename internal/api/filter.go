package api

import (
	"slices"
	"strconv"
	"strings"

	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// Filter is a condition on events: And, Or, Not, Is, Contains or Compare. The
// fields are those of the document: event, severity, reason, sender, recipient,
// message-id, mx-host, subject, list, tags, attachment, size, tls, certificate-verified,
// content-sent.
type Filter interface{ filter() }

// And is true when all of its conditions are.
type And []Filter

// Or is true when one of its conditions is.
type Or []Filter

// Not is true when its condition is not.
type Not struct{ Filter Filter }

// Is is true when the field is one of the values; tags when one of them is.
type Is struct {
	Field  string
	Values []string
}

// Contains is true when the text is somewhere in the field.
type Contains struct{ Field, Text string }

// Compare is true when the number of the field is less or greater: <, >, <=, >=.
type Compare struct {
	Field, How string
	Value      int64
}

func (And) filter()      {}
func (Or) filter()       {}
func (Not) filter()      {}
func (Is) filter()       {}
func (Contains) filter() {}
func (Compare) filter()  {}

// matching is how a word of an expression is compared.
type matching int

const (
	exactly     matching = iota // the whole field
	asAddress                   // an address is the whole field, anything else part of it
	anywhere                    // part of the field
	asID                        // the whole field, without angle brackets
	asNumber                    // a number, or one with < or > before it
	asFlag                      // yes or no
	eventNames                  // a word that an event can be
	severities                  // temporary or permanent
	reasons                     // why a delivery failed
	protections                 // how text left
)

// filters are the parameters of a question that are expressions, with the field
// that each is about. The first are Mailgun's, the others ours.
var filters = map[string]struct {
	field string
	how   matching
}{
	"event":      {"event", eventNames},
	"severity":   {"severity", severities},
	"recipient":  {"recipient", asAddress},
	"recipients": {"recipient", asAddress},
	"to":         {"recipient", asAddress},
	"from":       {"sender", asAddress},
	"subject":    {"subject", anywhere},
	"message-id": {"message-id", asID},
	"tags":       {"tags", exactly},
	"attachment": {"attachment", exactly},
	"list":       {"list", anywhere},
	"size":       {"size", asNumber},

	"tls":                  {"tls", asFlag},
	"certificate-verified": {"certificate-verified", asFlag},
	"content-sent":         {"content-sent", protections},
	"mx-host":              {"mx-host", exactly},
	"reason":               {"reason", reasons},
}

// eventWords are the names that go out. One client library cannot read a page
// with a name that it does not know.
var eventWords = []string{"accepted", "delivered", "failed"}

// otherEvents are what else happens to messages at Mailgun. Scripts that poll for
// them are right to: there are just none of these.
var otherEvents = []string{
	"clicked", "complained", "dropped", "list_member_upload_error", "list_member_uploaded", "list_uploaded", "opened", "rejected",
	"stored", "unsubscribed",
}

// severityWords are how failures are.
var severityWords = []string{"permanent", "temporary"}

// protectionWords are how the text of a message left.
var protectionWords = []string{string(tlsplan.ProtectionClear), string(tlsplan.ProtectionUnverified), string(tlsplan.ProtectionVerified)}

// reasonWords are those of the delivery log.
var reasonWords = func() []string {
	var all []string
	for _, r := range tlsplan.Reasons() {
		all = append(all, string(r))
	}
	slices.Sort(all)
	return all
}()

// Bounds of an expression.
const (
	maxExpression = 2 << 10
	maxTokens     = 200
	maxNesting    = 10
)

// parseFilter reads the expression of a parameter:
//
//	expression = all { "OR" all }
//	all        = one { [ "AND" ] one }
//	one        = "NOT" one | "(" expression ")" | word | "quoted words"
//
// AND, OR and NOT are operators in capitals only. Letter case does not matter to
// words.
func parseFilter(name, text string) (Filter, error) {
	f := filters[name]
	p := parser{name: name, field: f.field, how: f.how}
	if err := p.scan(text); err != nil {
		return nil, err
	}
	if len(p.tokens) == 0 {
		return nil, bad("%s parameter is empty, expected an expression", name)
	}
	tree, err := p.expression(0)
	if err == nil && len(p.tokens) > 0 {
		err = p.unexpected()
	}
	return tree, err
}

// token is a word of an expression, or one of ( ) AND OR NOT.
type token struct {
	text   string
	word   bool
	quoted bool
}

type parser struct {
	name, field string
	how         matching
	tokens      []token
}

// scan takes the text apart.
func (p *parser) scan(text string) error {
	if len(text) > maxExpression || strings.ContainsFunc(text, control) || strings.ToValidUTF8(text, "") != text {
		return bad("%s parameter: expected an expression of at most %d octets without control characters", p.name, maxExpression)
	}
	for text = strings.TrimLeft(text, " \t"); text != ""; text = strings.TrimLeft(text, " \t") {
		if len(p.tokens) == maxTokens {
			return bad("%s parameter: the expression has more than %d words", p.name, maxTokens)
		}
		switch text[0] {
		case '(', ')':
			p.tokens = append(p.tokens, token{text: text[:1]})
			text = text[1:]
		case '"':
			word, rest, ok := strings.Cut(text[1:], `"`)
			if !ok || word == "" {
				return bad("%s parameter: expected words between quotation marks", p.name)
			}
			p.tokens = append(p.tokens, token{word, true, true})
			text = rest
		default:
			end := strings.IndexAny(text, " \t()\"")
			if end < 0 {
				end = len(text)
			}
			word := text[:end]
			p.tokens = append(p.tokens, token{text: word, word: !slices.Contains([]string{"AND", "OR", "NOT"}, word)})
			text = text[end:]
		}
	}
	return nil
}

// next reports whether the next token is this operator.
func (p *parser) next(op string) bool {
	return len(p.tokens) > 0 && !p.tokens[0].word && p.tokens[0].text == op
}

// skip passes over this operator, if it is the next token.
func (p *parser) skip(op string) bool {
	if !p.next(op) {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *parser) unexpected() error {
	if len(p.tokens) == 0 {
		return bad("%s parameter: the expression ends where a word is expected", p.name)
	}
	return bad("%s parameter: unexpected %s in the expression", p.name, shown(p.tokens[0].text))
}

func (p *parser) expression(depth int) (Filter, error) {
	if depth > maxNesting {
		return nil, bad("%s parameter: more than %d parentheses inside each other", p.name, maxNesting)
	}
	var any Or
	for {
		f, err := p.all(depth)
		if err != nil {
			return nil, err
		}
		any = append(any, f)
		if !p.skip("OR") {
			break
		}
	}
	if len(any) == 1 {
		return any[0], nil
	}
	return any, nil
}

func (p *parser) all(depth int) (Filter, error) {
	var all And
	for {
		f, err := p.one(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
		if !p.skip("AND") && (len(p.tokens) == 0 || p.next("OR") || p.next(")")) {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *parser) one(depth int) (Filter, error) {
	switch {
	case p.skip("NOT"):
		if depth++; depth > maxNesting {
			return nil, bad("%s parameter: more than %d parentheses inside each other", p.name, maxNesting)
		}
		f, err := p.one(depth)
		return Not{f}, err
	case p.skip("("):
		f, err := p.expression(depth + 1)
		if err == nil && !p.skip(")") {
			err = p.unexpected()
		}
		return f, err
	case len(p.tokens) == 0 || !p.tokens[0].word:
		return nil, p.unexpected()
	}
	word := p.tokens[0]
	p.tokens = p.tokens[1:]
	return p.condition(word)
}

// condition is what a word means.
func (p *parser) condition(w token) (Filter, error) {
	switch p.how {
	case eventNames:
		if slices.Contains(otherEvents, strings.ToLower(w.text)) {
			return Or{}, nil
		}
		return p.choice(w.text, eventWords)
	case severities:
		return p.choice(w.text, severityWords)
	case reasons:
		return p.choice(w.text, reasonWords)
	case protections:
		return p.choice(w.text, protectionWords)
	case asAddress:
		if !strings.Contains(strings.Trim(w.text, "@"), "@") {
			return Contains{p.field, w.text}, nil
		}
		return Is{p.field, spellings(w.text)}, nil
	case anywhere:
		return Contains{p.field, w.text}, nil
	case asID:
		return p.is(strings.Trim(w.text, "<>")), nil
	case asNumber:
		return p.comparison(w.text)
	case asFlag:
		switch strings.ToLower(w.text) {
		case "yes", "true":
			return p.is("true"), nil
		case "no", "false":
			return p.is("false"), nil
		}
		return nil, bad("%s parameter: unexpected %s, expected true or false", p.name, shown(w.text))
	}
	return p.is(w.text), nil
}

// spellings are the address, and the same with its domain in U-labels and in
// A-labels, where it has others: documents quote it as the queue had it.
func spellings(address string) []string {
	at := strings.LastIndexByte(address, '@')
	all := []string{address}
	domain, err := policy.ParseDomain(address[at+1:])
	if err != nil {
		return all
	}
	for _, other := range []string{domain, asciiDomain(domain)} {
		if other != strings.ToLower(address[at+1:]) {
			all = append(all, address[:at+1]+other)
		}
	}
	return all
}

// choice is one of a few words. Another one would never be found, which tells
// nobody that it is misspelt.
func (p *parser) choice(word string, choices []string) (Filter, error) {
	if !slices.Contains(choices, strings.ToLower(word)) {
		return nil, bad("%s parameter: unexpected %s, expected %s", p.name, shown(word), words(choices))
	}
	return p.is(word), nil
}

func (p *parser) is(value string) Filter { return Is{p.field, []string{value}} }

// comparison reads a number with <, >, <= or >= before it, or alone.
func (p *parser) comparison(word string) (Filter, error) {
	digits := strings.TrimLeft(word, "<>=")
	how := strings.TrimSuffix(word, digits)
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return nil, bad("%s parameter: unexpected %s, expected a number, or one with < or > before it", p.name, shown(word))
	}
	switch how {
	case "", "=":
		return p.is(digits), nil
	case "<", ">", "<=", ">=":
		return Compare{p.field, how, n}, nil
	}
	return nil, bad("%s parameter: unexpected %s, expected a number, or one with < or > before it", p.name, shown(word))
}
