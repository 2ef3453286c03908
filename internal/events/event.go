package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message"

	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/policy"
)

// Limits of what columns repeat of a document, in octets. An index entry of
// PostgreSQL has 2700 at most.
const (
	maxID      = 128
	maxWord    = 64 // event, severity, reason, content-sent
	maxDomain  = 255
	maxAddress = 512
	maxText    = 1024
	maxSaid    = 4096 // tags of a message, and names of its files, which no index of PostgreSQL has
)

// Event is one event: a JSON document, and what it can be asked for by. Parse
// makes it.
type Event struct {
	document []byte
	columns
}

// Document is the JSON document, one line without its newline.
func (e *Event) Document() json.RawMessage { return e.document }

// columns are what a row has besides the document.
type columns struct {
	ts              int64 // microseconds since 1970
	id              string
	event           string
	severity        string
	sender          string
	senderDomain    string
	recipient       string
	recipientDomain string
	messageID       string
	queueID         string
	reason          string
	tls, verified   int8 // 1, 0, or unknown
	mxHost          string
	size            int64
	subject         string
	tags            string
	list            string
	sent            string // content-sent
}

const unknown = -1

// parsed is what is read of a document.
type parsed struct {
	Event           string      `json:"event"`
	ID              string      `json:"id"`
	Timestamp       json.Number `json:"timestamp"`
	Severity        string      `json:"severity"`
	Reason          string      `json:"reason"`
	QueueID         string      `json:"queue-id"`
	Recipient       string      `json:"recipient"`
	RecipientDomain string      `json:"recipient-domain"`
	Envelope        struct {
		Sender string `json:"sender"`
	} `json:"envelope"`
	Message struct {
		Headers struct {
			MessageID string `json:"message-id"`
			Subject   string `json:"subject"`
			ListID    string `json:"list-id"`
		} `json:"headers"`
		Size        int64        `json:"size"`
		Attachments []Attachment `json:"attachments"`
	} `json:"message"`
	DeliveryStatus struct {
		TLS      *bool  `json:"tls"`
		Verified *bool  `json:"certificate-verified"`
		MXHost   string `json:"mx-host"`
		Sent     string `json:"content-sent"`
	} `json:"delivery-status"`
	Tags        []string        `json:"tags"`
	Variables   json.RawMessage `json:"user-variables"`
	MailingList struct {
		Address string `json:"address"`
	} `json:"mailing-list"`
}

// Parse reads a document. It must be a JSON object of 1 MiB at most with event,
// id and timestamp; everything else may be missing. The Event does not share
// memory with it.
func Parse(document []byte) (Event, error) {
	document = bytes.ToValidUTF8(bytes.TrimSuffix(document, []byte("\n")), []byte("\ufffd"))
	c, err := parseColumns(document)
	if err != nil {
		return Event{}, err
	}
	if len(document) > journal.MaxLine {
		return Event{}, fmt.Errorf("a document of %d octets, expected at most %d", len(document), journal.MaxLine)
	}
	if !bytes.ContainsAny(document, "\n\r") {
		return Event{bytes.Clone(document), c}, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, document); err != nil {
		return Event{}, err
	}
	return Event{line.Bytes(), c}, nil
}

func parseColumns(document []byte) (columns, error) {
	var p parsed
	if err := json.Unmarshal(document, &p); err != nil {
		return columns{}, err
	}
	if p.Event == "" || p.ID == "" || len(p.ID) > maxID || !visible(p.ID) {
		return columns{}, errors.New("a document without a good event and id")
	}
	ts, err := micros(p.Timestamp)
	if err != nil {
		return columns{}, err
	}
	c := columns{
		ts:              ts,
		id:              p.ID,
		event:           fold(p.Event, maxWord),
		severity:        fold(p.Severity, maxWord),
		sender:          fold(p.Envelope.Sender, maxAddress),
		senderDomain:    domainOf(p.Envelope.Sender),
		recipient:       fold(p.Recipient, maxAddress),
		recipientDomain: normalize(p.RecipientDomain),
		messageID:       fold(p.Message.Headers.MessageID, maxText),
		queueID:         fold(p.QueueID, maxText),
		reason:          fold(p.Reason, maxWord),
		tls:             truth(p.DeliveryStatus.TLS),
		verified:        truth(p.DeliveryStatus.Verified),
		mxHost:          fold(p.DeliveryStatus.MXHost, maxDomain),
		size:            p.Message.Size,
		subject:         fold(Decoded(p.Message.Headers.Subject), maxText),
		tags:            joinTags(p.Tags) + joinFiles(p.Message.Attachments) + markVariables(p.Variables),
		list:            fold(p.MailingList.Address, maxText),
		sent:            fold(p.DeliveryStatus.Sent, maxWord),
	}
	if c.recipientDomain == "" {
		c.recipientDomain = domainOf(p.Recipient)
	}
	if c.list == "" {
		c.list = fold(p.Message.Headers.ListID, maxText)
	}
	return c, nil
}

