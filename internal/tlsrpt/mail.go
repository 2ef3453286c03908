package tlsrpt

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"net/mail"
	"time"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-msgauth/dkim"
)

// Mailer takes a report as mail. An error that says it is permanent (in the way
// of maddy's exterrors) ends the attempts.
type Mailer interface {
	// Mail hands over a message from the report address to one recipient.
	//
	// The report address is the envelope sender too, and not <>: SPF and DMARC
	// then speak for the domain that signs, pipelines and policies that go by
	// sender apply, and a bounce tells the operator of an address that does not
	// exist. It cannot begin a loop: nothing answers a bounce.
	Mail(ctx context.Context, from, to string, header textproto.Header, body []byte) error
}

// Key signs reports (RFC 6376). Domain is the submitter or a parent of it.
type Key struct {
	Domain   string
	Selector string
	Signer   crypto.Signer // RSA or Ed25519
}

// ReportField is the header field by which mail that is a TLS report is known.
const ReportField = "TLS-Report-Domain"

// signed are the fields that the signature covers: those that RFC 8460, section
// 5.3 names, and what a reader sees or acts on.
var signed = []string{
	"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type",
	"Auto-Submitted", "Tls-Required", "Tls-Report-Domain", "Tls-Report-Submitter",
}

// message makes the mail that carries a report (RFC 8460, section 5.3).
func (s Sender) message(d Document, zipped []byte, to string, key *Key, now time.Time) (textproto.Header, []byte, error) {
	var plain bytes.Buffer
	if err := s.compose(&plain, d, zipped, to, now); err != nil {
		return textproto.Header{}, nil, err
	}
	raw := &plain
	if key != nil {
		raw = new(bytes.Buffer)
		err := dkim.Sign(raw, &plain, &dkim.SignOptions{
			Domain:                 key.Domain,
			Selector:               key.Selector,
			Signer:                 key.Signer,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed,
			BodyCanonicalization:   dkim.CanonicalizationRelaxed,
			HeaderKeys:             signed,
		})
		if err != nil {
			return textproto.Header{}, nil, fmt.Errorf("signing: %w", err)
		}
	}
	r := bufio.NewReader(raw)
	header, err := textproto.ReadHeader(r)
	if err != nil {
		return textproto.Header{}, nil, err
	}
	body, err := io.ReadAll(r)
	return header, body, err
}

func (s Sender) compose(w io.Writer, d Document, zipped []byte, to string, now time.Time) error {
	submitter := s.Submitter()
	var h message.Header
	// A field that is added comes before those that are there.
	h.SetContentType("multipart/report", map[string]string{"report-type": "tlsrpt"})
	h.Set("MIME-Version", "1.0")
	h.Set("Auto-Submitted", "auto-generated")
	// A report about broken TLS must not fail because of it (RFC 8460, section 3).
	h.Set("TLS-Required", "No")
	h.Set("TLS-Report-Submitter", submitter)
	h.Set(ReportField, d.Domain)
	h.Set("Message-ID", "<"+digest(d.unique, to)+".tlsrpt@"+submitter+">")
	h.Set("Date", now.UTC().Format(time.RFC1123Z))
	h.Set("Subject", fmt.Sprintf("Report Domain: %s Submitter: %s Report-ID: <%s>", d.Domain, submitter, d.ReportID))
	h.Set("To", "<"+to+">")
	h.Set("From", (&mail.Address{Name: s.Organization, Address: s.From}).String())

	mw, err := message.CreateWriter(w, h)
	if err != nil {
		return err
	}
	if err := part(mw, s.text(d), func(h *message.Header) {
		h.SetContentType("text/plain", map[string]string{"charset": "utf-8"})
		h.Set("Content-Transfer-Encoding", "quoted-printable")
	}); err != nil {
		return err
	}
	name := d.fileName(submitter)
	if err := part(mw, zipped, func(h *message.Header) {
		h.SetContentType("application/tlsrpt+gzip", map[string]string{"name": name})
		h.SetContentDisposition("attachment", map[string]string{"filename": name})
		h.Set("Content-Transfer-Encoding", "base64")
	}); err != nil {
		return err
	}
	return mw.Close()
}

func part(mw *message.Writer, content []byte, describe func(*message.Header)) error {
	var h message.Header
	describe(&h)
	w, err := mw.CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Close()
}

// text is the part for people.
func (s Sender) text(d Document) []byte {
	succeeded, failed := d.Sessions()
	return fmt.Appendf(nil, "Attached is a report on TLS between our mail server and those of %s\r\n"+
		"on %s (UTC), as the domain asks for in its record _smtp._tls.%s (RFC 8460).\r\n\r\n"+
		"Sessions secured: %d\r\nSessions failed: %d\r\nSubmitter: %s\r\nContact: %s\r\nReport-ID: %s\r\n",
		d.Domain, d.DateRange.Start.Format(dayForm), d.Domain, succeeded, failed, s.Submitter(), s.Contact, d.ReportID)
}
