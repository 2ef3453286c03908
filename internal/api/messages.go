package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/events"
	"tlscontrol/internal/policy"
)

// draft is a message that is being put together.
type draft struct {
	header     textproto.Header
	body       []byte
	from       address
	recipients []address
	options    options
	files      []events.Attachment
	variables  json.RawMessage // an object; nil if there are none
	size       int64
}

// sentAnswer is the answer to a message.
type sentAnswer struct {
	ID      string `json:"id"`
	Message string `json:"message"`
}

func (a *API) postMessage(w http.ResponseWriter, r *http.Request, c call) error {
	return a.post(w, r, c, a.compose)
}

func (a *API) postMIME(w http.ResponseWriter, r *http.Request, c call) error {
	return a.post(w, r, c, a.adopt)
}

// post takes a message that make makes of a form.
func (a *API) post(w http.ResponseWriter, r *http.Request, c call, make func(*form, string) (*draft, error)) error {
	limit := a.MaxMessage + formOverhead
	patience(w, messagePatience)
	release, err := a.hold(r, limit, c.budget)
	if err != nil {
		return err
	}
	defer release()
	f, err := readForm(w, r, limit)
	if large := (*Error)(nil); errors.As(err, &large) && large.Status == http.StatusRequestEntityTooLarge {
		return messageTooLarge(a.MaxMessage)
	}
	if err != nil {
		return err
	}
	d, err := make(f, c.domain)
	if err != nil {
		return err
	}
	id, err := a.send(r, c, d)
	// Both sides may have taken their time: whoever has waited for the answer gets it.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerPatience))
	if err != nil {
		return err
	}
	answer(w, r, http.StatusOK, sentAnswer{id, "Queued. Thank you."})
	return nil
}

// send queues a message and returns its Message-ID.
func (a *API) send(r *http.Request, c call, d *draft) (string, error) {
	var written bytes.Buffer
	if err := textproto.WriteHeader(&written, d.header); err != nil {
		return "", bad("The message header cannot be written: %s", shown(err.Error()))
	}
	d.size = int64(written.Len() + len(d.body))
	if d.size > a.MaxMessage {
		return "", messageTooLarge(a.MaxMessage)
	}
	id := strings.TrimSpace(d.header.Get("Message-Id"))
	if d.options.test == policy.Yes {
		a.Log("test message not sent", "key", c.key.ID, "domain", c.domain)
		return id, nil
	}
	m := &Message{
		Header: d.header, Body: d.body, Sender: d.from.wire, Override: d.options.override,
		UTF8: d.from.utf8, Client: client(r, c.key),
	}
	for _, to := range d.recipients {
		m.Recipients = append(m.Recipients, to.wire)
		m.UTF8 = m.UTF8 || to.utf8
	}
	at := time.Now()
	queueID, err := a.Mail.Submit(r.Context(), m)
	if err != nil {
		return "", refused(err)
	}
	a.Log("message accepted", "key", c.key.ID, "msg_id", queueID, "message_id", Plain(id), "recipients", len(m.Recipients))
	a.tell(at, queueID, d, m)
	return id, nil
}

// refused is the answer to a message that was not taken.
func refused(err error) error {
	var no *Refusal
	if !errors.As(err, &no) {
		return err
	}
	if no.Temporary {
		return &Error{Status: http.StatusServiceUnavailable, Text: no.Text, RetryAfter: 60}
	}
	return bad("%s", no.Text)
}

// tellPatience is how long the answer to a message waits for a disk that does not
// take its events.
const tellPatience = 30 * time.Second

// tell adds an accepted event for each recipient.
func (a *API) tell(at time.Time, queueID string, d *draft, m *Message) {
	if a.Events == nil {
		return
	}
	headers := map[string]string{
		"message-id": strings.Trim(strings.TrimSpace(d.header.Get("Message-Id")), "<>"),
	}
	for _, name := range []string{"from", "to", "subject"} {
		if v := plainText(d.header.Get(name)); v != "" {
			headers[name] = v
		}
	}
	// The message is taken, whether or not the client is still there.
	ctx, cancel := context.WithTimeout(context.Background(), tellPatience)
	defer cancel()
	for _, to := range m.Recipients {
		a.Events.Accepted(ctx, Accepted{
			Time: at, QueueID: queueID, Sender: m.Sender, Recipient: to,
			Headers: headers, Size: d.size, Tags: d.options.tags, Variables: d.variables, Attachments: d.files,
			KeyID: m.Client.KeyID,
		})
	}
}

// client is where a request came from.
func client(r *http.Request, key Key) Client {
	c := Client{KeyID: key.ID, TLS: r.TLS}
	if from, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		c.Remote = from
	}
	c.Local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return c
}

// newMessageID makes an ID in angle brackets.
func newMessageID(domain string) string {
	var random [10]byte
	rand.Read(random[:]) // never fails since Go 1.24
	return "<" + time.Now().UTC().Format("20060102150405.") + hex.EncodeToString(random[:]) + "@" + asciiDomain(domain) + ">"
}
