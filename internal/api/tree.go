package api

import (
	"bytes"
	"io"
	"mime"
	"path"
	"slices"
	"strings"

	"github.com/emersion/go-message"
)

// octets are a text or a file.
type octets interface {
	io.Reader
	Len() int
}

// part is a node of the tree of MIME parts.
type part struct {
	header message.Header
	data   octets // nil if there are parts
	size   int64  // of data as it leaves, at most
	parts  []part
}

// textPart is a text in UTF-8.
func textPart(kind, text string) part {
	var p part
	p.header.SetContentType(kind, map[string]string{"charset": "utf-8"})
	p.header.Set("Content-Transfer-Encoding", "quoted-printable")
	p.data, p.size = strings.NewReader(text), quotedSize(text)
	return p
}

// multi puts parts into a multipart of a kind, unless it is one alone.
func multi(kind string, parts []part) part {
	if len(parts) == 1 {
		return parts[0]
	}
	p := part{parts: parts}
	p.header.SetContentType("multipart/"+kind, map[string]string{})
	return p
}

// body is a text of a message.
type body struct{ name, kind string }

var bodies = [...]body{{"text", "text/plain"}, {"amp-html", "text/x-amp-html"}, {"html", "text/html"}}

// content makes the tree:
//
//	mixed(alternative(text, amp, related(html, inline...)), attachment...)
//
// without the multiparts that would have one part (RFC 2046, section 5.1, and
// RFC 2387). The last alternative is the richest.
func content(f *form) (part, error) {
	// Clients send all of the texts, empty where there is none. An empty one that
	// stands beside another would be what people see.
	empty := !slices.ContainsFunc(bodies[:], func(t body) bool {
		return slices.ContainsFunc(f.values[t.name], func(v string) bool { return v != "" })
	})
	var alternatives []part
	html := -1
	for _, t := range bodies {
		text, ok, err := f.one(t.name)
		if err != nil {
			return part{}, err
		}
		if !ok || text == "" && (!empty || len(alternatives) > 0) {
			continue
		}
		if t.name == "html" {
			html = len(alternatives)
		}
		alternatives = append(alternatives, textPart(t.kind, text))
	}
	if len(alternatives) == 0 {
		return part{}, bad("Need at least one of 'text', 'html' or 'amp-html' parameters specified")
	}
	var inline, attached []part
	for i := range f.files {
		p, err := filePart(&f.files[i])
		if err != nil {
			return part{}, err
		}
		if f.files[i].field == "inline" {
			inline = append(inline, p)
		} else {
			attached = append(attached, p)
		}
	}
	switch {
	case html >= 0 && len(inline) > 0:
		related := multi("related", append([]part{alternatives[html]}, inline...))
		related.header.SetContentType("multipart/related", map[string]string{"type": "text/html"})
		alternatives[html] = related
	default: // there is no HTML that could show them
		attached = append(inline, attached...)
	}
	return multi("mixed", append([]part{multi("alternative", alternatives)}, attached...)), nil
}

// maxFileName bounds the name of an attachment.
const maxFileName = 255

// shortName is the name without a path.
func (f *file) shortName() string {
	name := path.Base(strings.ReplaceAll(f.name, `\`, "/"))
	if f.name == "" || name == "/" || name == "." || name == ".." {
		return f.field
	}
	return name
}

// filePart is an attachment, or with a Content-ID what HTML refers to as
// cid:name.
func filePart(f *file) (part, error) {
	name := f.shortName()
	if len(name) > maxFileName || strings.ContainsFunc(name, control) || name != strings.ToValidUTF8(name, "") {
		return part{}, bad("%s parameter: the file name %s is not allowed", f.field, shown(name))
	}
	kind, params, err := mime.ParseMediaType(f.contentType)
	if err != nil || strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") || len(f.contentType) > maxFileName {
		// Composite types may not be in base64 (RFC 2046, section 5.2.1).
		kind, params = "application/octet-stream", map[string]string{}
	}
	if charset := strings.ToLower(params["charset"]); charset != "" && charset != "utf-8" && charset != "us-ascii" {
		kind, params = "application/octet-stream", map[string]string{} // the writer knows no others
	}
	typed := mime.FormatMediaType(kind, params)
	disposition := mime.FormatMediaType(f.field, map[string]string{"filename": name})
	if typed == "" || disposition == "" || strings.ContainsFunc(typed+disposition, control) {
		return part{}, bad("%s parameter: the file name %s is not allowed", f.field, shown(name))
	}
	var p part
	p.header.Set("Content-Type", typed)
	p.header.Set("Content-Disposition", disposition)
	p.header.Set("Content-Transfer-Encoding", "base64")
	if f.field == "inline" {
		if !contentID(name) {
			return part{}, bad("inline parameter: the file name %s cannot be a Content-ID", shown(name))
		}
		p.header.Set("Content-Id", "<"+name+">")
	}
	p.data, p.size = bytes.NewReader(f.data), int64(len(f.data)+2)/3*4*78/76+2
	return p, nil
}

// contentID reports whether a file name can stand in angle brackets.
func contentID(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '<' || c == '>' })
}

// write makes header and body of the fields and the tree, of limit octets at most.
func (d *draft) write(h message.Header, root part, limit int64) error {
	for fields := root.header.Fields(); fields.Next(); {
		h.Set(fields.Key(), fields.Value())
	}
	h.Set("Mime-Version", "1.0")
	b := bounded{limit: limit}
	b.Grow(int(min(root.total(), limit)))
	w, err := message.CreateWriter(&b, h)
	if err != nil {
		return err
	}
	if err := root.writeTo(w); err != nil {
		return err
	}
	return d.split(b.Bytes())
}

func (p *part) writeTo(w *message.Writer) error {
	for i := range p.parts {
		child, err := w.CreatePart(p.parts[i].header)
		if err != nil {
			return err
		}
		if err := p.parts[i].writeTo(child); err != nil {
			return err
		}
	}
	if p.data == nil {
		return w.Close()
	}
	// Piece by piece: a text would be copied whole to be written at once.
	piece := make([]byte, max(1, min(p.data.Len(), 32<<10))) // CopyBuffer wants some, also for nothing
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{p.data}, piece); err != nil {
		return err
	}
	return w.Close()
}

// total is at most how many octets the part and those in it will have.
func (p *part) total() int64 {
	all := p.size + 1<<10 // header and boundary
	for i := range p.parts {
		all += p.parts[i].total()
	}
	return all
}

// quotedSize is at most how many octets a text has as quoted-printable.
func quotedSize(text string) int64 {
	size := int64(len(text))
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\n': // a CR before it, and a space before that
			size += 3
		case c < ' ' && c != '\t' || c >= 0x7f || c == '=':
			size += 2
		}
	}
	return size + size/24 // "=" CR LF behind 75 octets
}
