package events

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strconv"
	"time"
)

// EventAccepted is the word for a message that was taken over for a recipient
// and is in the queue.
const EventAccepted = "accepted"

// Accepted is what is known when a message was taken over for one recipient.
type Accepted struct {
	Time      time.Time
	Hostname  string // of the relay that took it
	QueueID   string
	Sender    string // MAIL FROM
	Recipient string
	// Headers are header fields under lower-case names: message-id without
	// brackets, from, to, subject. Of each so much is quoted as of those of the
	// delivery log: there is a document for each of a thousand recipients.
	Headers map[string]string
	Size    int64 // octets of header and body
	Tags    []string
	// Variables are what the sender wants to find again in events, a JSON object;
	// nil if there are none.
	Variables json.RawMessage
	// Attachments are the files in the message; so many are told as fit.
	Attachments []Attachment
	// Method is how it came: http, smtp.
	Method string
	// KeyID is the ID of the key of the HTTP API by which it came; "" if it did not.
	KeyID string
}

// Attachment is a file in a message.
type Attachment struct {
	FileName    string `json:"filename"`
	ContentType string `json:"content-type"`
	Size        int64  `json:"size"`
}

// Bounds of what a document tells of attachments: how many, and octets of a name or
// type. All of them together have maxQuoted.
const (
	maxAttachments = 20
	maxFileName    = 255
)

// bounded are the attachments that a document tells of.
func bounded(all []Attachment) (told []Attachment) {
	size := 0
	for _, a := range all[:min(len(all), maxAttachments)] {
		a.FileName, a.ContentType = fold1(a.FileName, maxFileName), fold1(a.ContentType, maxFileName)
		if size += len(a.FileName) + len(a.ContentType); size > maxQuoted {
			break
		}
		told = append(told, a)
	}
	return told
}

// maxQuoted is how much of a header field is quoted, in octets.
const maxQuoted = 2 << 10

// acceptedDocument is the document of an Accepted.
type acceptedDocument struct {
	Event           string          `json:"event"`
	ID              string          `json:"id"`
	Timestamp       json.Number     `json:"timestamp"`
	LogLevel        string          `json:"log-level"`
	Method          string          `json:"method,omitempty"`
	APIKeyID        string          `json:"api-key-id,omitempty"`
	Hostname        string          `json:"hostname,omitempty"`
	QueueID         string          `json:"queue-id,omitempty"`
	Recipient       string          `json:"recipient"`
	RecipientDomain string          `json:"recipient-domain,omitempty"`
	Envelope        envelope        `json:"envelope"`
	Message         acceptedMessage `json:"message"`
	Tags            []string        `json:"tags,omitempty"`
	UserVariables   json.RawMessage `json:"user-variables,omitempty"`
}

type envelope struct {
	Sender    string `json:"sender"`
	Targets   string `json:"targets"`
	Transport string `json:"transport"`
}

type acceptedMessage struct {
	Headers     map[string]string `json:"headers,omitempty"`
	Attachments []Attachment      `json:"attachments,omitempty"`
	Size        int64             `json:"size,omitempty"`
}

// Event makes the event. It fails if the document would be too large.
func (a Accepted) Event() (Event, error) {
	headers := maps.Clone(a.Headers)
	for name, value := range headers {
		headers[name] = fold1(value, maxQuoted)
	}
	document, err := json.Marshal(acceptedDocument{
		Event:           EventAccepted,
		ID:              newID(),
		Timestamp:       timestamp(a.Time),
		LogLevel:        "info",
		Method:          a.Method,
		APIKeyID:        a.KeyID,
		Hostname:        a.Hostname,
		QueueID:         a.QueueID,
		Recipient:       a.Recipient,
		RecipientDomain: domainOf(a.Recipient),
		Envelope:        envelope{Sender: a.Sender, Targets: a.Recipient, Transport: "smtp"},
		Message:         acceptedMessage{Headers: headers, Attachments: bounded(a.Attachments), Size: a.Size},
		Tags:            a.Tags,
		UserVariables:   a.Variables,
	})
	if err != nil {
		return Event{}, err
	}
	return Parse(document)
}

// newID is 128 random bits, as the delivery log's ids are.
func newID() string {
	const digits = "0123456789abcdef"
	var id [32]byte
	for half := range 2 {
		for i, bits := 0, rand.Uint64(); i < 16; i, bits = i+1, bits>>4 {
			id[16*half+i] = digits[bits&15]
		}
	}
	return string(id[:])
}

// timestamp is Unix seconds with six decimals.
func timestamp(t time.Time) json.Number {
	us := t.UnixMicro()
	if us < 0 { // nothing was accepted before 1970
		us = 0
	}
	frac := strconv.FormatInt(1e6+us%1e6, 10)[1:]
	return json.Number(strconv.FormatInt(us/1e6, 10) + "." + frac)
}
