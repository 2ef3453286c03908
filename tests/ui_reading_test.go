package tests

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tlscontrol/internal/mailtest"
)

// readingKey makes a key that reads a domain.
func (s *server) readingKey(domain string) string {
	s.Helper()
	return s.mustCommand("tls", "key", "create", "--domain", domain, "--role", "reading")
}

// ofOthers is the document of a message of another domain: everything in it says so.
func ofOthers(at time.Time, n int) string {
	return strings.NewReplacer("billing@example.com", "boss@others.example", "customer-", "others-", "@example.com", "@others.example",
		"mx1.example.net", "mx.others.example", "mail.protection.partner.example", "mx.others.example", "smtp-in.old-school.example", "mx.others.example",
		"mx.a-rather-long-name.of-a-mail-provider.example", "mx.others.example", "Your bill for November", "others", "sample", "others", "7f3a", "beef",
	).Replace(sample(at, n))
}

// TestPageOfOneDomain: a key that reads a domain logs in, and sees that domain
// alone, everywhere: log, tail, filters, story, charts, settings. It can switch
// nothing. Others are not there, also when they are asked for by name. A key for
// everything that logs in afterwards has everything back.
func TestPageOfOneDomain(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	var all []string
	for n := range 45 {
		at := time.Now().Add(-time.Duration(n*n) * 20 * time.Second)
		all = append(all, sample(at, n), ofOthers(at, n))
	}
	s := newPage(t, "", all, mailtest.Behaviour{})
	full, reads := s.key(""), s.readingKey("example.com")
	b := s.login(reads)
	const rows = "document.querySelectorAll('#rows tr').length"
	nothingOfOthers := func(where string) {
		t.Helper()
		if found := eval[string](b, "(document.documentElement.outerHTML.match(/.{60}others.{60}/) ?? [''])[0]"); found != "" {
			t.Errorf("%s shows %s", where, found)
		}
	}
	b.until(rows + " === 45")
	b.shows("Deliveries of example.com")
	b.until("!document.getElementById('f-domain').checkVisibility()")
	nothingOfOthers("the log")
	b.fits("own-log")

	// The tail.
	for _, from := range []string{"boss@others.example", "a@example.com"} {
		form := apiLetter()
		form.Set("from", from)
		if status, body := s.call("POST", "/v3/"+from[strings.Index(from, "@")+1:]+"/messages", full, form); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		s.eventuallyAsking("delivered", func() bool {
			_, body := s.call("GET", "/v3/"+from[strings.Index(from, "@")+1:]+"/events?event=delivered&subject=secret", full, nil)
			return strings.Contains(body, "a secret")
		})
	}
	b.until(rows + " === 47")
	nothingOfOthers("the tail")

	// Filters.
	for value, want := range map[string]int{"others": 0, "customer": 45, "": 47} {
		b.fill("#f-recipient", value)
		b.click("#filters [type=submit]")
		b.until(fmt.Sprintf("%s === %d && document.getElementById('empty').hidden === %v", rows, want, want > 0))
	}

	// Stories.
	b.view("#message/7f3a0005")
	b.until("document.querySelectorAll('#story li.event').length === 1")
	nothingOfOthers("the story")
	b.fits("own-story")
	for _, id := range []string{"beef0005", "m5@others.example"} {
		b.view("#message/" + id)
		b.shows("Nothing is known of message " + id)
		b.until("document.querySelectorAll('#story li.event').length === 0")
	}

	b.view("#charts")
	b.until("document.querySelectorAll('#charts figure').length === 4")
	b.shows("Charts of example.com")
	nothingOfOthers("the charts")
	b.fits("own-charts")

	// Settings are shown, and are somebody else's.
	for _, domain := range []string{"others.example", "example.com"} {
		if status, body := s.call("PUT", "/v3/domains/"+domain+"/connection", full, url.Values{"require_tls": {"yes"}}); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	b.view("#domains")
	b.until("document.querySelectorAll('article').length === 1 && document.querySelectorAll('[role=switch]').length === 0 && !document.getElementById('find').checkVisibility()")
	b.shows("Whoever runs this relay decides about it.")
	b.until("document.querySelector('[data-field=require_tls]').textContent === 'On' && document.querySelector('[data-field=skip_verification]').textContent === 'Off'")
	nothingOfOthers("the settings")
	b.fits("own-domains")
	eval[bool](b, `fetch('data/session').then((r) => r.json()).then((s) => fetch('data/domains/example.com', { method: 'PUT', headers: { 'X-CSRF-Token': s.token },
		body: new URLSearchParams({ require_tls: 'no' }) })).then((r) => { window.got = r.status; }), true`)
	b.until("window.got === 401")
	if status, body := s.call("GET", "/v3/domains/example.com/connection", reads, nil); status != 200 || !strings.Contains(body, `"require_tls":true`) {
		t.Errorf("%d %s", status, body)
	}

	// Whoever comes next.
	b.click("#logout")
	b.until("!document.getElementById('view-login').hidden")
	b.fill("#key", full)
	b.run(chromedp.KeyEvent("\r"))
	b.until("!document.getElementById('view-log').hidden")
	b.view("#domains")
	b.until("document.querySelectorAll('[role=switch]').length === 4 && document.getElementById('find').checkVisibility()")
	b.view("#log")
	b.until("document.getElementById('f-domain').checkVisibility() && document.getElementById('log-title').innerText === 'Deliveries'")
	b.click("#logout")
	b.fill("#key", reads)
	b.run(chromedp.KeyEvent("\r"))
	b.until(rows + " === 47")
	s.mustCommand("tls", "key", "revoke", strings.Split(reads, "-")[1])
	b.shows("The session has ended.")
}
