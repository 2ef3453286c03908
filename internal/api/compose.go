package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"strings"
	"time"

	"github.com/emersion/go-message"
)

// known are the fields of a message besides those with a prefix.
var known = []string{"from", "to", "cc", "bcc", "subject", "text", "html", "amp-html", "recipient-variables"}

// checkNames refuses what nobody would act on.
func checkNames(f *form, known []string, files ...string) error {
	for _, name := range f.names {
		switch {
		case contains(known, name) || strings.HasPrefix(name, "o:"): // options are looked at by name
		case strings.HasPrefix(name, "h:") || strings.HasPrefix(name, "v:"):
		default:
			return unsupported(name)
		}
	}
	for _, file := range f.files {
		if !contains(files, file.field) {
			return unsupported(file.field)
		}
	}
	return nil
}

// compose makes a message of from, to, subject, text and so on.
func (a *API) compose(f *form, domain string) (*draft, error) {
	if err := checkNames(f, known, "attachment", "inline"); err != nil {
		return nil, err
	}
	d := &draft{}
	var err error
	if d.options, err = readOptions(f, time.Now()); err != nil {
		return nil, err
	}
	var h message.Header
	if err := d.address(&h, f, domain); err != nil {
		return nil, err
	}
	if err := d.nothingToFillIn(f); err != nil {
		return nil, err
	}
	subject, ok, err := f.one("subject")
	if err != nil {
		return nil, err
	}
	if ok {
		encoded := mime.QEncoding.Encode("utf-8", subject)
		if longWord(encoded) {
			return nil, tooLong("subject")
		}
		h.Set("Subject", encoded)
	}
	if err := a.addFields(&h, f); err != nil {
		return nil, err
	}
	root, err := content(f)
	if err != nil {
		return nil, err
	}
	complete(&h.Header, domain)
	if err := d.write(h, root, a.MaxMessage); err != nil {
		return nil, err
	}
	d.files = filesOf(f)
	d.variables, err = variablesIn(d.header)
	return d, err
}

// nothingToFillIn refuses variables of recipients, except where they ask for nothing:
// clients may send them along without any. With them every recipient would get a
// copy without the others in it.
func (d *draft) nothingToFillIn(f *form) error {
	const name = "recipient-variables"
	value, ok, err := f.one(name)
	if err != nil || !ok {
		return err
	}
	var variables map[string]map[string]any
	if json.Unmarshal([]byte(value), &variables) != nil || len(d.recipients) > 1 {
		return unsupported(name)
	}
	for _, some := range variables {
		if len(some) > 0 {
			return unsupported(name)
		}
	}
	return nil
}

// address reads who sends and who gets the message.
func (d *draft) address(h *message.Header, f *form, domain string) error {
	if len(f.values["from"]) == 0 {
		return missing("from")
	}
	list, err := f.parseAddresses("from")
	if err != nil {
		return err
	}
	if d.from, err = sender(list, domain); err != nil {
		return err
	}
	if err := setAddresses(h, "from", list); err != nil {
		return err
	}
	if len(f.values["to"]) == 0 {
		return missing("to")
	}
	for _, name := range []string{"to", "cc", "bcc"} {
		list, err := f.parseAddresses(name)
		if err != nil {
			return err
		}
		d.recipients = append(d.recipients, list...)
		if name == "bcc" || len(list) == 0 {
			continue
		}
		if err := setAddresses(h, name, list); err != nil {
			return err
		}
	}
	switch d.recipients = unique(d.recipients); {
	case len(d.recipients) == 0: // to is a group of nobody: "undisclosed-recipients:;"
		return missing("to")
	case len(d.recipients) > maxRecipients:
		return tooManyRecipients()
	}
	return nil
}

// setAddresses sets a field with addresses, folded: what writes headers folds, too,
// but takes for each line as long as for all before it, and there may be thousands.
func setAddresses(h *message.Header, name string, list []address) error {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	value := strings.Join(words, ", ")
	if len(value) > maxHeader {
		return tooLong(name)
	}
	field := folded(map[string]string{"from": "From", "to": "To", "cc": "Cc"}[name], value)
	for line := range bytes.Lines(field) {
		if len(line) > maxLine {
			return tooLong(name)
		}
	}
	h.AddRaw(field)
	return nil
}

// maxLine is the longest line, with its end (RFC 5322, section 2.1.1).
const maxLine = 998 + len("\r\n")

// folded is a field with lines of 76 octets, where the value has spaces to fold at (RFC
// 5322, section 2.2.3). Of several spaces, as a name in quotes may have, some readers
// leave one where they find a fold: there it is folded only when a line gets too long.
// No line is of spaces alone.
func folded(field, value string) []byte {
	text := append(make([]byte, 0, len(value)+len(value)/16+len(field)+4), field+":"...)
	line, begun := len(text), false
	for rest := " " + value; rest != ""; begun = true {
		word := strings.TrimLeft(rest, " ")
		spaces := len(rest) - len(word)
		end := len(rest)
		if at := strings.IndexByte(word, ' '); at >= 0 {
			end = spaces + at
		}
		if begun && (line+end > 76 && spaces == 1 || line+end > maxWord) {
			text, line = append(text, "\r\n"...), 0
		}
		text, line, rest = append(text, rest[:end]...), line+end, rest[end:]
	}
	return append(text, "\r\n"...)
}
