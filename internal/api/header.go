package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/events"
	"tlscontrol/internal/policy"
)

// Bounds of what h: and v: parameters add.
const (
	maxFieldsAdded = 100
	maxFieldValue  = 8 << 10
	maxVariables   = 4 << 10
	// maxWord is the longest word in a field: a line has 998 octets (RFC 5322,
	// section 2.1.1), and a word cannot be folded.
	maxWord = 900
)

const variablesField = "X-Mailgun-Variables"

// ours are the fields that parameters of their own, or the servers on the way,
// say something in. A name that ends in - stands for all that begin so.
var ours = []string{
	"from", "to", "cc", "bcc", "subject", "mime-version", "content-", "return-path", "received", "received-",
	"delivered-to", "authentication-results", "dkim-signature", "domainkey-signature", "arc-", "resent-", "x-mailgun-",
	"errors-to", "apparently-to",
}

// checkField refuses fields that a client may not set.
func (a *API) checkField(name string) error {
	lower := strings.ToLower(name)
	if strings.EqualFold(name, policy.StampField) {
		return bad("h:%s parameter is not allowed", shown(name))
	}
	fields := a.Mail.OverrideFields()
	for option, names := range map[string][]string{"o:require-tls": fields.RequireTLS, "o:skip-verification": fields.SkipVerification} {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			return bad("h:%s parameter is not allowed, use %s", shown(name), option)
		}
	}
	if lower == strings.ToLower(variablesField) {
		return nil
	}
	for _, o := range ours {
		if lower == o || strings.HasSuffix(o, "-") && strings.HasPrefix(lower, o) {
			return bad("h:%s parameter is not allowed", shown(name))
		}
	}
	return nil
}

// fieldName reports whether s can be the name of a field (RFC 5322, section 2.2).
func fieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == ':' {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 76
}

// addFields adds what h: and v: parameters say.
func (a *API) addFields(h *message.Header, f *form) error {
	added := 0
	variables := map[string]string{}
	for _, name := range f.names {
		if key, ok := strings.CutPrefix(name, "v:"); ok {
			value, _, err := f.one(name)
			if err != nil {
				return err
			}
			variables[key] = value
		}
		field, ok := strings.CutPrefix(name, "h:")
		if !ok {
			continue
		}
		if !fieldName(field) {
			return bad("%s parameter: the name is not that of a header field", shown(name))
		}
		if err := a.checkField(field); err != nil {
			return err
		}
		value, _, err := f.one(name)
		if err != nil {
			return err
		}
		if h.Has(field) {
			return bad("%s parameter is there more than once", shown(name))
		}
		if added++; added > maxFieldsAdded {
			return bad("The message has more than %d h: parameters", maxFieldsAdded)
		}
		if err := setField(h, field, value); err != nil {
			return err
		}
	}
	return setVariables(h, variables)
}

// setField sets a field after a look at its value.
func setField(h *message.Header, name, value string) error {
	param := "h:" + name
	if err := wellFormed(name, value); err != nil {
		return bad("%s parameter: %s", shown(param), err.Error())
	}
	encoded := encodeField(name, value)
	if len(encoded) > maxFieldValue || longWord(encoded) {
		return tooLong(param)
	}
	h.Set(name, encoded)
	return nil
}

// encodeField writes a value that is well formed in US-ASCII, and so that it can
// be folded.
func encodeField(name, value string) string {
	switch strings.ToLower(name) {
	case "sender", "reply-to":
		if list, ok := plainAddresses(value); ok {
			return strings.Join(list, ", ")
		}
	case strings.ToLower(variablesField):
		var spaced bytes.Buffer
		if json.Indent(&spaced, []byte(value), "", "") == nil {
			value = strings.ReplaceAll(spaced.String(), "\n", " ")
		}
	}
	return mime.QEncoding.Encode("utf-8", value)
}

// plainAddresses are addresses as they go into a header, if all of them can go
// there without SMTPUTF8.
func plainAddresses(value string) ([]string, bool) {
	list, err := mail.ParseAddressList(value)
	if err != nil {
		return nil, false
	}
	words := make([]string, len(list))
	for i, a := range list {
		parsed, ok := parseAddress(a)
		if !ok || parsed.utf8 {
			return nil, false
		}
		words[i] = parsed.String()
	}
	return words, true
}

// wellFormed looks at fields whose form other programs rely on.
func wellFormed(name, value string) error {
	switch strings.ToLower(name) {
	case "message-id":
		if !messageID(value) {
			return bad("expected <local@domain>")
		}
	case "date":
		if _, err := mail.ParseDate(value); err != nil {
			return bad("expected a date as in RFC 5322")
		}
	case "sender":
		if list, ok := plainAddresses(value); !ok || len(list) != 1 {
			return bad("expected an address in US-ASCII")
		}
	case "reply-to":
		if _, ok := plainAddresses(value); !ok {
			return bad("expected addresses in US-ASCII")
		}
	case strings.ToLower(variablesField):
		var object map[string]any
		if json.Unmarshal([]byte(value), &object) != nil || len(value) > maxVariables {
			return bad("expected a JSON object of at most %d octets", maxVariables)
		}
	}
	return nil
}

// messageID reports whether s is one, strictly: it goes into logs and answers.
func messageID(s string) bool {
	id, ok := strings.CutPrefix(s, "<")
	id, end := strings.CutSuffix(id, ">")
	left, right, at := strings.Cut(id, "@")
	return ok && end && at && left != "" && right != "" && len(s) <= 250 && !strings.ContainsFunc(id, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>()[]\,;:"`, c)
	}) && !strings.Contains(right, "@")
}

// longWord reports whether a line of the field could not be folded.
func longWord(s string) bool {
	for _, w := range strings.Fields(s) {
		if len(w) > maxWord {
			return true
		}
	}
	return false
}

// setVariables puts v: parameters into the field in which Mailgun sends them, as
// JSON in US-ASCII with a space behind each value, where it can be folded.
func setVariables(h *message.Header, variables map[string]string) error {
	if len(variables) == 0 {
		return nil
	}
	if h.Has(variablesField) {
		return bad("h:%s parameter is there beside v: parameters, expected one of them", variablesField)
	}
	names := make([]string, 0, len(variables))
	for name := range variables {
		names = append(names, name)
	}
	slices.Sort(names)
	var text strings.Builder
	for i, name := range names {
		text.WriteString([]string{"{", ", "}[min(i, 1)])
		text.WriteString(asciiJSON(name) + ": " + asciiJSON(variables[name]))
		if text.Len() > maxVariables {
			break // there may be megabytes
		}
	}
	text.WriteString("}")
	if text.Len() > maxVariables || longWord(text.String()) {
		return bad("v: parameters are too long for a header field")
	}
	h.Set(variablesField, text.String())
	return nil
}

// asciiJSON is a string as JSON without anything that is not US-ASCII.
func asciiJSON(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return `""` // strings can be marshalled
	}
	var b strings.Builder
	for _, c := range string(quoted) {
		if c < 0x80 {
			b.WriteRune(c)
			continue
		}
		for _, half := range utf16.Encode([]rune{c}) {
			fmt.Fprintf(&b, `\u%04x`, half)
		}
	}
	return b.String()
}

// complete adds the fields that every message has (RFC 5322, section 3.6).
func complete(h *textproto.Header, domain string) {
	if !h.Has("Message-Id") {
		h.Set("Message-Id", newMessageID(domain))
	}
	if !h.Has("Date") {
		h.Set("Date", time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	}
}

// plainText is the value of a field as people read it, unfolded.
func plainText(value string) string { return events.Decoded(strings.Join(strings.Fields(value), " ")) }
