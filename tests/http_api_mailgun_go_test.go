package tests

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailgun/mailgun-go/v4"
	"github.com/mailgun/mailgun-go/v4/events"

	"tlscontrol/internal/mailtest"
)

// mailgunClient is Mailgun's client for Go with another base URL.
func (s *server) mailgunClient(domain, key string) (*mailgun.MailgunImpl, context.Context) {
	mg := mailgun.NewMailgun(domain, key)
	mg.SetAPIBase(s.apiURL() + "/v3")
	ctx, cancel := context.WithTimeout(context.Background(), 6*hang)
	s.Cleanup(cancel)
	return mg, ctx
}

// TestMailgunGo: Mailgun's own client for Go works unchanged: it sends with and
// without TLS options, gets and sets the connection of a domain, and lists, pages
// and polls events.
func TestMailgunGo(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{})
	mg, ctx := s.mailgunClient("example.com", s.key(""))
	sender, _ := s.mailgunClient("example.com", s.key("example.com"))

	conn, err := mg.GetDomainConnection(ctx, "example.com")
	if err != nil || conn != (mailgun.DomainConnection{}) {
		t.Fatalf("got %+v, %v", conn, err)
	}
	send := func(m *mailgun.Message) string {
		t.Helper()
		answer, id, err := sender.Send(ctx, m)
		if err != nil || answer != "Queued. Thank you." || !strings.HasSuffix(id, "@example.com>") {
			t.Fatalf("%q, %q, %v", answer, id, err)
		}
		return id
	}
	plain := mailgun.NewMessage("Ann <a@example.com>", "a secret", "a secret body", "b@example.net")
	plain.SetHTML("<p>a secret body</p>")
	plain.AddCC("c@example.net")
	plain.AddHeader("X-Note", "ünï")
	plain.AddBufferAttachment("bill.pdf", []byte("%PDF"))
	plain.SetTracking(false)
	if err := plain.AddTag("bills"); err != nil {
		t.Fatal(err)
	}
	if err := plain.AddVariable("order", map[string]int{"n": 42}); err != nil {
		t.Fatal(err)
	}
	id := send(plain)
	for _, d := range s.documents(2) {
		if d.status() != "delivered 250" {
			t.Errorf("got %s", d.status())
		}
	}
	strict := mailgun.NewMessage("a@example.com", "a secret", "a secret body", "b@example.net")
	strict.SetRequireTLS(true)
	strict.SetSkipVerification(true)
	send(strict)
	if d := s.lastDocument(3); d.status()+" "+d.settings() != "failed temporary 451 tls-not-offered yes message, yes message" {
		t.Errorf("got %s %s", d.status(), d.settings())
	}
	if err := mg.UpdateDomainConnection(ctx, "example.com", mailgun.DomainConnection{RequireTLS: true}); err != nil {
		t.Fatal(err)
	}
	if conn, err = mg.GetDomainConnection(ctx, "example.com"); err != nil || conn != (mailgun.DomainConnection{RequireTLS: true}) {
		t.Errorf("got %+v, %v", conn, err)
	}
	send(mailgun.NewMIMEMessage(io.NopCloser(strings.NewReader("From: a@example.com\r\nSubject: a secret\r\n\r\na secret body\r\n")), "b@example.net"))
	if d := s.lastDocument(4); d.status()+" "+d.settings() != "failed temporary 451 tls-not-offered yes table, no table" {
		t.Errorf("got %s %s", d.status(), d.settings())
	}
	mailgunDomains(t, ctx, mg)
	s.mailgunEvents(ctx, mg, strings.Trim(id, "<>"))
	mailgunErrors(t, ctx, mg, sender)
}

func mailgunDomains(t *testing.T, ctx context.Context, mg *mailgun.MailgunImpl) {
	t.Helper()
	d, err := mg.GetDomain(ctx, "example.com")
	if err != nil || d.Domain.Name != "example.com" || d.Domain.State != "active" {
		t.Errorf("got %+v, %v", d, err)
	}
	var names []string
	it := mg.ListDomains(&mailgun.ListOptions{Limit: 1})
	for page := []mailgun.Domain{}; it.Next(ctx, &page); {
		for _, d := range page {
			names = append(names, d.Name)
		}
	}
	if it.Err() != nil || it.TotalCount != 2 || !slices.Equal(names, []string{"block.example", "example.com"}) {
		t.Errorf("%v, %d, %v", names, it.TotalCount, it.Err())
	}
}

