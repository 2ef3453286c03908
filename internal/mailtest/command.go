package mailtest

import (
	"strconv"
	"strings"
)

// command answers one line. An error ends the dialogue.
func (d *dialogue) command(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return d.ehlo(rest)
	case "HELO":
		class, err := d.step("helo", "250 mx.mailtest.invalid")
		if class == '2' {
			d.helo, d.extended, d.mail = rest, false, nil
		}
		return err
	case "STARTTLS":
		return d.startTLS()
	case "MAIL":
		return d.mailFrom(rest)
	case "RCPT":
		return d.rcptTo(rest)
	case "DATA":
		return d.data()
	case "BDAT":
		return d.bdat(rest)
	case "RSET":
		d.mail = nil
		_, err := d.step("rset", "250 2.0.0 flushed")
		return err
	case "NOOP":
		_, err := d.step("noop", "250 2.0.0 ok")
		return err
	case "QUIT":
		if _, err := d.step("quit", "221 2.0.0 bye"); err != nil {
			return err
		}
		d.close()
		return errEnd
	}
	return d.send("500 5.5.1 command not known")
}

func (d *dialogue) ehlo(name string) error {
	b := d.mx.current()
	d.mail = nil
	if b.HELOOnly {
		return d.send("502 5.5.1 EHLO not implemented")
	}
	lines := append([]string{"mx.mailtest.invalid"}, b.extensions(d.tlsState != nil)...)
	if d.tlsState == nil && b.offersTLS() && !b.HideSTARTTLS {
		lines = append(lines, "STARTTLS")
	}
	for i := range lines {
		if b.LowerCaseKeywords {
			lines[i] = strings.ToLower(lines[i])
		}
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		lines[i] = "250" + separator + lines[i]
	}
	script := b.scripted("ehlo", d.tlsState != nil)
	if script == "" {
		script = b.EHLOReply
	}
	class, err := d.play(script, strings.Join(lines, "\n"))
	if class == '2' {
		d.helo, d.extended = name, true
	}
	return err
}

func (d *dialogue) mailFrom(rest string) error {
	b := d.mx.current()
	address, params, ok := parsePath(rest, "FROM:")
	switch {
	case !ok:
		return d.send("501 5.5.4 MAIL FROM:<address> is expected")
	case d.helo == "" || d.mail != nil:
		return d.send("503 5.5.1 not now")
	case b.AfterMessages > 0 && d.messages >= b.AfterMessages:
		script := b.AfterReply
		if script == "" {
			script = "421 4.7.0 enough on this connection"
		}
		_, err := d.play(script, "250 2.1.0 ok")
		return err
	}
	if refusal := d.refuseParams(params, "SIZE=SIZE", "BODY=8BITMIME", "SMTPUTF8=SMTPUTF8",
		"REQUIRETLS=REQUIRETLS", "RET=DSN", "ENVID=DSN"); refusal != "" {
		return d.send(refusal)
	}
	utf8 := hasParam(params, "SMTPUTF8")
	if !utf8 && !isASCII(address) {
		return d.send("553 5.6.7 address needs SMTPUTF8")
	}
	class, err := d.step("mail", "250 2.1.0 ok")
	if class == '2' {
		d.mail = &transaction{utf8: utf8, message: Message{
			From: address, MailParams: params, TLS: d.tlsState != nil, TLSState: d.tlsState,
			Connection: d.number, Helo: d.helo, RemoteIP: d.remoteIP(),
		}}
	}
	return err
}

func (d *dialogue) rcptTo(rest string) error {
	b := d.mx.current()
	address, params, ok := parsePath(rest, "TO:")
	switch {
	case !ok || address == "":
		return d.send("501 5.5.4 RCPT TO:<address> is expected")
	case d.mail == nil:
		return d.send("503 5.5.1 MAIL first")
	case !d.mail.utf8 && !isASCII(address):
		return d.send("553 5.6.7 address needs SMTPUTF8")
	case len(d.mail.message.Recipients) >= b.recipientLimit():
		return d.send("452 4.5.3 too many recipients")
	}
	if refusal := d.refuseParams(params, "NOTIFY=DSN", "ORCPT=DSN"); refusal != "" {
		return d.send(refusal)
	}
	script := b.RejectRcpt[strings.ToLower(address)]
	if script == "" {
		script = b.scripted("rcpt", d.tlsState != nil)
	}
	class, err := d.play(script, "250 2.1.5 ok")
	if class == '2' {
		m := &d.mail.message
		m.Recipients = append(m.Recipients, address)
		m.RcptParams = append(m.RcptParams, params)
	}
	return err
}

// refuseParams returns the reply to parameters whose extension was not
// announced in this state (RFC 5321, 4.1.1.11), "" if all are fine. known pairs
// a parameter with the extension it belongs to.
func (d *dialogue) refuseParams(params string, known ...string) string {
	for _, param := range strings.Fields(params) {
		keyword, value, _ := strings.Cut(strings.ToUpper(param), "=")
		extension := ""
		for _, pair := range known {
			if name, needs, _ := strings.Cut(pair, "="); name == keyword {
				extension = needs
			}
		}
		argument, announced := d.announced(extension)
		if !announced {
			return "555 5.5.4 parameter not known: " + strconv.QuoteToASCII(keyword)
		}
		limit, _ := strconv.ParseUint(argument, 10, 63)
		if size, err := strconv.ParseUint(value, 10, 63); keyword == "SIZE" && err == nil && limit > 0 && size > limit {
			return "552 5.3.4 message too big"
		}
	}
	return ""
}

// announced reports whether the last EHLO reply by default listed a keyword, and
// its argument.
func (d *dialogue) announced(keyword string) (argument string, ok bool) {
	if !d.extended || keyword == "" {
		return "", false
	}
	for _, line := range d.mx.current().extensions(d.tlsState != nil) {
		if name, argument, _ := strings.Cut(line, " "); strings.EqualFold(name, keyword) {
			return argument, true
		}
	}
	return "", false
}

// parsePath splits "FROM:<address> params".
func parsePath(rest, prefix string) (address, params string, ok bool) {
	if len(rest) < len(prefix) || !strings.EqualFold(rest[:len(prefix)], prefix) {
		return "", "", false
	}
	rest = strings.TrimLeft(rest[len(prefix):], " ")
	if !strings.HasPrefix(rest, "<") {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '>' && !quoted:
			return rest[1:i], strings.TrimSpace(rest[i+1:]), true
		}
	}
	return "", "", false
}

func hasParam(params, keyword string) bool {
	for _, param := range strings.Fields(params) {
		if name, _, _ := strings.Cut(param, "="); strings.EqualFold(name, keyword) {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
