package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/policy"
)

const messagesPath = "/v3/example.com/messages"

// send posts a form and returns the message that came of it.
func (w *world) send(f url.Values) *Message {
	w.Helper()
	if got := w.do(request{method: "POST", path: messagesPath, key: domainKey, form: f}); got.status != 200 {
		w.Fatalf("not accepted: %d %s", got.status, got.body)
	}
	return w.last()
}

// tree is a message's MIME structure, with one line for each part.
func tree(t *testing.T, m *Message) string {
	t.Helper()
	var text strings.Builder
	if err := textproto.WriteHeader(&text, m.Header); err != nil {
		t.Fatal(err)
	}
	text.Write(m.Body)
	for i, line := range strings.Split(text.String(), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %d: %q", i, line)
		}
	}
	e, err := message.Read(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	walk(t, &b, e, "")
	return b.String()
}

func walk(t *testing.T, b *strings.Builder, e *message.Entity, indent string) {
	t.Helper()
	kind, params, _ := e.Header.ContentType()
	_, disposition, _ := e.Header.ContentDisposition()
	fmt.Fprint(b, indent, kind)
	if name := disposition["filename"]; name != "" {
		fmt.Fprintf(b, " %s %s", strings.SplitN(e.Header.Get("Content-Disposition"), ";", 2)[0], name)
	}
	if id := e.Header.Get("Content-Id"); id != "" {
		fmt.Fprint(b, " ", id)
	}
	if params["type"] != "" {
		fmt.Fprint(b, " type="+params["type"])
	}
	mr := e.MultipartReader()
	if mr == nil {
		text, err := io.ReadAll(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(b, " %q\n", text)
		return
	}
	b.WriteString("\n")
	for {
		p, err := mr.NextPart()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		walk(t, b, p, indent+"  ")
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := letter("to", "Bob <BOB@Example.NET>, c@example.net", "cc", "d@example.net", "bcc", "e@example.net", "bcc", "bob@example.net",
		"o:require-tls", "Yes", "o:skip-verification", "FALSE", "o:tag", "bills", "o:tag", "Ünï", "h:Reply-To", "Jö <r@BÜCHER.example>",
		"v:id", "42", "v:who", "jö \U0001f600", "h:X-Note", "grüße")
	got := w.do(request{method: "POST", path: messagesPath, key: domainKey, form: f})
	type sent struct{ ID, Message string }
	id := decode[sent](t, got).ID
	if got.status != 200 || decode[sent](t, got).Message != "Queued. Thank you." || !messageID(id) || !strings.HasSuffix(id, "@example.com>") {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	m := w.last()
	if m.Sender != "ann@example.com" || m.UTF8 || m.Client.KeyID != "one" || m.Client.Remote == nil || m.Client.Local == nil || m.Client.TLS != nil {
		t.Errorf("got %+v", m)
	}
	want := []string{"bob@example.net", "BOB@example.net", "c@example.net", "d@example.net", "e@example.net"}
	if d := cmp.Diff(want, m.Recipients); d != "" {
		t.Error(d)
	}
	if m.Override != (policy.Override{RequireTLS: policy.Yes, SkipVerification: policy.No}) {
		t.Errorf("override %v", m.Override)
	}
	for name, want := range map[string]string{
		"From": `"Ann" <ann@example.com>`, "To": `<bob@example.net>, "Bob" <BOB@example.net>, <c@example.net>`, "Cc": "<d@example.net>", "Bcc": "",
		"Subject": "hello", "Message-Id": id, "Reply-To": "=?utf-8?q?J=C3=B6?= <r@xn--bcher-kva.example>", "X-Note": "=?utf-8?q?gr=C3=BC=C3=9Fe?=",
		"X-Mailgun-Variables": `{"id": "42", "who": "j\u00f6 \ud83d\ude00"}`, "Mime-Version": "1.0", "Tls-Override": "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if d := m.Header.Get("Date"); d == "" {
		t.Error("no Date")
	}
	if got := tree(t, m); got != `text/plain "hello\r\n"`+"\n" {
		t.Errorf("got %s", got)
	}
	if len(w.accepted) != 5 || w.accepted[0].Recipient != "bob@example.net" || w.accepted[0].QueueID != "q1" || w.accepted[0].Size < 100 {
		t.Errorf("events %+v", w.accepted)
	}
	if w.accepted[0].KeyID == "" || w.accepted[0].KeyID != w.sent[0].Client.KeyID {
		t.Errorf("key %q, sent with %q", w.accepted[0].KeyID, w.sent[0].Client.KeyID)
	}
	a := w.accepted[4]
	if d := cmp.Diff([]string{"bills", "Ünï"}, a.Tags); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"message-id": strings.Trim(id, "<>"), "from": `"Ann" <ann@example.com>`, "subject": "hello",
		"to": `<bob@example.net>, "Bob" <BOB@example.net>, <c@example.net>`}, a.Headers); d != "" {
		t.Error(d)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	base := []formPart{{name: "from", data: "ann@example.com"}, {name: "to", data: "bob@example.net"}}
	text, html := formPart{name: "text", data: "t"}, formPart{name: "html", data: "<b>ü</b>\r\n.\r\n"}
	for _, tt := range []struct {
		parts []formPart
		want  string
	}{
		{[]formPart{html}, `text/html "<b>ü</b>\r\n.\r\n"` + "\n"},
		{[]formPart{html, text, {name: "amp-html", data: "a"}},
			"multipart/alternative\n  text/plain \"t\"\n  text/x-amp-html \"a\"\n  text/html \"<b>ü</b>\\r\\n.\\r\\n\"\n"},
		{[]formPart{text, {name: "attachment", file: "C:\\\\x\\\\bill.pdf", contentType: "application/pdf", data: "\x00%PDF"}},
			"multipart/mixed\n  text/plain \"t\"\n  application/pdf attachment bill.pdf \"\\x00%PDF\"\n"},
		{[]formPart{text, html, {name: "inline", file: "logo.png", contentType: "image/png", data: "png"}, {name: "attachment", file: "Grüße.txt", data: "x"}},
			"multipart/mixed\n  multipart/alternative\n    text/plain \"t\"\n    multipart/related type=text/html\n      text/html \"<b>ü</b>\\r\\n.\\r\\n\"\n" +
				"      image/png inline logo.png <logo.png> \"png\"\n  application/octet-stream attachment Grüße.txt \"x\"\n"},
		{[]formPart{text, {name: "inline", file: "logo.png", data: "png"}},
			"multipart/mixed\n  text/plain \"t\"\n  application/octet-stream inline logo.png <logo.png> \"png\"\n"},
		{[]formPart{text, {name: "attachment", file: "../../etc/passwd", contentType: "message/rfc822", data: "x"}, {name: "attachment", data: "no name"}},
			"multipart/mixed\n  text/plain \"t\"\n  application/octet-stream attachment passwd \"x\"\n  application/octet-stream attachment attachment \"no name\"\n"},
	} {
		got := w.do(request{method: "POST", path: messagesPath, key: domainKey, parts: append(base[:2:2], tt.parts...)})
		if got.status != 200 {
			t.Errorf("%v: %d %s", tt.parts, got.status, got.body)
			continue
		}
		if got := tree(t, w.last()); got != tt.want {
			t.Errorf("got\n%swant\n%s", got, tt.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		to, wire, field string
		utf8            bool
	}{
		{"bob@BÜCHER.example", "bob@bücher.example", "<bob@xn--bcher-kva.example>", false},
		{"bøb@example.net", "bøb@example.net", "<bøb@example.net>", true},
		{`"bob smith"@example.net`, `"bob smith"@example.net`, `<"bob smith"@example.net>`, false},
		{`"a\"b@c"@example.net`, `"a\"b@c"@example.net`, `<"a\"b@c"@example.net>`, false},
		{"=?utf-8?q?B=C3=B8b?= <bob@example.net>", "bob@example.net", "=?utf-8?q?B=C3=B8b?= <bob@example.net>", false},
	} {
		f := letter()
		f.Set("to", tt.to)
		m := w.send(f)
		if m.Recipients[0] != tt.wire || m.Header.Get("To") != tt.field || m.UTF8 != tt.utf8 {
			t.Errorf("%s: %q, %s, %v", tt.to, m.Recipients, m.Header.Get("To"), m.UTF8)
		}
	}
}

func TestRefusedMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.MaxMessage = 1 << 20 })
	without := func(name string) url.Values { f := letter(); f.Del(name); return f }
	with := func(name, value string) url.Values { f := letter(); f.Set(name, value); return f }
	many := letter()
	for i := range maxRecipients {
		many.Add("bcc", fmt.Sprintf("r%d@example.net", i))
	}
	for _, tt := range []struct {
		form   url.Values
		status int
		want   string
	}{
		{without("from"), 400, "from parameter is missing"},
		{without("to"), 400, "to parameter is missing"},
		{without("text"), 400, "Need at least one of 'text', 'html' or 'amp-html' parameters specified"},
		{with("to", ""), 400, "to parameter is not a valid address. please check documentation: it is empty"},
		{with("cc", " "), 400, "cc parameter is not a valid address. please check documentation: it is empty"},
		{with("to", "undisclosed-recipients:;"), 400, "to parameter is missing"},
		{with("to", "bob"), 400, "to parameter is not a valid address"},
		{with("to", "bob@localhost"), 400, "to parameter is not a valid address"},
		{with("to", "bob@[192.0.2.1]"), 400, "to parameter is not a valid address"},
		{with("to", "bob@example.net>\r\nRCPT TO:<eve@example.net"), 400, "to parameter has a line break"},
		{with("to", "=?utf-8?q?=0D=0AX-Evil:_1?= <bob@example.net>"), 400, "to parameter is not a valid address"},
		{with("cc", "bob@"), 400, "cc parameter is not a valid address"},
		{with("to", `"Bee, Bob" <bob@example.net>, ann@example..net, x`), 400, `to parameter is not a valid address. please check documentation: unexpected "ann@example..net"`},
		{with("bcc", "bob@example.net,,carol at example.net"), 400, `bcc parameter is not a valid address. please check documentation: unexpected "carol at example.net"`},
		{with("cc", "bob@example.net, carol@localhost"), 400, `unexpected "carol@localhost"`},
		{with("cc", strings.Repeat("bob@example.net,", 99)+strings.Repeat("ø", 999)), 400, `unexpected "\u00f8`},
		{with("from", "ann@example.org"), 400, "from parameter: the address is not one of domain example.com"},
		{with("from", "ann@sub.example.com"), 400, "from parameter: the address is not one of domain example.com"},
		{with("from", "ann@example.com, eve@example.com"), 400, "from parameter has more than one address"},
		{with("from", "ann@example.com\r\nX-Evil: 1"), 400, "from parameter has a line break"},
		{with("subject", "hello\nX-Evil: 1"), 400, "subject parameter has a line break"},
		{with("subject", "hello\u2028X-Evil: 1"), 400, "subject parameter has a line break"},
		{with("subject", strings.Repeat("x", 901)), 400, "subject parameter is too long for a header field"},
		{with("subject", strings.Repeat("x ", 9000)), 400, "subject parameter is longer than 16384 octets"},
		{letter("subject", "again"), 400, "subject parameter is there more than once"},
		{with("h:X-A", "1\r\nX-Evil: 1"), 400, "h:X-A parameter has a line break"},
		{with("h:X-A: 1\r\nX-Evil", "1"), 400, `"h:X-A: 1\r\nX-Evil" parameter: the name is not that of a header field`},
		{with("h:", "1"), 400, "h: parameter: the name is not that of a header field"},
		{with("h:Bcc", "x@example.net"), 400, "h:Bcc parameter is not allowed"},
		{with("h:received", "x"), 400, "h:received parameter is not allowed"},
		{with("h:Content-Type", "text/html"), 400, "h:Content-Type parameter is not allowed"},
		{with("h:DKIM-Signature", "x"), 400, "h:DKIM-Signature parameter is not allowed"},
		{with("h:ARC-Seal", "x"), 400, "h:ARC-Seal parameter is not allowed"},
		{with("h:TLS-Override", "v=1"), 400, "h:TLS-Override parameter is not allowed"},
		{with("h:X-Require-TLS", "no"), 400, "h:X-Require-TLS parameter is not allowed, use o:require-tls"},
		{with("h:x-mailgun-skip-verification", "yes"), 400, "h:x-mailgun-skip-verification parameter is not allowed, use o:skip-verification"},
		{with("h:Message-Id", "x"), 400, "h:Message-Id parameter: expected <local@domain>"},
		{with("h:Message-Id", "<a b@x>"), 400, "h:Message-Id parameter: expected <local@domain>"},
		{with("h:Date", "tomorrow"), 400, "h:Date parameter: expected a date as in RFC 5322"},
		{with("h:Reply-To", "x"), 400, "h:Reply-To parameter: expected addresses in US-ASCII"},
		{with("h:Reply-To", "bøb@example.org"), 400, "h:Reply-To parameter: expected addresses in US-ASCII"},
		{with("h:Sender", "a@example.org, b@example.org"), 400, "h:Sender parameter: expected an address in US-ASCII"},
		{with("h:X-Mailgun-Variables", "[]"), 400, "h:X-Mailgun-Variables parameter: expected a JSON object of at most 4096 octets"},
		{letter("h:X-A", "1", "h:x-a", "2"), 400, "h:x-a parameter is there more than once"},
		{letter("h:X-Mailgun-Variables", "{}", "v:a", "1"), 400, "h:X-Mailgun-Variables parameter is there beside v: parameters"},
		{with("v:a", strings.Repeat("x ", 3000)), 400, "v: parameters are too long for a header field"},
		{with("o:require-tls", "1"), 400, `o:require-tls parameter: unexpected "1", expected yes, no, true or false`},
		{letter("o:require-tls", "yes", "o:require-tls", "yes"), 400, "o:require-tls parameter is there more than once"},
		{with("o:deliverytime", "Thu, 13 Oct 2211 18:02:00 +0000"), 400, "o:deliverytime parameter is not supported: messages are sent at once"},
		{with("o:deliverytime", "tomorrow"), 400, "o:deliverytime parameter is not supported: messages are sent at once"},
		{with("o:deliverytime", "Thu, 13 Oct 2011 18:02:00 CET"), 400, "o:deliverytime parameter: unexpected zone CET, expected an offset as +0100, or one of UTC, "},
		{with("o:deliverytime", time.Now().In(time.FixedZone("", -8*3600)).Add(time.Hour).Format("Mon, 2 Jan 2006 15:04:05 PST")), 400, "o:deliverytime parameter is not supported: messages are sent at once"},
		{with("o:native-send", "yes"), 400, "o:native-send parameter: yes is not supported, expected no"},
		{with("o:tracking-pixel-location-top", "htmlonly"), 400, "o:tracking-pixel-location-top parameter: htmlonly is not supported, expected no"},
		{with("o:dkim", "yes"), 400, "o:dkim parameter is not supported: the server's configuration says which messages are signed"},
		{with("o:sending-ip", "192.0.2.1"), 400, "o:sending-ip parameter is not supported"},
		{with("template", "x"), 400, "template parameter is not supported"},
		{with("t:text", "no"), 400, "t:text parameter is not supported"},
		{letter("recipient-variables", "{}", "cc", "c@example.net"), 400, "recipient-variables parameter is not supported"},
		{with("recipient-variables", "[]"), 400, "recipient-variables parameter is not supported"},
		{with("to[x]", "c@example.net"), 400, "to[x] parameter is not supported"},
		{with("o:dkim", "yes"), 400, "o:dkim parameter is not supported"},
		{with("o:tracking", "yes"), 400, "o:tracking parameter: yes is not supported, expected no"},
		{with("o:tracking-clicks", "htmlonly"), 400, "o:tracking-clicks parameter: htmlonly is not supported, expected no"},
		{with("o:tag", ""), 400, `o:tag parameter: unexpected "", expected 1 to 128 octets`},
		{with("template", "x"), 400, "template parameter is not supported"},
		{with("t:version", "x"), 400, "t:version parameter is not supported"},
		{with("recipient-variables", `{"bob@example.net":{"id":1}}`), 400, "recipient-variables parameter is not supported"},
		{with("message", "x"), 400, "message parameter is not supported"},
		{with("To", "x"), 400, "To parameter is not supported"},
		{with("text", "a\x00b"), 400, "text parameter has a NUL character in it"},
		{with("text", "a\xffb"), 400, "text parameter is not valid UTF-8"},
		{many, 400, "The message has more than 1000 recipients"},
		{with("html", strings.Repeat("x", 1<<20)), 413, "Message is too large, expected at most 1048576 octets"},
		{with("html", strings.Repeat("x", 3<<20)), 413, "Message is too large, expected at most 1048576 octets"},
	} {
		w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: tt.form}), tt.status, tt.want)
	}
	for _, p := range []struct {
		formPart
		want string
	}{
		{formPart{"attachment", "a\u0085b", "", "x"}, `attachment parameter: the file name "a\u0085b" is not allowed`},
		{formPart{"inline", "a b.png", "", "x"}, "inline parameter: the file name a b.png cannot be a Content-ID"},
		{formPart{"attachment", strings.Repeat("x", 300), "", "x"}, "attachment parameter: the file name"},
		{formPart{"file", "x", "", "x"}, "file parameter is not supported"},
	} {
		parts := []formPart{{name: "from", data: "ann@example.com"}, {name: "to", data: "bob@example.net"}, {name: "text", data: "t"}, p.formPart}
		w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, parts: parts}), 400, p.want)
	}
	if len(w.sent)+len(w.accepted) != 0 {
		t.Errorf("sent %d", len(w.sent))
	}
}

