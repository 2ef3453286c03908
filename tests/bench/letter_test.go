package bench

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// letter is a message, as it crosses the wire to each of the doors.
type letter struct {
	name, key  string // in tables, for -bench
	path, kind string // of the form
	form       []byte
	message    []byte // what the form becomes
}

// attached is the size of the attachment.
const attached = 100 << 10

// letters are those that are sent. What is sent by submission is what the form
// becomes, as nearly as that may be written down.
func letters() []letter {
	plain, err := newMessage(small)
	if err != nil {
		panic(err) // it is made of constants
	}
	_, text, _ := bytes.Cut(plain.bytes, []byte("\r\n\r\n"))
	values := url.Values{"from": {sender}, "to": {"b@one.bench.test"}, "subject": {"A message of a certain size"}, "text": {string(text)}}
	file := make([]byte, attached)
	random := rand.NewChaCha8([32]byte{})
	random.Read(file)
	return []letter{
		{
			name: "urlencoded, 4KiB", key: "urlencoded", path: "messages", kind: "application/x-www-form-urlencoded",
			form: []byte(values.Encode()), message: plain.bytes,
		},
		multipartLetter("multipart, attachment of 100KiB", "multipart", "messages", "attachment", "a.bin", values, file, withFile(string(text), file)),
		multipartLetter("MIME, 4KiB", "mime", "messages.mime", "message", "message.mime", url.Values{"to": values["to"]}, plain.bytes, plain.bytes),
	}
}

func multipartLetter(name, key, path, field, fileName string, values url.Values, file, message []byte) letter {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, v := range values {
		w.WriteField(name, v[0])
	}
	part, _ := w.CreateFormFile(field, fileName) // into memory: it does not fail
	part.Write(file)
	w.Close()
	return letter{name: name, key: key, path: path, kind: w.FormDataContentType(), form: b.Bytes(), message: message}
}

// withFile is a message with a text and a file.
func withFile(text string, file []byte) []byte {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	b.WriteString(strings.TrimSuffix(fields, "\r\n") + "Mime-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=" + w.Boundary() + "\r\n\r\n")
	part, _ := w.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/plain; charset=utf-8"}})
	io.WriteString(part, text)
	part, _ = w.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}, "Content-Transfer-Encoding": {"base64"},
		"Content-Disposition": {"attachment; filename=a.bin"}})
	for encoded := base64.StdEncoding.EncodeToString(file); encoded != ""; {
		n := min(76, len(encoded))
		io.WriteString(part, encoded[:n]+"\r\n")
		encoded = encoded[n:]
	}
	w.Close()
	return b.Bytes()
}

// request is the form as HTTP/1.1 sends it.
func (l *letter) request(key string) []byte {
	head := fmt.Sprintf("POST /v3/example.com/%s HTTP/1.1\r\nHost: relay.example.com\r\nAuthorization: Basic %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		l.path, base64.StdEncoding.EncodeToString([]byte("api:"+key)), l.kind, len(l.form))
	return append([]byte(head), l.form...)
}

// patience ends a benchmark that hangs.
const patience = 5 * time.Minute

// poster sends one request again and again over a connection. It costs next to
// nothing beside what it measures, since it is counted with it.
type poster struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
}

func newPoster(address string, request []byte) (*poster, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &poster{conn: c, reader: bufio.NewReader(c), request: request}, nil
}

// deliver implements worker.
func (p *poster) deliver(destination) error {
	p.conn.SetDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(p.request); err != nil {
		return err
	}
	res, err := http.ReadResponse(p.reader, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s: %s", res.Status, text)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// hangUp implements worker.
func (p *poster) hangUp() { p.conn.Close() }

// submitter sends one message again and again over a session: MAIL, RCPT and DATA
// in one flight, as submission clients that are in a hurry do.
type submitter struct {
	client *smtp.Client
	conn   net.Conn
	reader *textproto.Reader
	flight []byte
	body   []byte
}

func newSubmitter(address string, message []byte) (s *submitter, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	// The client logs in, and is not asked any more: it does no pipelining.
	client := smtp.NewClient(c)
	if err := errors.Join(client.Hello("client.example.com"), client.Auth(sasl.NewPlainClient("", sender, relayPassword))); err != nil {
		return nil, err
	}
	return &submitter{
		client: client, conn: c, reader: textproto.NewReader(bufio.NewReader(c)),
		flight: []byte("MAIL FROM:<" + sender + ">\r\nRCPT TO:<b@one.bench.test>\r\nDATA\r\n"),
		body:   append(bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n..")), ".\r\n"...),
	}, nil
}

// deliver implements worker.
func (s *submitter) deliver(destination) error {
	s.conn.SetDeadline(time.Now().Add(patience))
	if _, err := s.conn.Write(s.flight); err != nil {
		return err
	}
	for _, code := range []int{250, 250, 354} {
		if _, _, err := s.reader.ReadResponse(code); err != nil {
			return err
		}
	}
	if _, err := s.conn.Write(s.body); err != nil {
		return err
	}
	_, _, err := s.reader.ReadResponse(250)
	return err
}

// hangUp implements worker.
func (s *submitter) hangUp() { s.conn.Close() }
