package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"tlscontrol/internal/mailtest"
)

// evidence is all that is known of one row.
type evidence struct {
	mail    mail
	refusal string // of the submission endpoint
	wire    wire
	docs    []document
}

// wire is what an MX host saw of one message.
type wire struct {
	connections int
	attempts    int // connections on which STARTTLS was tried
	messages    []mailtest.Message
	clear       []byte // what came in clear, of all connections
}

// position is how far the record of a host had come.
type position struct{ sessions, messages int }

func mark(mx *mailtest.MX) position {
	return position{len(mx.Sessions()), len(mx.Messages())}
}

// look returns what the host saw since a position.
func look(mx *mailtest.MX, since position) wire {
	sessions := mx.Sessions()[since.sessions:]
	w := wire{connections: len(sessions), messages: mx.Messages()[since.messages:]}
	for _, s := range sessions {
		w.clear = append(w.clear, s.ClearBytes...)
		if slices.Contains(s.Commands, "C: STARTTLS") {
			w.attempts++
		}
	}
	return w
}

// document is a line of the delivery log: as it stands there, and what is compared of it.
type document struct {
	raw []byte

	Event     string `json:"event"`
	Severity  string `json:"severity"`
	Reason    string `json:"reason"`
	Recipient string `json:"recipient"`
	Envelope  struct {
		Sender string `json:"sender"`
	} `json:"envelope"`
	Message struct {
		Headers map[string]string `json:"headers"`
	} `json:"message"`
	Status struct {
		TLS               *bool  `json:"tls"`
		Verified          *bool  `json:"certificate-verified"`
		MXHost            string `json:"mx-host"`
		AttemptNo         int    `json:"attempt-no"`
		Code              int    `json:"code"`
		Enhanced          string `json:"enhanced-code"`
		TLSVersion        string `json:"tls-version"`
		VerificationError string `json:"verification-error"`
		Fallback          string `json:"tls-fallback"`
	} `json:"delivery-status"`
	Policy struct {
		Require     *bool  `json:"require-tls"`
		Skip        *bool  `json:"skip-verification"`
		RequireFrom string `json:"require-tls-source"`
		SkipFrom    string `json:"skip-verification-source"`
		Demanded    string `json:"demanded"`
	} `json:"tls-policy"`
}

// documents returns those of the message id, all if that is empty, in the order of the log.
func (w *world) documents(id string) ([]document, error) {
	data, err := os.ReadFile(w.log())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseLog(data, id)
}

// parseLog reads whole lines; what follows the last one is still being written.
func parseLog(data []byte, id string) (docs []document, err error) {
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return docs, nil
		}
		d := document{raw: line}
		if err := json.Unmarshal(line, &d); err != nil {
			return nil, fmt.Errorf("line %d of the delivery log is no document: %w", n, err)
		}
		if id == "" || d.Message.Headers["message-id"] == id {
			docs = append(docs, d)
		}
		data = rest
	}
}