// A thousand recipients may stand in one value, as scripts write them.
func TestManyRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := make([]string, maxRecipients)
	for i := range all {
		all[i] = fmt.Sprintf("Somebody with a Name %d <recipient.%d@mail.example.net>", i, i)
	}
	f := letter()
	f.Set("to", strings.Join(all, ", "))
	m := w.send(f)
	if len(m.Recipients) != maxRecipients || m.Recipients[999] != "recipient.999@mail.example.net" {
		t.Errorf("%d recipients", len(m.Recipients))
	}
	f.Set("to", strings.Repeat("x", maxAddresses)+"@example.net")
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: f}), 400, "to parameter is longer than 131072 octets")
}

// What the pipeline says is passed on, with whether it is worth another try.
func TestRefusedByThePipeline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tt := range []struct {
		err    error
		status int
		want   string
	}{
		{&Refusal{Text: "550 5.1.1 no such user"}, 400, "550 5.1.1 no such user"},
		{&Refusal{Temporary: true, Text: "451 4.3.0 later"}, 503, "451 4.3.0 later"},
		{errors.New("disk /var/secret full"), 500, "Internal server error"},
	} {
		w.refuse = tt.err
		got := w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter()})
		w.want(got, tt.status, tt.want)
		if (tt.status == 503) != (got.header.Get("Retry-After") != "") || strings.Contains(got.body, "secret") {
			t.Errorf("got %v %s", got.header, got.body)
		}
	}
	if len(w.accepted) != 0 {
		t.Errorf("events %v", w.accepted)
	}
}

func TestTestMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.do(request{method: "POST", path: messagesPath, key: fullKey, form: letter("o:testmode", "yes", "o:tracking", "no")})
	w.want(got, 200, "Queued. Thank you.")
	if len(w.sent)+len(w.accepted) != 0 {
		t.Errorf("sent %v", w.sent)
	}
	w.send(letter("o:testmode", "false"))
}

// ready is a message that comes ready made.
func (w *world) ready(text string, more ...string) reply {
	w.Helper()
	parts := []formPart{{name: "to", data: "bob@example.net"}, {name: "message", file: "m.mime", data: text}}
	for i := 0; i < len(more); i += 2 {
		parts = append(parts, formPart{name: more[i], data: more[i+1]})
	}
	return w.do(request{method: "POST", path: messagesPath + ".mime", key: domainKey, parts: parts})
}

func TestReadyMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.ready("Return-Path: <x@example.org>\nFROM: Ann <ann@EXAMPLE.com>\r\nTo: somebody@example.org\r\nBcc: e@example.org\r\n"+
		"TLS-Override: v=1; skip-verification=yes\r\nX-Mailgun-Require-TLS: true\r\nSubject: a\r\n b\r\nX-Ü: 1\r\n\r\nbody\r\n.\r\n", "o:skip-verification", "no")
	w.want(got, 400, "message parameter: the header cannot be read") // for a name like this
	got = w.ready("Return-Path: <x@example.org>\nFROM: Ann <ann@EXAMPLE.com>\r\nTo: somebody@example.org\r\nBcc: e@example.org\r\nResent-Bcc: e@example.org\r\n"+
		"TLS-Override: v=1; skip-verification=yes\r\nX-Mailgun-Require-TLS: true\r\nSubject: a\r\n b\r\n\r\nbody\r\n.\r\n", "o:skip-verification", "no")
	w.want(got, 200, "Queued. Thank you.")
	m := w.last()
	if m.Sender != "ann@example.com" || string(m.Body) != "body\r\n.\r\n" || m.Recipients[0] != "bob@example.net" ||
		m.Override != (policy.Override{RequireTLS: policy.Yes, SkipVerification: policy.No}) {
		t.Errorf("got %+v", m)
	}
	for _, gone := range []string{"Bcc", "Resent-Bcc", "Return-Path", "TLS-Override", "X-Mailgun-Require-TLS"} {
		if m.Header.Has(gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	if m.Header.Get("To") != "somebody@example.org" || !messageID(m.Header.Get("Message-Id")) || m.Header.Get("Date") == "" {
		t.Errorf("header %v", m.Header.Map())
	}

	const from = "From: ann@example.com\r\n"
	for text, want := range map[string]string{
		"":                                 "from parameter is missing",
		"\r\nbody":                         "from parameter is missing",
		"no header":                        "message parameter: the header cannot be read",
		"From: eve@example.org\r\n\r\n":    "from parameter: the address is not one of domain example.com",
		from + from + "\r\n":               "message parameter: the header has more than one From",
		from + "\r\none\r\ntwo\rthree":     "message parameter: line 2 of the body has a CR without LF in it",
		from + "\r\none\r\r\ntwo\r\n":      "message parameter: line 1 of the body has a CR without LF in it",
		from + "\r\none\r":                 "message parameter: line 1 of the body has a CR without LF in it",
		from + "X-A: \x1b[2J\r\n\r\n":      "message parameter: the header has a control character in it",
		from + "X-Require-TLS: no\r\n\r\n": "o:require-tls parameter contradicts the header of the message",
		from + "X-Require-TLS: x\r\n\r\n":  `message parameter: header field X-Require-TLS: unexpected "x", expected yes or no`,
		from + "Message-Id: x\r\n\r\n":     "message parameter: the Message-ID is malformed",
		from + "Message-Id: \r\n\r\n":      "message parameter: the Message-ID is malformed",
		// On the wire a lone CR becomes a line break, and the header has a field more, or ends.
		from + "X-A: 1\rFrom: eve@example.org\r\n\r\n":               "message parameter: the header has a control character in it",
		"X-A: 1\r\r\n" + from + "\r\n":                               "message parameter: the header has a control character in it",
		"X-A: 1\r\n \r\r\n" + from + "\r\n":                          "message parameter: the header has a control character in it",
		from + strings.Repeat("Received: x\r\n", 51) + "\r\n":        "message parameter: more than 50 Received fields",
		from + "X-A: " + strings.Repeat("x", maxHeader) + "\r\n\r\n": "message parameter: the header is longer than 262144 octets",
	} {
		w.want(w.ready(text, "o:require-tls", "yes"), 400, want)
	}
	w.want(w.ready(from+"\r\nx", "subject", "x"), 400, "subject parameter is not supported")
	w.want(w.ready(from+"X-A: y\r\n\r\nx", "h:X-A", "x"), 400, "h:X-A parameter is there more than once")
	w.want(w.ready(from+"\r\nx", "h:From", "x"), 400, "h:From parameter is not allowed")
	w.want(w.ready(from+"\r\nx", "message", from), 400, "message parameter is there more than once")
	w.want(w.do(request{method: "POST", path: messagesPath + ".mime", key: domainKey, form: url.Values{"to": {"b@example.net"}}}), 400, "message parameter is missing")
	w.want(w.do(request{method: "POST", path: messagesPath + ".mime", key: domainKey, form: url.Values{"message": {from + "\r\n"}}}), 400, "to parameter is missing")
	w.want(w.do(request{method: "POST", path: messagesPath + ".mime", key: domainKey, form: url.Values{"to": {"b@example.net"}, "message": {from + "\r\nx"}}}), 200, "Queued")
	if len(w.sent) != 2 {
		t.Errorf("%d sent", len(w.sent))
	}
}

func TestHeaderOfAForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter(), header: http.Header{"Content-Encoding": {"gzip"}}}),
		415, "Content-Encoding is not supported")
	w.want(w.do(request{method: "POST", path: messagesPath + "?to=x@example.net", key: domainKey, form: letter()}),
		400, "to parameter is in the URL, expected in the body")
}

