package api

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"tlscontrol/internal/events"
)

// What events repeat of a message, so that clients find it again: names of files, and
// what the field X-Mailgun-Variables says.

// filesOf are the files of a form.
func filesOf(f *form) (files []events.Attachment) {
	for i := range f.files {
		kind, _, err := mime.ParseMediaType(f.files[i].contentType)
		if err != nil {
			kind = "application/octet-stream"
		}
		files = append(files, events.Attachment{FileName: f.files[i].shortName(), ContentType: kind, Size: int64(len(f.files[i].data))})
	}
	return files
}

// Bounds of a look into a message that came ready made. Each multipart is read
// through all those around it.
const (
	maxMIMEDepth = 5
	maxMIMEParts = 200
)

// filesIn are the files in a message, as far as it is well formed.
func filesIn(h textproto.Header, body []byte) []events.Attachment {
	e, err := message.New(message.Header{Header: h.Copy()}, bytes.NewReader(body))
	if e == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return nil
	}
	var s fileSearch
	s.look(e, 0)
	return s.found
}

type fileSearch struct {
	found []events.Attachment
	parts int
}

func (s *fileSearch) look(e *message.Entity, depth int) {
	if s.parts++; s.parts > maxMIMEParts || depth > maxMIMEDepth {
		return
	}
	parts := e.MultipartReader()
	if parts == nil {
		s.file(e)
		return
	}
	for {
		part, err := parts.NextPart()
		if part == nil || err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			return
		}
		s.look(part, depth+1)
	}
}

// file notes a part that has a file name.
func (s *fileSearch) file(e *message.Entity) {
	_, disposition, _ := e.Header.ContentDisposition()
	kind, params, err := e.Header.ContentType()
	if err != nil {
		kind = "application/octet-stream"
	}
	name := disposition["filename"]
	if name == "" {
		name = params["name"]
	}
	if name == "" {
		return
	}
	size, _ := io.Copy(io.Discard, e.Body) // as much as can be read
	s.found = append(s.found, events.Attachment{FileName: plainText(name), ContentType: kind, Size: size})
}

// variablesIn is what the fields say, all together, as documented; nil if there are
// none.
func variablesIn(h textproto.Header) (json.RawMessage, error) {
	all := make(map[string]json.RawMessage)
	size := 0
	for _, value := range h.Values(variablesField) {
		decoder := mime.WordDecoder{CharsetReader: message.CharsetReader}
		text, err := decoder.DecodeHeader(value)
		var some map[string]json.RawMessage
		if size += len(text); err != nil || size > maxVariables || json.Unmarshal([]byte(strings.ToValidUTF8(text, "\ufffd")), &some) != nil {
			return nil, bad("message parameter: %s: expected a JSON object of at most %d octets", variablesField, maxVariables)
		}
		for name, v := range some {
			all[name] = v
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return json.Marshal(all)
}
