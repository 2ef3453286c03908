package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-message/textproto"
)

// crlf makes a body of a multipart form with the boundary b of lines.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

const multipartB = "multipart/form-data; boundary=b"

// TestWire sends what client libraries send, octet by octet as they build it, and
// looks at the message that comes of it.
func TestWire(t *testing.T) {
	t.Parallel()
	const urlencoded = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		client, path, contentType, body string
		want                            string // of the message: recipients, tags, variables, files, and its tree
	}{
		{
			// Symfony (and Laravel's mailgun+api): every part has a type and an encoding;
			// files of a list are numbered.
			"Symfony, API", "messages", multipartB,
			crlf("--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="from"`, "", `"Änn" <ann@example.com>`,
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="to"`, "", `"Bob, jr." <bob@example.net>,c@example.net`,
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="subject"`, "", "Grüße",
				"--b", "Content-Type: text/plain; name=a.txt", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="attachment[0]"; filename=a.txt`, "", "A",
				"--b", "Content-Type: application/pdf; name=b.pdf", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="attachment[1]"; filename=b.pdf`, "", "B",
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="html"`, "", "<p>ü</p>",
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="h:Reply-To"`, "", "r@example.com",
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="o:tag"`, "", "reset",
				"--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="v:order"`, "", "42", "--b--"),
			`[bob@example.net c@example.net] [reset] {"order":"42"} [{a.txt text/plain 1} {b.pdf application/pdf 1}] <r@example.com>` + "\n" +
				"multipart/mixed\n  text/html \"<p>ü</p>\"\n  text/plain attachment a.txt \"A\"\n  application/pdf attachment b.pdf \"B\"\n",
		},
		{
			// Symfony and Laravel by default: ready made, with what asks for options in the
			// header.
			"Symfony, MIME", "messages.mime", multipartB,
			crlf("--b", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="to"`, "", "bob@example.net,c@example.net",
				"--b", "Content-Type: application/octet-stream; name=message.mime", "Content-Transfer-Encoding: 8bit", `Content-Disposition: form-data; name="message"; filename=message.mime`, "",
				"From: ann@example.com", "To: bob@example.net", "X-Mailgun-Tag: reset", "X-Mailgun-Tag: =?utf-8?Q?=C3=BC?=", `X-Mailgun-Variables: {"order":"42"}`, "X-Mailgun-Track: no",
				"Message-ID: <m@example.com>", "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=m", "", "--m", "Content-Type: text/plain", "", "hello", "--m",
				`Content-Type: application/pdf; name="=?utf-8?Q?b=C3=BC.pdf?="`, "Content-Transfer-Encoding: base64", `Content-Disposition: attachment; filename*=utf-8''b%C3%BC.pdf`, "", "QkI=", "--m--", "--b--"),
			`[bob@example.net c@example.net] [reset ü] {"order":"42"} [{bü.pdf application/pdf 2}] ` + "\n" +
				"multipart/mixed\n  text/plain \"hello\"\n  application/pdf attachment bü.pdf \"BB\"\n",
		},
		{
			// mailgun-ruby with a file (Faraday, multipart): every value is a list, and every
			// name says so.
			"mailgun-ruby", "messages", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="from[]"`, "", "'Ann Other' <ann@example.com>", "--b", `Content-Disposition: form-data; name="to[]"`, "", "'Bob B' <bob@example.net>",
				"--b", `Content-Disposition: form-data; name="to[]"`, "", "c@example.net", "--b", `Content-Disposition: form-data; name="subject[]"`, "", "hello",
				"--b", `Content-Disposition: form-data; name="text[]"`, "", "t", "--b", `Content-Disposition: form-data; name="html[]"`, "", "",
				"--b", `Content-Disposition: form-data; name="h:reply-to[]"`, "", "r@example.com", "--b", `Content-Disposition: form-data; name="o:tag[]"`, "", "a",
				"--b", `Content-Disposition: form-data; name="o:tag[]"`, "", "b", "--b", `Content-Disposition: form-data; name="o:tracking-opens[]"`, "", "no",
				"--b", `Content-Disposition: form-data; name="v:order[]"`, "", `{"n":42}`,
				"--b", `Content-Disposition: form-data; name="attachment[]"; filename="a.txt"`, "Content-Length: 1", "Content-Type: text/plain", "Content-Transfer-Encoding: binary", "", "A", "--b--"),
			`[bob@example.net c@example.net] [a b] {"order":"{\"n\":42}"} [{a.txt text/plain 1}] <r@example.com>` + "\n" + "multipart/mixed\n  text/plain \"t\"\n  text/plain attachment a.txt \"A\"\n",
		},
		{
			// Python's requests without files, as Django's anymail and the examples of the
			// documentation do.
			"requests, urlencoded", "messages", urlencoded,
			"from=Ann+%3Cann%40example.com%3E&to=bob%40example.net&to=C+%3Cc%40example.net%3E&subject=hello&text=t&html=&o%3Atag=a&o%3Atag=b&o%3Atracking=False" +
				"&o%3Atracking-clicks=no&o%3Atracking-opens=no&o%3Atestmode=False&h%3AReply-To=r%40example.com&v%3Aorder=42&recipient-variables=%7B%7D&o%3Adeliverytime=Fri%2C+14+Oct+2011+23%3A10%3A10+-0000",
			"400 recipient-variables parameter is not supported",
		},
		{
			"requests, one recipient", "messages", urlencoded,
			"from=Ann+%3Cann%40example.com%3E&to=bob%40example.net&subject=hello&text=t&html=&o%3Atag=a&o%3Atag=b&o%3Atracking=False" +
				"&o%3Atracking-clicks=no&o%3Atracking-opens=no&o%3Atestmode=False&h%3AReply-To=r%40example.com&v%3Aorder=42&recipient-variables=%7B%7D&o%3Adeliverytime=Fri%2C+14+Oct+2011+23%3A10%3A10+-0000",
			`[bob@example.net] [a b] {"order":"42"} [] <r@example.com>` + "\n" + "text/plain \"t\\r\\n\"\n",
		},
		{
			// urllib3 writes names that are not US-ASCII in either of two ways.
			"requests, files", "messages", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="from"`, "", "ann@example.com", "--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net",
				"--b", `Content-Disposition: form-data; name="text"`, "", "t",
				"--b", `Content-Disposition: form-data; name="attachment"; filename="Grüße.txt"`, "Content-Type: text/plain", "", "A",
				"--b", `Content-Disposition: form-data; name="attachment"; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt`, "", "B",
				"--b", `Content-Disposition: form-data; name="inline"; filename="x"; filename*=UTF-8''l%C3%B6go.png`, "Content-Type: image/png", "", "C", "--b--"),
			"400 inline parameter: the file name \"l\\u00f6go.png\" cannot be a Content-ID",
		},
		{
			"requests, file names", "messages", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="from"`, "", "ann@example.com", "--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net",
				"--b", `Content-Disposition: form-data; name="text"`, "", "t",
				"--b", `Content-Disposition: form-data; name="attachment"; filename="Grüße.txt"`, "Content-Type: text/plain", "", "A",
				"--b", `Content-Disposition: form-data; name="attachment"; filename*=utf-8''Gr%C3%BC%C3%9Fe.txt`, "", "B", "--b--"),
			"[bob@example.net] []  [{Grüße.txt text/plain 1} {Grüße.txt application/octet-stream 1}] \n" +
				"multipart/mixed\n  text/plain \"t\"\n  text/plain attachment Grüße.txt \"A\"\n  application/octet-stream attachment Grüße.txt \"B\"\n",
		},
		{
			// n8n sends both texts in any case.
			"n8n", "messages", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="from"`, "", "ann@example.com", "--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net, c@example.net",
				"--b", `Content-Disposition: form-data; name="subject"`, "", "", "--b", `Content-Disposition: form-data; name="text"`, "", "t", "--b", `Content-Disposition: form-data; name="html"`, "", "", "--b--"),
			"[bob@example.net c@example.net] []  [] \ntext/plain \"t\\r\\n\"\n",
		},
		{
			// PHP's curl, whose forms cannot repeat a name, and http_build_query.
			"PHP, query", "messages", urlencoded,
			"from=ann%40example.com&to%5B0%5D=bob%40example.net&to%5B1%5D=c%40example.net&subject=hello&text=&html=%3Cp%3Eh%3C%2Fp%3E&o%3Atag%5B0%5D=a&o%3Atag%5B1%5D=b",
			"[bob@example.net c@example.net] [a b]  [] \ntext/html \"<p>h</p>\\r\\n\"\n",
		},
		{
			// mailgun-go with a file and HTML sends an empty text along.
			"only empty", "messages", urlencoded, "from=ann%40example.com&to=bob%40example.net&subject=hello&text=&html=",
			"[bob@example.net] []  [] \ntext/plain \"\"\n",
		},
		{
			"MIME with a time", "messages.mime", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net", "--b", `Content-Disposition: form-data; name="message"; filename="message"`, "",
				"From: ann@example.com", "X-Mailgun-Deliver-By: Fri, 14 Oct 2211 23:10:10 -0000", "", "x", "--b--"),
			"400 message parameter: X-Mailgun-Deliver-By: o:deliverytime parameter is not supported: messages are sent at once",
		},
		{
			"MIME with a template", "messages.mime", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net", "--b", `Content-Disposition: form-data; name="message"; filename="message"`, "",
				"From: ann@example.com", "X-Mailgun-Template-Name: welcome", "", "x", "--b--"),
			"400 message parameter: X-Mailgun-Template-Name: template parameter is not supported",
		},
		{
			"MIME with bad variables", "messages.mime", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net", "--b", `Content-Disposition: form-data; name="message"; filename="message"`, "",
				"From: ann@example.com", "X-Mailgun-Variables: order=42", "", "x", "--b--"),
			"400 message parameter: X-Mailgun-Variables: expected a JSON object of at most 4096 octets",
		},
		{
			// mailgun-go and mailgun-php send headers and variables beside a ready made message.
			"MIME with fields", "messages.mime", multipartB,
			crlf("--b", `Content-Disposition: form-data; name="to"`, "", "bob@example.net", "--b", `Content-Disposition: form-data; name="h:Reply-To"`, "", "r@example.com",
				"--b", `Content-Disposition: form-data; name="v:order"`, "", "42", "--b", `Content-Disposition: form-data; name="o:tracking"`, "", "no",
				"--b", `Content-Disposition: form-data; name="message"; filename="message"`, "", "From: ann@example.com", "", "x", "--b--"),
			`[bob@example.net] [] {"order":"42"} [] <r@example.com>` + "\n" + "text/plain \"x\\r\\n\"\n",
		},
	} {
		t.Run(tt.client, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			got := w.do(request{method: "POST", path: "/v3/example.com/" + tt.path, key: domainKey, body: tt.body, header: http.Header{"Content-Type": {tt.contentType}}})
			if status, text, _ := strings.Cut(tt.want, " "); status == "400" {
				w.want(got, 400, text)
				return
			}
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			m := w.last()
			a := w.accepted[0]
			if len(w.accepted) != len(m.Recipients) {
				t.Errorf("%d accepted events", len(w.accepted))
			}
			became := fmt.Sprintf("%v %v %s %v %s\n%s", m.Recipients, a.Tags, a.Variables, a.Attachments, m.Header.Get("Reply-To"), tree(t, m))
			if became != tt.want {
				t.Errorf("got\n%swant\n%s", became, tt.want)
			}
			// The last line has an end: SIZE= and the size in documents are of what leaves.
			var text strings.Builder
			if err := textproto.WriteHeader(&text, m.Header); err != nil {
				t.Fatal(err)
			}
			if len(m.Body) > 0 && !strings.HasSuffix(string(m.Body), "\r\n") || a.Size != int64(text.Len()+len(m.Body)) {
				t.Errorf("%d octets accepted of %d, which end with %q", a.Size, text.Len()+len(m.Body), m.Body)
			}
			for fields := m.Header.Fields(); fields.Next(); {
				if name := strings.ToLower(fields.Key()); optionFields[name] != "" {
					t.Errorf("%s leaves with the message", fields.Key())
				}
			}
		})
	}
}

// The message ID of an answer is as it is, for scripts that do not read JSON.
func TestAnswerHasBrackets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter("h:Message-Id", "<x@example.com>")})
	if got.body != `{"id":"<x@example.com>","message":"Queued. Thank you."}`+"\n" {
		t.Errorf("got %s", got.body)
	}
}

// What an option asks for decides, and not its name alone.
func TestHarmlessOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"o:tracking", "o:tracking-clicks", "o:tracking-opens", "o:tracking-pixel-location-top", "o:native-send"} {
		for value, status := range map[string]int{"no": 200, "False": 200, "yes": 400, "true": 400, "htmlonly": 400, "": 400} {
			f := url.Values{}
			for k, v := range letter(name, value) {
				f[k] = v
			}
			if got := w.do(request{method: "POST", path: messagesPath, key: domainKey, form: f}); got.status != status {
				t.Errorf("%s=%s: %d %s", name, value, got.status, got.body)
			}
		}
	}
	w.send(letter("recipient-variables", `{"bob@example.net":{}}`))
	w.send(letter("o:deliverytime", "Fri, 14 Oct 2011 12:00:00 GMT"))
}

// RFC 7578 wants no encoding of parts. One that is easily undone is taken.
func TestEncodedParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for encoding, want := range map[string]int{"quoted-printable": 200, "Quoted-Printable": 200, "base64": 400} {
		form := crlf("--b", `Content-Disposition: form-data; name="from"`, "", "ann@example.com", "--b", `Content-Disposition: form-data; name="text"`, "", "t",
			"--b", `Content-Disposition: form-data; name="to"`, "Content-Transfer-Encoding: "+encoding, "", "b=6Fb@example.net", "--b--")
		got := w.do(request{method: "POST", path: messagesPath, key: domainKey, body: form, header: http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}})
		if got.status != want || want == 200 && w.last().Recipients[0] != "bob@example.net" {
			t.Errorf("%s: %d %s", encoding, got.status, got.body)
		}
	}
}

// Hostile MIME is looked at within bounds.
func TestFilesOfHostileMIME(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var deep, wide strings.Builder
	deep.WriteString("From: ann@example.com\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n")
	for i := range 5000 {
		fmt.Fprintf(&deep, "--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n", i, i+1)
	}
	wide.WriteString("From: ann@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	for i := range 5000 {
		fmt.Fprintf(&wide, "--b\r\nContent-Disposition: attachment; filename=%d\r\n\r\n", i)
	}
	for _, text := range []string{
		deep.String(), wide.String(), "From: ann@example.com\r\nContent-Type: multipart/mixed\r\n\r\nx", "From: ann@example.com\r\nContent-Type: x; ;\r\n\r\nx",
		"From: ann@example.com\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=x\r\n\r\n!!!",
	} {
		w.want(w.ready(text), 200, "Queued")
	}
	if n := len(w.accepted[1].Attachments); n == 0 || n > maxMIMEParts {
		t.Errorf("%d files", n)
	}
	if !slices.ContainsFunc(w.accepted, func(a Accepted) bool { return len(a.Attachments) == 1 }) {
		t.Error("no file")
	}
}

// A group without anybody in it is nobody to send to.
func TestNobodyToSendTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	form := letter()
	form.Set("to", "undisclosed-recipients:;")
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: form}), 400, "to parameter is missing")
	form.Set("bcc", "carol@example.net")
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: form}), 200, "Queued")
}

// What a field may hold it may hold in events, too: it gets spaces where it can be
// folded.
func TestLargeVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	object := "{" + strings.Repeat(`"a":1,`, maxVariables/6-2) + `"b":2}`
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter("h:X-Mailgun-Variables", object)}), 200, "Queued")
	if got := string(w.accepted[0].Variables); got != `{"a":1,"b":2}` {
		t.Errorf("got %s", got)
	}
	w.want(w.ready("From: ann@example.com\r\nX-Mailgun-Variables: "+strings.ReplaceAll(object, ",", ",\r\n ")+"\r\n\r\nx"), 200, "Queued")
	object = "{" + strings.Repeat(`"a":1,`, maxVariables/6) + `"b":2}`
	w.want(w.do(request{method: "POST", path: messagesPath, key: domainKey, form: letter("h:X-Mailgun-Variables", object)}), 400, "h:X-Mailgun-Variables parameter")
	w.want(w.ready("From: ann@example.com\r\nX-Mailgun-Variables: "+strings.ReplaceAll(object, ",", ",\r\n ")+"\r\n\r\nx"), 400, "message parameter: X-Mailgun-Variables")
}
