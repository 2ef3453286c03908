package real

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/buffer"

	"tlscontrol/internal/delivery"
)

// testDSN: what the sender asked of delivery reports reaches the server, which
// reports accordingly (RFC 3461): about the recipient for whom success is to be
// reported, under the names that the sender knows, with the header only.
func testDSN(t *testing.T, r *receiver, _ *relay) {
	m := &delivery.Message{
		ID: "7f3a9c1e", From: "a@good.example", FromDomain: "good.example", ClientIP: net.IPv4(127, 0, 0, 1),
		Options: smtp.MailOptions{Return: smtp.DSNReturnHeaders, EnvelopeID: "id+1=two three"},
		Body:    buffer.MemoryBuffer{Slice: []byte("a secret body\r\n")},
		Recipients: []delivery.Recipient{
			{Address: "b@good.example", Local: "b", Domain: "good.example", Options: smtp.RcptOptions{
				Notify:                []smtp.DSNNotify{smtp.DSNNotifySuccess, smtp.DSNNotifyFailure},
				OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "list+b=x@elsewhere.example",
			}},
			{Address: "c@good.example", Local: "c", Domain: "good.example", Options: smtp.RcptOptions{
				Notify: []smtp.DSNNotify{smtp.DSNNotifyNever},
			}},
		},
	}
	m.Header.Add("Subject", "with a report")
	knownB, knownC := r.mailbox("b"), r.mailbox("c")
	for recipient, err := range deliver(t, r, m, nil) {
		if err != nil {
			t.Fatalf("%s: %v", recipient, err)
		}
	}
	r.newMail("b", knownB)
	r.newMail("c", knownC)
	report := r.newMail("a", nil).body
	envelope, original := "id+1=two three", "list+b=x@elsewhere.example"
	if r.xtext {
		envelope, original = "id+2B1+3Dtwo+20three", "list+2Bb+3Dx@elsewhere.example"
	}
	for _, field := range []string{
		"Original-Envelope-Id: " + envelope, "Original-Recipient: rfc822;" + original,
		"Action: delivered", "Subject: with a report",
	} {
		if !bytes.Contains(bytes.ToLower(report), []byte(strings.ToLower(field))) {
			t.Errorf("the report does not say %q", field)
		}
	}
	for _, text := range []string{"c@good.example", "a secret body"} {
		if bytes.Contains(report, []byte(text)) {
			t.Errorf("the report says %q", text)
		}
	}
	if t.Failed() {
		t.Logf("%s", report)
	}
}
