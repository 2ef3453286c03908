package demo

import (
	"bufio"
	"bytes"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"tlscontrol/internal/mailtest"
)

// difference is something that is not as promised.
type difference struct{ what, want, got string }

// differences collects them.
type differences []difference

func (d *differences) compare(what string, want, got any) {
	if w, g := text(want), text(got); w != g {
		*d = append(*d, difference{what, w, g})
	}
}

// text writes a value as a person says it.
func text(v any) string {
	switch v := v.(type) {
	case *bool:
		if v == nil {
			return "nothing"
		}
		return text(*v)
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	if s := fmt.Sprint(v); s != "" {
		return s
	}
	return "nothing"
}

// judge compares the evidence of a row with what was promised for it. The result is empty where all is well.
func judge(h host, sc scene, seen evidence) differences {
	var d differences
	d.submission(sc.want, seen)
	d.wire(h, sc.want, seen)
	if sc.want.event == "" {
		d.compare("log: documents", 0, len(seen.docs))
		return d
	}
	d.compare("log: documents", 1, len(seen.docs))
	if len(seen.docs) == 1 {
		d.document(sc, seen, seen.docs[0])
		d.compare("log: mx-host", h.mx(), seen.docs[0].Status.MXHost)
	}
	return d
}

func (d *differences) submission(want want, seen evidence) {
	if want.event != "" {
		d.compare("submission: refusal", "", seen.refusal)
		return
	}
	reply := fmt.Sprintf("%d %s", want.code, want.enhanced)
	if !strings.HasPrefix(seen.refusal, reply+" ") {
		d.compare("submission: refusal", reply, seen.refusal)
	}
}

// wire looks at what the host saw: that the message came as it should or not at all, and nothing of it in clear
// where it should not.
func (d *differences) wire(h host, want want, seen evidence) {
	arrives := 0
	if want.event == "delivered" {
		arrives = 1
	}
	attempts := 0
	if h.offers && want.event != "" {
		attempts = 1
	}
	d.compare("wire: connections", want.connections, seen.wire.connections)
	d.compare("wire: attempts at STARTTLS", attempts, seen.wire.attempts)
	d.compare("wire: messages", arrives, len(seen.wire.messages))
	if arrives == 0 || want.tls {
		d.compare("wire: in clear", "", strings.Join(betrayed(seen), ", "))
	}
	for _, m := range seen.wire.messages {
		d.compare("wire: TLS", want.tls, m.TLS)
		d.compare("wire: recipients", seen.mail.to, strings.Join(m.Recipients, ", "))
		d.compare("wire: the message is whole", true, bytes.Contains(m.Data, []byte(seen.mail.secret)))
		d.compare("wire: fields that are not for the world", "", strings.Join(ours(m), ", "))
	}
}

// betrayed names the parts of the message that crossed the wire in clear.
func betrayed(seen evidence) (parts []string) {
	clear := bytes.ToLower(seen.wire.clear)
	for _, part := range []string{"MAIL FROM", "RCPT TO", seen.mail.from, seen.mail.to, seen.mail.secret} {
		if bytes.Contains(clear, bytes.ToLower([]byte(part))) {
			parts = append(parts, part)
		}
	}
	return parts
}

// ours names the header fields of a message that should have been taken out.
func ours(m mailtest.Message) (fields []string) {
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(m.Data))).ReadMIMEHeader()
	if err != nil {
		return []string{"unreadable header"}
	}
	for name := range header {
		switch name = strings.ToLower(name); name {
		case "tls-override", "x-require-tls", "x-skip-verification":
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	return fields
}

// document compares what the log says.
func (d *differences) document(sc scene, seen evidence, doc document) {
	want, wants := sc.want, sc.wants
	d.compare("log: event", want.event, doc.Event)
	d.compare("log: severity", want.severity, doc.Severity)
	d.compare("log: reason", want.reason, doc.Reason)
	d.compare("log: sender", seen.mail.from, doc.Envelope.Sender)
	d.compare("log: recipient", seen.mail.to, doc.Recipient)
	d.compare("log: code", want.code, doc.Status.Code)
	d.compare("log: enhanced-code", want.enhanced, doc.Status.Enhanced)
	d.compare("log: attempt-no", 1, doc.Status.AttemptNo)
	d.compare("log: tls", want.tls, doc.Status.TLS)
	d.compare("log: certificate-verified", want.verified, doc.Status.Verified)
	d.compare("log: tls-fallback", want.fallback, doc.Status.Fallback)
	if want.tls {
		d.compare("log: verification-error", want.verificationError, firstWord(doc.Status.VerificationError))
	}
	for _, m := range seen.wire.messages {
		d.compare("log: tls-version", version(m), doc.Status.TLSVersion)
	}
	d.compare("log: require-tls", wants.require, doc.Policy.Require)
	d.compare("log: require-tls-source", wants.requireFrom, doc.Policy.RequireFrom)
	d.compare("log: skip-verification", wants.skip, doc.Policy.Skip)
	d.compare("log: skip-verification-source", wants.skipFrom, doc.Policy.SkipFrom)
	d.compare("log: demanded", wants.demanded(), doc.Policy.Demanded)
}

// firstWord is the reason in front of an error's text.
func firstWord(s string) string {
	word, _, _ := strings.Cut(s, ":")
	return word
}
