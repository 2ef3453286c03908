package events

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/status"
)

func TestParseMistakes(t *testing.T) {
	t.Parallel()
	for _, document := range []string{
		"", "null", "[]", "{", `"text"`, "{}", `{"event":"x"}`, `{"event":"x","id":"y"}`, `{"event":"x","id":"y","timestamp":"soon"}`,
		`{"event":"","id":"y","timestamp":1}`, `{"event":"x","id":"a b","timestamp":1}`, `{"event":"x","id":"ä","timestamp":1}`,
		`{"event":"x","id":"` + strings.Repeat("y", maxID+1) + `","timestamp":1}`,
		`{"event":"x","id":"y","timestamp":1e30}`, `{"event":"x","id":"y","timestamp":1e999999999}`, `{"event":"x","id":"y","timestamp":-1e30}`,
		`{"event":"x","id":"y","timestamp":1,"tags":7}`, `{"event":"x","id":"y","timestamp":1} {}`,
		`{"event":"x","id":"y","timestamp":1,"z":"` + strings.Repeat("z", journal.MaxLine) + `"}`,
	} {
		if e, err := Parse([]byte(document)); err == nil {
			t.Errorf("%.80s: %+v", document, e.columns)
		}
	}
}

func TestMicros(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1": 1e6, "1766430000.123456": 1766430000123456, "1766430000.1": 1766430000100000, "1.7664e9": 1766400000e6,
		"1766430000.1234569": 1766430000123456, "-1.5": -1500000, "253402300799": 253402300799e6,
	} {
		if got, err := micros(json.Number(text)); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
}

// TestLines: a document of several lines becomes one, its words unchanged.
func TestLines(t *testing.T) {
	t.Parallel()
	e := event(t, "{\"event\": \"x\",\r\n\t\"id\": \"y\", \"timestamp\": 1.50,\n \"z\": \"a\\nb\"}\n")
	if got, want := string(e.Document()), `{"event":"x","id":"y","timestamp":1.50,"z":"a\nb"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSubjectAsPeopleReadIt: a delivery's document has the subject as it crossed the
// wire, and is found by the words in it all the same.
func TestSubjectAsPeopleReadIt(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		"Hello World":                           "hello world",
		"=?utf-8?q?Gr=C3=BC=C3=9Fe_m3?=":        "grüße m3",
		"=?UTF-8?B?R3LDvMOf?= =?utf-8?q?e_an?=": "grüße an",
		"Re: =?iso-8859-1?Q?Gr=FC=DFe?= an":     "re: grüße an",
		"=?nothing?q?x?=":                       "=?nothing?q?x?=",
		"=?utf-8?b?R3LDvM":                      "=?utf-8?b?r3ldvm",
		"=?utf-8?q?=00=FF?=":                    "\ufffd\ufffd",
	} {
		quoted, err := json.Marshal(subject)
		if err != nil {
			t.Fatal(err)
		}
		e := event(t, `{"event":"x","id":"y","timestamp":1,"message":{"headers":{"subject":`+string(quoted)+`}}}`)
		if e.subject != want {
			t.Errorf("%s: %q, want %q", subject, e.subject, want)
		}
	}
}

func TestAcceptedDocument(t *testing.T) {
	t.Parallel()
	e, err := Accepted{Time: time.Unix(12, 34e3), Sender: "a@B.example", Recipient: "c@D.example"}.Event()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		ID        string
		Timestamp json.Number
		Domain    string `json:"recipient-domain"`
	}
	if err := json.Unmarshal(e.Document(), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.ID) != 32 || d.Timestamp != "12.000034" || d.Domain != "d.example" {
		t.Errorf("%+v", d)
	}
	if a, b := newID(), newID(); a == b || len(a) != 32 {
		t.Errorf("%s and %s", a, b)
	}
	if _, err := (Accepted{Time: time.Time{}, Tags: []string{strings.Repeat("x", journal.MaxLine)}}).Event(); err == nil {
		t.Error("a document of any size is taken")
	}
}

// TestAcceptedQuotes: a message with a long header and a thousand recipients
// must not make a gigabyte of events.
func TestAcceptedQuotes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 128<<10)
	a := Accepted{Time: epoch, Sender: "a@b.example", Recipient: "c@d.example", Headers: map[string]string{"subject": long, "to": "\xff" + long}}
	for range 1000 {
		a.Attachments = append(a.Attachments, Attachment{FileName: long, ContentType: "text/plain"})
	}
	e, err := a.Event()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Document()); n > 8<<10 || !json.Valid(e.Document()) {
		t.Errorf("a document of %d octets", n)
	}
	if len(a.Headers["subject"]) != len(long) {
		t.Error("the headers of the caller have changed")
	}
}

// FuzzParse: what is taken can be stored, by PostgreSQL too: valid text without
// the octet 0, and index entries of bounded length.
func FuzzParse(f *testing.F) {
	f.Add([]byte(fact{}.document()))
	f.Add(status.Append(nil, attempt(1), status.Options{}))
	f.Add([]byte(`{"event":"x","id":"y","timestamp":1e3,"tags":["\u001f","\u0000"],"recipient":"\ud800@\u0000.İ"}`))
	f.Add([]byte("{\"event\":\"x\",\n\"id\":\"y\",\"timestamp\":-0.1,\"envelope\":{\"sender\":\"\xff@xn--a\"}}"))
	f.Fuzz(func(t *testing.T, document []byte) {
		e, err := Parse(document)
		if err != nil {
			return
		}
		r := columnsAndDocument{e.columns, e.document}
		index := 0
		for _, v := range r.appendArgs(nil) {
			s, ok := v.(string)
			if !ok {
				continue
			}
			if strings.Contains(s, "\x00") {
				t.Errorf("the octet 0 in %q", s)
			}
			if !utf8.ValidString(s) {
				t.Errorf("not UTF-8: %q", s)
			}
			if s != string(e.document) {
				index = max(index, len(s))
			}
		}
		if index > 2*(maxText+2*maxDomain) || len(e.id)+len(e.event)+len(e.severity)+len(e.senderDomain)+len(e.reason)+len(e.mxHost) > 2000 {
			t.Errorf("too long for an index: %+v", e.columns)
		}
		if bytes.ContainsAny(e.document, "\n\r") || !json.Valid(e.document) {
			t.Errorf("not a line of JSON: %q", e.document)
		}
		again, err := parseColumns(e.document)
		if err != nil || again != e.columns {
			t.Errorf("read again: %+v, %v, first %+v", again, err, e.columns)
		}
	})
}
