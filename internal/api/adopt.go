package api

import (
	"bufio"
	"bytes"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/policy"
)

// Bounds of a message that comes ready made.
const (
	maxHeader       = 256 << 10
	maxHeaderFields = 400 // each costs many times its octets in memory
	maxReceived     = 50  // of a loop, as maddy counts
)

// adopt takes a message that comes ready made, for the recipients that "to"
// names. Its From must be of the domain. Options may be in its header, too.
func (a *API) adopt(f *form, domain string) (*draft, error) {
	if err := checkNames(f, []string{"to"}, "message"); err != nil {
		return nil, err
	}
	d := &draft{}
	var err error
	if d.options, err = readOptions(f, time.Now()); err != nil {
		return nil, err
	}
	if len(f.values["to"]) == 0 {
		return nil, missing("to")
	}
	list, err := f.parseAddresses("to")
	if err != nil {
		return nil, err
	}
	if d.recipients = unique(list); len(d.recipients) == 0 {
		return nil, missing("to")
	}
	switch len(f.files) {
	case 0:
		return nil, missing("message")
	case 1:
	default:
		return nil, bad("message parameter is there more than once")
	}
	if err := d.split(f.files[0].data); err != nil {
		return nil, err
	}
	h := message.Header{Header: d.header}
	if err := a.addFields(&h, f); err != nil {
		return nil, err
	}
	d.header = h.Header
	if err := a.examine(d, domain); err != nil {
		return nil, err
	}
	d.files = filesIn(d.header, d.body)
	d.variables, err = variablesIn(d.header)
	return d, err
}

// split makes header and body of a message.
func (d *draft) split(text []byte) error {
	end, fields := headerEnd(text)
	if end > maxHeader {
		return bad("message parameter: the header is longer than %d octets", maxHeader)
	}
	if fields > maxHeaderFields {
		return bad("message parameter: the header has more than %d fields", maxHeaderFields)
	}
	rest := bytes.NewReader(text)
	r := bufio.NewReader(rest)
	header, err := textproto.ReadHeader(r)
	if err != nil {
		return bad("message parameter: the header cannot be read")
	}
	d.header, d.body = header, text[len(text)-rest.Len()-r.Buffered():]
	if n := len(d.body); n > 0 && d.body[n-1] != '\n' {
		// SMTP has no last line without an end, and what is signed, counted and announced
		// is what leaves.
		d.body = append(d.body, "\r\n"...)
	}
	return nil
}

// headerEnd is where the header ends, at an empty line or with the text, and how
// many fields there are before.
func headerEnd(text []byte) (end, fields int) {
	for end < len(text) {
		line := bytes.IndexByte(text[end:], '\n')
		if line < 0 {
			return len(text), fields + 1
		}
		if len(bytes.TrimRight(text[end:end+line], "\r")) == 0 {
			return end + line, fields
		}
		if text[end] != ' ' && text[end] != '\t' {
			fields++
		}
		end += line + 1
	}
	return end, fields
}

// examine looks at the header of a message that came ready made, takes out what
// must not leave, and adds what is missing.
func (a *API) examine(d *draft, domain string) error {
	if err := controls(d.header); err != nil {
		return err
	}
	if line := aloneCR(d.body); line > 0 {
		return bad("message parameter: line %d of the body has a CR without LF in it", line)
	}
	if len(d.header.Values("From")) > 1 {
		return bad("message parameter: the header has more than one From")
	}
	var list []address
	if v := d.header.Get("From"); v != "" {
		from, err := mail.ParseAddressList(v)
		if err != nil {
			return badAddress("from", firstBad(v))
		}
		for _, one := range from {
			parsed, ok := parseAddress(one)
			if !ok {
				return badAddress("from", one.Address)
			}
			list = append(list, parsed)
		}
	}
	var err error
	if d.from, err = sender(list, domain); err != nil {
		return err
	}
	if ids := d.header.Values("Message-Id"); len(ids) > 1 || len(ids) == 1 && !messageID(strings.TrimSpace(ids[0])) {
		return bad("message parameter: the Message-ID is malformed")
	}
	if len(d.header.Values("Received")) > maxReceived {
		return bad("message parameter: more than %d Received fields, which looks like a loop", maxReceived)
	}
	if err := a.takeOverride(d); err != nil {
		return err
	}
	if err := d.options.readHeader(&d.header, time.Now()); err != nil {
		return err
	}
	for _, name := range []string{"Bcc", "Resent-Bcc", "Return-Path", policy.StampField} {
		d.header.Del(name)
	}
	complete(&d.header, domain)
	return nil
}

// controls refuses control characters in the header. A CR that ends no line is
// one: it leaves as a line break, and would hide a field from us, or the end of
// the header. Those that do end lines are not part of values.
func controls(h textproto.Header) error {
	for fields := h.Fields(); fields.Next(); {
		if !fieldName(fields.Key()) || strings.ContainsFunc(fields.Value(), control) {
			return bad("message parameter: the header has a control character in it")
		}
	}
	return nil
}

// aloneCR returns the number of the first line with a CR that ends no line, 0 if there
// is none. SMTP has no such thing (RFC 5321, section 2.3.8): it leaves as a line
// break, behind the back of whoever has signed the message.
func aloneCR(body []byte) int {
	for at := 0; ; {
		cr := bytes.IndexByte(body[at:], '\r')
		if cr < 0 {
			return 0
		}
		if at += cr + 1; at == len(body) || body[at] != '\n' {
			return 1 + bytes.Count(body[:at], []byte("\n"))
		}
	}
}

// takeOverride moves what the header asks for into the options. The two may not
// contradict each other.
func (a *API) takeOverride(d *draft) error {
	fields := a.Mail.OverrideFields()
	asked, err := fields.Read(d.header.Values)
	if err != nil {
		return bad("message parameter: %s", err.Error())
	}
	o := &d.options.override
	if asked.RequireTLS != policy.Unset {
		if err := settle(&o.RequireTLS, "o:require-tls", asked.RequireTLS); err != nil {
			return err
		}
	}
	if asked.SkipVerification != policy.Unset {
		if err := settle(&o.SkipVerification, "o:skip-verification", asked.SkipVerification); err != nil {
			return err
		}
	}
	for _, name := range fields.Names() {
		d.header.Del(name)
	}
	return nil
}
