package api

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a form.
const (
	maxFields    = 2000 // 1000 recipients, one each, and the rest
	maxFieldName = 256
	maxValue     = 16 << 10  // of what is not a text or a file
	maxAddresses = 128 << 10 // of what may hold a thousand addresses
)

// form is what a client has sent.
type form struct {
	names  []string // in the order in which they came first
	values map[string][]string
	files  []file
}

// file is a part of a multipart form with a file name.
type file struct {
	field, name, contentType string
	data                     []byte
}

// texts are the fields that may have any length and line breaks.
var texts = []string{"text", "html", "amp-html", "message"}

// addressFields are the fields that may hold many addresses.
var addressFields = []string{"to", "cc", "bcc"}

// repeated are the fields that may repeat.
var repeated = []string{"to", "cc", "bcc", "attachment", "inline", "o:tag"}

// fileFields are the fields that hold files.
var fileFields = []string{"attachment", "inline", "message"}

// readForm reads the body, multipart or urlencoded, of limit octets at most.
// Parameters in the URL are refused: they would be in the logs of every proxy.
func readForm(w http.ResponseWriter, r *http.Request, limit int64) (*form, error) {
	values, err := parameters(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	for name := range values {
		if name != "pretty" {
			return nil, bad("%s parameter is in the URL, expected in the body", shown(name))
		}
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, &Error{Status: http.StatusUnsupportedMediaType, Text: "Content-Encoding is not supported"}
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	f, into := &form{values: make(map[string][]string)}, newRoom(r.ContentLength, limit)
	switch {
	case err == nil && kind == "multipart/form-data" && params["boundary"] != "":
		err = f.readMultipart(r.Body, params["boundary"], into)
	case err == nil && kind == "application/x-www-form-urlencoded":
		err = f.readEncoded(r.Body, into)
	case r.Header.Get("Content-Type") == "" && r.ContentLength == 0:
		return f, nil
	default:
		return nil, &Error{Status: http.StatusUnsupportedMediaType,
			Text: "Content-Type is not supported, expected multipart/form-data or application/x-www-form-urlencoded"}
	}
	var own *Error
	if err != nil && !errors.As(err, &own) {
		err = unreadable(err, limit)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *form) readEncoded(body io.Reader, into *room) error {
	text, err := into.all(body)
	if err != nil {
		return err
	}
	// Counted before anything is made of it: a megabyte of & is a million fields.
	if bytes.Count(text, []byte("&")) >= maxFields {
		return tooManyFields()
	}
	for each := range bytes.SplitSeq(text, []byte("&")) {
		if len(each) == 0 {
			continue
		}
		before, behind, _ := bytes.Cut(each, []byte("="))
		name, ok := unescape(before)
		value, too := unescape(behind)
		if !ok || !too {
			return bad("The form is malformed: expected %%XX after a percent sign")
		}
		if err := f.add(plainName(string(name)), value); err != nil {
			return err
		}
	}
	return nil
}

// plainName is the name of a field without what some languages write behind those
// that may repeat: to[], to[0], to[1].
func plainName(name string) string {
	if plain, ok := strings.CutSuffix(name, "[]"); ok {
		return plain
	}
	plain, index, ok := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if ok && strings.HasSuffix(name, "]") && slices.Contains(repeated, plain) && index != "" && strings.Trim(index, "0123456789") == "" {
		return plain
	}
	return name
}

// unescape returns what stands for a name or a value in an urlencoded form. It is
// what url.QueryUnescape does, in the place of s: s may be 25 MB.
func unescape(s []byte) ([]byte, bool) {
	plain := s[:0]
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			plain = append(plain, ' ')
		case c != '%':
			plain = append(plain, c)
		default:
			if i+2 >= len(s) {
				return nil, false
			}
			var octet [1]byte
			if _, err := hex.Decode(octet[:], s[i+1:i+3]); err != nil {
				return nil, false
			}
			plain = append(plain, octet[0])
			i += 2
		}
	}
	return plain, true
}

func (f *form) readMultipart(body io.Reader, boundary string, into *room) error {
	from := &parts{from: body}
	all := multipart.NewReader(from, boundary)
	for n := 0; ; n++ {
		part, err := from.next(all)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= maxFields {
			return tooManyFields()
		}
		var content io.Reader = part
		switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
		case "", "7bit", "8bit", "binary":
		case "quoted-printable":
			content = quotedprintable.NewReader(part)
		default:
			return bad("A part of the form has a Content-Transfer-Encoding, which forms have not (RFC 7578, section 4.7)")
		}
		name := plainName(part.FormName())
		octets, err := into.all(content)
		if err != nil {
			return err
		}
		if slices.Contains(fileFields, name) {
			f.files = append(f.files, file{name, part.FileName(), part.Header.Get("Content-Type"), octets})
			continue
		}
		if err := f.add(name, octets); err != nil {
			return err
		}
		into.forget(octets)
	}
}

func tooManyFields() *Error { return bad("The form has more than %d fields", maxFields) }

// add enters a value, looking at it as closely as any may be. Of a file it is kept as
// it is, of anything else a copy.
func (f *form) add(name string, octets []byte) error {
	if name == "" || len(name) > maxFieldName || !utf8.ValidString(name) {
		return bad("The form has a field without a good name: %s", shown(name))
	}
	if !utf8.Valid(octets) {
		return bad("%s parameter is not valid UTF-8", shown(name))
	}
	if bytes.IndexByte(octets, 0) >= 0 {
		return bad("%s parameter has a NUL character in it", shown(name))
	}
	if slices.Contains(fileFields, name) {
		f.files = append(f.files, file{field: name, data: octets})
		return nil
	}
	value := string(octets)
	if !slices.Contains(texts, name) {
		limit := maxValue
		if slices.Contains(addressFields, name) {
			limit = maxAddresses
		}
		if len(value) > limit {
			return bad("%s parameter is longer than %d octets", shown(name), limit)
		}
		if strings.ContainsFunc(value, control) {
			return bad("%s parameter has a line break or another control character in it", shown(name))
		}
	}
	if _, ok := f.values[name]; !ok {
		f.names = append(f.names, name)
	}
	f.values[name] = append(f.values[name], value)
	return nil
}

// control reports characters that have no business in a header field. U+2028 and
// U+2029 are line breaks to some.
func control(c rune) bool {
	return c < ' ' && c != '\t' || c == 0x7f || 0x80 <= c && c < 0xa0 || c == 0x2028 || c == 0x2029
}

// one returns the value of a field that may be there once.
func (f *form) one(name string) (string, bool, error) {
	switch v := f.values[name]; len(v) {
	case 0:
		return "", false, nil
	case 1:
		return v[0], true, nil
	}
	return "", false, bad("%s parameter is there more than once", shown(name))
}