// mailgunEvents pages forth and back through the eight events of four messages'
// recipients, one with two.
func (s *server) mailgunEvents(ctx context.Context, mg *mailgun.MailgunImpl, id string) {
	s.Helper()
	const n = 8
	s.eventuallyAsking("all events", func() bool {
		var all []mailgun.Event
		mg.ListEvents(nil).Next(ctx, &all)
		return len(all) == n
	})
	it := mg.ListEvents(&mailgun.ListEventOptions{Limit: 3, ForceAscending: true, Begin: time.Now().Add(-time.Hour)})
	var forth []string
	var page []mailgun.Event
	for it.Next(ctx, &page) {
		for _, e := range page {
			forth = append(forth, e.GetID())
		}
	}
	if it.Err() != nil || len(forth) != n || len(slices.Compact(slices.Sorted(slices.Values(forth)))) != n {
		s.Errorf("%v, %v", forth, it.Err())
	}
	var back []string
	if !it.Last(ctx, &page) {
		s.Fatal(it.Err())
	}
	for ok := true; ok; ok = it.Previous(ctx, &page) {
		slices.Reverse(page)
		for _, e := range page {
			back = append(back, e.GetID())
		}
	}
	slices.Reverse(back)
	if it.Err() != nil || !slices.Equal(forth, back) {
		s.Errorf("forth %v\nback %v, %v", forth, back, it.Err())
	}
	if !it.First(ctx, &page) || page[0].GetID() != forth[0] {
		s.Errorf("first page %v, %v", page, it.Err())
	}
	it = mg.ListEvents(&mailgun.ListEventOptions{Filter: map[string]string{"message-id": id, "event": "accepted OR delivered", "recipient": "c@example.net"}})
	if !it.Next(ctx, &page) || len(page) != 2 {
		s.Fatalf("%v, %v", page, it.Err())
	}
	delivered, accepted := page[0].(*events.Delivered), page[1].(*events.Accepted)
	if st := delivered.DeliveryStatus; st.TLS == nil || *st.TLS || st.Code != 250 || st.AttemptNo != 1 || st.MxHost != "mx1.test" || st.Utf8 == nil {
		s.Errorf("got %+v", st)
	}
	for _, said := range []string{fmt.Sprint(delivered.Tags, delivered.UserVariables), fmt.Sprint(accepted.Tags, accepted.UserVariables)} {
		if said != `[bills] map[order:{"n":42}]` {
			s.Errorf("tags and variables %s", said)
		}
	}
	if files := accepted.Message.Attachments; len(files) != 1 || files[0].FileName != "bill.pdf" || files[0].Size != 4 {
		s.Errorf("files %+v", files)
	}
	it = mg.ListEvents(&mailgun.ListEventOptions{Filter: map[string]string{"tags": "bills", "attachment": "bill.pdf", "event": "delivered"}})
	if !it.Next(ctx, &page) || len(page) != 2 {
		s.Errorf("deliveries of a tag and a file: %v, %v", page, it.Err())
	}
	got := fmt.Sprint(accepted.Recipient, accepted.RecipientDomain, accepted.Tags, accepted.Message.Headers.Subject, accepted.Envelope.Sender, accepted.Method)
	if got != "c@example.netexample.net[bills]a secreta@example.comhttp" || accepted.Message.Headers.MessageID != id || accepted.Message.Size == 0 {
		s.Errorf("got %s, %+v", got, accepted)
	}
	// Polling finds what comes in later.
	poller := mg.PollEvents(&mailgun.ListEventOptions{Begin: time.Now().Add(time.Second), PollInterval: 50 * time.Millisecond, Filter: map[string]string{"event": "accepted"}})
	late := time.AfterFunc(1500*time.Millisecond, func() {
		_, _, _ = mg.Send(ctx, mailgun.NewMessage("a@example.com", "later", "x", "d@example.net"))
	})
	defer late.Stop()
	if !poller.Poll(ctx, &page) || page[0].(*events.Accepted).Recipient != "d@example.net" {
		s.Errorf("polled %v, %v", page, poller.Err())
	}
}

func mailgunErrors(t *testing.T, ctx context.Context, mg, sender *mailgun.MailgunImpl) {
	t.Helper()
	m := mailgun.NewMessage("a@example.com", "x", "x", "b@example.net")
	m.SetDeliveryTime(time.Now().Add(time.Hour))
	if _, _, err := mg.Send(ctx, m); mailgun.GetStatusFromErr(err) != 400 || !strings.Contains(err.Error(), "o:deliverytime parameter is not supported") {
		t.Errorf("got %v", err)
	}
	other := mailgun.NewMessage("a@example.org", "x", "x", "b@example.net")
	other.AddDomain("example.org")
	if _, _, err := sender.Send(ctx, other); mailgun.GetStatusFromErr(err) != 401 || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("got %v", err)
	}
	if _, err := sender.GetDomainConnection(ctx, "example.com"); mailgun.GetStatusFromErr(err) != 401 || !strings.Contains(err.Error(), "Invalid private key") {
		t.Errorf("got %v", err)
	}
	if _, err := mg.GetDomain(ctx, "not_a-domain!"); mailgun.GetStatusFromErr(err) != 404 || !strings.Contains(err.Error(), "Domain not found: ") {
		t.Errorf("got %v", err)
	}
}