// Decoded is the value of a header field as people read it and ask for it: documents
// of deliveries quote the field as it crossed the wire, with encoded words (RFC
// 2047). What cannot be decoded stays as it is.
func Decoded(value string) string {
	decoder := mime.WordDecoder{CharsetReader: message.CharsetReader}
	if text, err := decoder.DecodeHeader(value); err == nil {
		return text
	}
	return value
}

// fold brings text into the form in which it is compared: lower case, valid
// UTF-8, at most limit octets, and without the octet 0, which PostgreSQL does not
// take.
func fold(s string, limit int) string {
	s = strings.ToLower(s)
	s = strings.ToValidUTF8(s, "\ufffd")
	s = strings.ReplaceAll(s, "\x00", "\ufffd")
	return cut(s, limit)
}

// cut returns the first limit octets of s, or fewer, up to the end of a
// character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// normalize has room for any domain that there can be, which has up to 253 octets in
// A-labels and 900 in U-labels: two that begin alike must not become one. Nor must
// two that strings.ToLower takes for one, and DNS does not: straẞe is strasse there.
func normalize(domain string) string {
	valid := string([]rune(cut(domain, maxText))) // with a sign for each bad octet, as JSON has it
	return fold1(policy.Normalize(fold1(valid, maxText)), maxText)
}

// domainOf is the domain of an address, "" if it has none.
func domainOf(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return normalize(address[i+1:])
}

func truth(b *bool) int8 {
	switch {
	case b == nil:
		return unknown
	case *b:
		return 1
	}
	return 0
}

// tagMark stands before and after each tag in the column.
const tagMark = "\x1f"

func joinTags(tags []string) string {
	if len(tags) == 0 {
		return ""
	}
	s := tagMark
	for _, t := range tags {
		if s += foldTag(t) + tagMark; len(s) > maxSaid {
			break
		}
	}
	return s
}

// fileMark stands before and after the name of each attachment. They are in the
// column of tags, behind them: both are what a sender's form says, and both are
// asked for of deliveries, too.
const fileMark = "\x1e"

func joinFiles(files []Attachment) string {
	if len(files) == 0 {
		return ""
	}
	s := fileMark
	for _, f := range files {
		if s += foldTag(f.FileName) + fileMark; len(s) > maxSaid {
			break
		}
	}
	return s
}

// variablesMark says that there are variables. Nobody can ask for them, but whatever a
// form said is looked up where the column is not empty.
const variablesMark = "\x1d"

func markVariables(variables json.RawMessage) string {
	if len(variables) == 0 || string(variables) == "null" {
		return ""
	}
	return variablesMark
}

func foldTag(tag string) string {
	return unmarked.Replace(fold(tag, maxDomain))
}

var unmarked = strings.NewReplacer(tagMark, "\ufffd", fileMark, "\ufffd")

// visible reports whether an id has nothing but visible US-ASCII in it.
func visible(id string) bool {
	for i := range len(id) {
		if id[i] <= ' ' || id[i] >= 0x7f {
			return false
		}
	}
	return true
}

// maxSeconds is the end of the year 9999, minSeconds as far on the other side.
const maxSeconds = 253402300799

// micros reads Unix seconds, however they are written, without the rounding of
// a float64.
func micros(n json.Number) (int64, error) {
	if n == "" || len(n) > 40 {
		return 0, errors.New("a document without a good timestamp")
	}
	whole, part, _ := strings.Cut(string(n), ".")
	if len(part) <= 6 && !strings.ContainsAny(string(n), "eE") {
		if v, err := json.Number(whole + part + "000000"[len(part):]).Int64(); err == nil && inRange(v) {
			return v, nil
		}
	}
	f, _, err := big.ParseFloat(string(n), 10, 128, big.ToNearestEven)
	if err != nil {
		return 0, fmt.Errorf("timestamp: %w", err)
	}
	v, _ := f.Mul(f, big.NewFloat(1e6)).Int64()
	if !inRange(v) {
		return 0, errors.New("a document without a good timestamp")
	}
	return v, nil
}

func inRange(us int64) bool { return -maxSeconds*1e6 <= us && us <= maxSeconds*1e6 }
