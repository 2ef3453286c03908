package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"strings"

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
	s := fileSearch{from: &parts{from: bytes.NewReader(body)}}
	s.look(&h, s.from, 0)
	return s.found
}

type fileSearch struct {
	from  *parts
	found []events.Attachment
	seen  int
}

// fieldsOf is the header of a message or of a part.
type fieldsOf interface{ Get(name string) string }

func (s *fileSearch) look(h fieldsOf, body io.Reader, depth int) {
	if s.seen++; depth > maxMIMEDepth {
		return
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		kind, params = "application/octet-stream", nil
	}
	if !strings.HasPrefix(kind, "multipart/") || params["boundary"] == "" {
		s.file(h, kind, params["name"], body)
		return
	}
	all := multipart.NewReader(body, params["boundary"])
	for s.seen < maxMIMEParts {
		part, err := s.from.next(all)
		if err != nil {
			return
		}
		s.look(part.Header, part, depth+1)
		if _, err := io.Copy(io.Discard, part); err != nil {
			return
		}
	}
}

// file notes a part that has a file name.
func (s *fileSearch) file(h fieldsOf, kind, name string, body io.Reader) {
	if _, params, err := mime.ParseMediaType(h.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		name = params["filename"]
	}
	if name == "" {
		return
	}
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding"))) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	size, _ := io.Copy(io.Discard, body) // as much as can be read
	s.found = append(s.found, events.Attachment{FileName: plainText(name), ContentType: kind, Size: size})
}

// variablesIn is what the fields say, all together, as documented; nil if there are
// none.
func variablesIn(h textproto.Header) (json.RawMessage, error) {
	all := make(map[string]json.RawMessage)
	size := 0
	for _, value := range h.Values(variablesField) {
		var said bytes.Buffer // without the spaces at which a field is folded
		var some map[string]json.RawMessage
		err := json.Compact(&said, []byte(strings.ToValidUTF8(events.Decoded(value), "\ufffd")))
		if size += said.Len(); err != nil || size > maxVariables || json.Unmarshal(said.Bytes(), &some) != nil {
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