// Fields with many addresses are folded, say what was said, and have an end.
func TestAddressesAreFolded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := letter()
	f.Set("from", `"Ann,  the first of many names that are longer than a line, and  of those who have two spaces in them" <ann@example.com>`)
	f.Del("to")
	for i := range maxRecipients {
		f.Add("to", fmt.Sprintf(`"B\u00f6b %d" <bob%d@example.net>`, i, i))
	}
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: f}), 200, "Queued")
	m := w.last()
	var text bytes.Buffer
	if err := textproto.WriteHeader(&text, m.Header); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if len(line) > 100 || strings.TrimSpace(line) == "" && line != "\r\n" {
			t.Errorf("line %q", line)
		}
	}
	for name, n := range map[string]int{"From": 1, "To": maxRecipients} {
		list, err := mail.ParseAddressList(m.Header.Get(name))
		if err != nil || len(list) != n {
			t.Fatalf("%s: %d addresses, %v", name, len(list), err)
		}
		given, err := mail.ParseAddressList(strings.Join(f[strings.ToLower(name)], ","))
		if err != nil || !slices.EqualFunc(list, given, func(a, b *mail.Address) bool { return *a == *b }) {
			t.Errorf("%s: %v, %v", name, list[:1], err)
		}
	}
	spaced := letter()
	name := strings.Repeat("wide  ", 300) + "apart"
	spaced.Set("cc", `"`+name+`" <bob@example.net>`)
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: spaced}), 200, "Queued")
	raw, err := w.last().Header.Raw("Cc")
	if err != nil || !strings.Contains(strings.ReplaceAll(string(raw), "\r\n", ""), name) {
		t.Errorf("%q, %v", raw, err)
	}
	for line := range strings.Lines(string(raw)) {
		if len(line) > 998+len("\r\n") || strings.TrimSpace(line) == "" {
			t.Errorf("line of %d octets: %q", len(line), line)
		}
	}
	for _, name := range []string{strings.Repeat("\u00f6", maxHeader/4), strings.Repeat("x", 2*maxWord), "x" + strings.Repeat(" ", 2*maxWord) + "x"} {
		for _, field := range []string{"to", "cc"} {
			long := letter()
			for range 3 {
				long.Add(field, `"`+name[:min(len(name), maxAddresses-100)]+`" <bob@example.net>`)
			}
			w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: long}), 400, field+" parameter is too long for a header field")
		}
	}
}
