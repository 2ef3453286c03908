package tlsrpt

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	mox "github.com/mjl-/mox/tlsrpt"
)

// A report that was mailed is read by others: the header by net/mail, the report
// by mox's reader of received messages, the signature by a DKIM verifier.
func TestMail(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"ed25519": ed, "rsa": rs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cfg.Key.Signer = signer
			w.open()
			w.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua=mailto:tls+reports@example.net")
			w.r.Record(session("example.net", ""))
			w.r.Record(session("example.net", mox.ResultCertificateExpired))
			w.step(allDue)
			if len(w.office.mails) != 1 {
				t.Fatalf("mails to %v", w.office.to())
			}
			m := w.office.mails[0]
			if m.from != us.From || m.to != "tls+reports@example.net" {
				t.Errorf("envelope %s, %s", m.from, m.to)
			}
			text := m.bytes(t)
			id := checkHeader8460(t, text)
			checkParts(t, text)
			checkReport(t, text, id)
			checkSignature(t, text, signer)
		})
	}
}

// checkHeader8460 reads the fields of section 5.3 and returns the Report-ID.
func checkHeader8460(t *testing.T, text []byte) string {
	t.Helper()
	if bytes.Contains(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\n")) {
		t.Error("a line ends in LF alone")
	}
	for _, line := range bytes.Split(text, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"To": "<tls+reports@example.net>", "TLS-Report-Domain": "example.net", "TLS-Report-Submitter": "relay.example.org",
		"TLS-Required": "No", "Auto-Submitted": "auto-generated", "MIME-Version": "1.0",
	} {
		if got := m.Header[textproto.CanonicalMIMEHeaderKey(name)]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	from, err := m.Header.AddressList("From")
	if err != nil || len(from) != 1 || *from[0] != (mail.Address{Name: "Example Örg", Address: "reports@relay.example.org"}) {
		t.Errorf("From %v, %v", from, err)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(allDue) {
		t.Errorf("Date %v, %v", date, err)
	}
	if mid := m.Header.Get("Message-Id"); !strings.HasPrefix(mid, "<") || !strings.HasSuffix(mid, ".tlsrpt@relay.example.org>") {
		t.Errorf("Message-ID %q", mid)
	}
	subject := strings.Fields(m.Header.Get("Subject"))
	if len(subject) != 7 || strings.Join(subject[:6], " ") != "Report Domain: example.net Submitter: relay.example.org Report-ID:" {
		t.Fatalf("Subject %q", subject)
	}
	return strings.Trim(subject[6], "<>")
}

// checkParts looks at the structure with the standard library.
func checkParts(t *testing.T, text []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%q %v, %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	human, err := parts.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	words, err := io.ReadAll(human)
	if err != nil || !strings.Contains(string(words), "Sessions secured: 1\r\nSessions failed: 1\r\n") {
		t.Errorf("%q, %v", words, err)
	}
	machine, err := parts.NextRawPart()
	if err != nil {
		t.Fatal(err)
	}
	kind, _, err = mime.ParseMediaType(machine.Header.Get("Content-Type"))
	if name := machine.FileName(); err != nil || kind != "application/tlsrpt+gzip" ||
		!strings.HasPrefix(name, "relay.example.org!example.net!1795651200!1795737599!") || !strings.HasSuffix(name, ".json.gz") {
		t.Errorf("%q, %q, %v", kind, name, err)
	}
	zipped, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, machine))
	if err != nil {
		t.Fatal(err)
	}
	if r := read(t, unzip(t, zipped)); r.Dates.Start != "2026-11-26T00:00:00Z" || r.Dates.End != "2026-11-26T23:59:59Z" || r.Organization != "Example Örg" {
		t.Errorf("%+v", r)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("a third part, %v", err)
	}
}

func checkReport(t *testing.T, text []byte, id string) {
	t.Helper()
	report, err := mox.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p := report.Policies[0]
	if report.ReportID != id || p.Policy.Type != mox.NoPolicyFound || p.Summary != (mox.SummaryJSON{TotalSuccessfulSessionCount: 1, TotalFailureSessionCount: 1}) {
		t.Errorf("%+v, ID %q", report, id)
	}
}

func checkSignature(t *testing.T, text []byte, signer crypto.Signer) {
	t.Helper()
	record := "v=DKIM1; s=tlsrpt; k=ed25519; p="
	if key, ok := signer.Public().(ed25519.PublicKey); ok {
		record += base64.StdEncoding.EncodeToString(key)
	} else {
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		record = "v=DKIM1; p=" + base64.StdEncoding.EncodeToString(der)
	}
	// The verifier knows the service type "email" alone.
	record = strings.Replace(record, "s=tlsrpt", "s=*", 1)
	verify := func(text []byte) *dkim.Verification {
		all, err := dkim.VerifyWithOptions(bytes.NewReader(text), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
			if name != "sel._domainkey.relay.example.org" {
				t.Errorf("key asked at %s", name)
			}
			return []string{record}, nil
		}})
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0]
	}
	v := verify(text)
	if v.Err != nil || v.Domain != us.Submitter() {
		t.Errorf("signature of %q: %v", v.Domain, v.Err)
	}
	for _, name := range []string{"From", "TLS-Report-Domain", "TLS-Report-Submitter", "TLS-Required"} {
		if !slices.ContainsFunc(v.HeaderKeys, func(k string) bool { return strings.EqualFold(k, name) }) {
			t.Errorf("%s is not signed: %v", name, v.HeaderKeys)
		}
	}
	if verify(bytes.Replace(text, []byte("Tls-Report-Domain: e"), []byte("Tls-Report-Domain: o"), 1)).Err == nil &&
		verify(bytes.Replace(text, []byte("TLS-Report-Domain: e"), []byte("TLS-Report-Domain: o"), 1)).Err == nil {
		t.Error("another domain could be written in")
	}
}
