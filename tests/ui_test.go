package tests

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tlscontrol/internal/events"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/mailtest"
)

// past is a store's counter that knows how much is stored.
type past struct{ stored atomic.Int64 }

func (p *past) Stored(n int)  { p.stored.Add(int64(n)) }
func (p *past) Lost(int)      {}
func (p *past) Backlog(int64) {}

// newPage prepares a relay with the page, whose store knows documents already,
// and starts it.
func newPage(t *testing.T, more string, documents []string, behaviours ...mailtest.Behaviour) *server {
	t.Helper()
	s := newServer(t, behaviours...)
	counter := &past{}
	store, err := events.Open(events.Config{Driver: events.SQLite, DSN: s.path("events.db"), Counter: counter,
		Journal: journal.Config{Dir: s.path("journal"), MaxBytes: 1 << 30}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range documents {
		e, err := events.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		store.Add(e)
	}
	s.stderr = &lockedBuffer{}
	s.eventually("stored", func() bool { return counter.stored.Load() == int64(len(documents)) })
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	b := apiBlocks(s, more)
	b.more = strings.Replace(b.more, "event_store events { }", "event_store events {\ndsn {dir}/events.db\njournal {dir}/journal\n}", 1)
	s.config(b)
	s.start()
	return s
}

// login opens the page and logs in.
func (s *server) login(key string) *browser {
	s.Helper()
	b := browse(s.T, s.apiURL())
	b.run(chromedp.Navigate(s.apiURL() + "/ui/"))
	b.fill("#key", key)
	b.run(chromedp.KeyEvent("\r"))
	b.until("!document.getElementById('nav').hidden")
	return b
}

// TestPageLogin: in a real browser, a wrong key and one that only sends are
// refused, one for everything opens the page, a reload keeps it open, and it is
// closed by logging out and by revoking the key. Scripts never see the cookie.
func TestPageLogin(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	s := newPage(t, "", nil)
	full, sends := s.key(""), s.key("example.com")
	b := browse(t, s.apiURL())
	b.run(chromedp.Navigate(s.apiURL() + "/ui"))
	b.until("document.activeElement.id === 'key'")
	for key, want := range map[string]string{"wrong": "Invalid private key", sends: "this one can only send mail of its domain"} {
		b.fill("#key", key)
		b.click("#login button")
		b.shows(want)
	}
	b.fill("#key", full)
	b.run(chromedp.KeyEvent("\r"))
	b.until("location.pathname === '/ui/' && !document.getElementById('view-log').hidden")
	if seen := eval[string](b, "document.cookie + JSON.stringify([localStorage, sessionStorage]) + document.documentElement.outerHTML"); strings.Contains(seen, "ui_session") || strings.Contains(seen, full) {
		t.Errorf("a script sees %s", seen)
	}
	b.run(chromedp.Reload())
	b.shows("Nothing to show.")
	b.click("#logout")
	b.until("!document.getElementById('view-login').hidden")
	b.run(chromedp.Reload())
	b.until("!document.getElementById('view-login').hidden")

	b.fill("#key", full)
	b.click("#login button")
	b.until("!document.getElementById('view-log').hidden")
	s.mustCommand("tls", "key", "revoke", strings.Split(full, "-")[1])
	b.shows("The session has ended.") // at the next question of the tail
}

// TestPageShowsDeliveries: a message that is sent while the log is looked at
// turns up in it, filters find it, its story tells everything of its document,
// and it is in the charts.
func TestPageShowsDeliveries(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	s := newPage(t, "", nil, mailtest.Behaviour{})
	key := s.key("")
	b := s.login(key)
	b.shows("Nothing to show.")
	send := func(more ...string) {
		t.Helper()
		if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter(more...)); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	rows := "document.querySelectorAll('#rows tr').length"
	send()
	b.until(rows + " === 2") // accepted, delivered
	send("o:require-tls", "yes")
	b.until(rows + " === 4")
	b.shows("tls-not-offered")
	if live := eval[string](b, "document.getElementById('news').textContent"); !strings.Contains(live, "new event") {
		t.Errorf("a screen reader hears %q", live)
	}

	b.click("#tail")
	b.shows("Paused")
	send()
	s.hasEvents(key, "", 6)
	if n := eval[int](b, rows); n != 4 {
		t.Errorf("%d rows while paused", n)
	}
	b.click("#tail")
	b.until(rows + " === 6")

	for _, f := range []struct {
		id, value string
		want      int
	}{{"f-event", "failed", 1}, {"f-event", "delivered", 2}, {"f-event", "", 6}, {"f-tls", "no", 3}, {"f-tls", "yes", 0}, {"f-tls", "", 6}, {"f-sent", "clear", 2}, {"f-sent", "verified", 0}, {"f-sent", "", 6}, {"f-reason", "tls-not-offered", 1}, {"f-reason", "", 6}} {
		b.choose(f.id, f.value)
		b.until(fmt.Sprintf("%s === %d", rows, f.want))
	}
	for _, f := range []struct {
		id, value string
		want      int
	}{{"f-mx", "mx1.test", 3}, {"f-mx", "other.test", 0}, {"f-recipient", "B@example.net", 6}, {"f-recipient", `c" OR "b`, 0}, {"f-domain", "example.com", 6}, {"f-domain", "example.org", 0}} {
		b.click("#filters [type=reset]")
		b.fill("#"+f.id, f.value)
		b.click("#filters [type=submit]")
		b.until(fmt.Sprintf("%s === %d && document.getElementById('empty').hidden === %v", rows, f.want, f.want > 0))
	}
	b.click("#filters [type=reset]")
	b.until(rows + " === 6")

	b.choose("f-event", "failed")
	b.until(rows + " === 1")
	b.click("#rows a")
	for _, text := range []string{"a secret", "451", "tls-not-offered", "Require TLS", "yes – the message itself", "Demanded in the end", "accepted"} {
		b.shows(text)
	}
	var d map[string]any
	b.click("#story li:last-child summary")
	text := eval[string](b, "document.querySelector('#story li:last-child pre').textContent")
	if err := json.Unmarshal([]byte(text), &d); err != nil || d["event"] != "failed" {
		t.Errorf("the document is %s", text)
	}

	b.view("#charts")
	b.until("document.querySelectorAll('#charts rect.plaintext').length >= 2 && document.querySelectorAll('#charts rect.temporary').length === 1")
	b.shows("100%")
	b.click("#charts figure:nth-of-type(4) summary")
	b.until("document.querySelector('#charts figure:nth-of-type(4) table').innerText.includes('mx1.test')")

	// A bar leads to what it counts, and the address says it to whoever comes back.
	b.click("#charts figure:nth-of-type(3) .bars a")
	b.until(rows + " === 1 && document.getElementById('f-reason').value === 'tls-not-offered'")
	b.run(chromedp.Reload())
	b.until(rows + " === 1")
	b.view("#log?certificate-verified=no&mx-host=other.test&event=nonsense&reason=of-tomorrow")
	b.until("document.getElementById('empty').hidden === false && document.getElementById('f-reason').value + document.getElementById('f-event').value === ''")
	eval[bool](b, "document.getElementById('charts').replaceChildren(), true") // the old ones stay until the new ones come
	b.view("#charts")
	b.until("document.querySelectorAll('#charts figure').length === 4")
	b.click("#charts figure:nth-of-type(4) .bars a")
	b.until(rows + " === 2 && location.hash.includes('mx-host=mx1.test')")
	b.click("#logout")
	b.until("!document.getElementById('view-login').hidden && location.hash === ''")
}

// TestPageKeepsUp: the tail shows what comes while more has just come than it reads
// at a time, and while another relay's clock is ahead.
func TestPageKeepsUp(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	var all []string
	for n := range 2000 {
		all = append(all, sample(time.Now(), n))
	}
	all = append(all, sample(time.Now().Add(time.Hour), 2000))
	s := newPage(t, "", all, mailtest.Behaviour{})
	key := s.key("")
	b := s.login(key)
	b.until("document.querySelectorAll('#rows tr').length >= 50")
	if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter("to", "late@example.net")); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	b.until("document.querySelectorAll('#rows [title=\"late@example.net\"]').length === 2")
	b.click("#older")
	b.until("document.querySelectorAll('#rows tr').length >= 100")
}

// TestPageSwitches: a switch changes what the next message gets, by keyboard too;
// a domain with a block says where it is set and stays as it is.
func TestPageSwitches(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	s := newPage(t, "", nil)
	key := s.key("")
	b := s.login(key)
	b.click("#nav a[href='#domains']")
	b.shows("block.example")
	b.shows("from its block in the configuration")
	b.shows("It can only be changed there.")
	if state := eval[string](b, "[...document.querySelectorAll('article .state')].map((s) => s.textContent).join() + document.querySelectorAll('[role=switch]').length"); state != "On,Off0" {
		t.Errorf("it shows %s", state)
	}
	if status, body := s.call("PUT", "/v3/domains/block.example/connection", key, url.Values{"require_tls": {"no"}}); status != 409 || !strings.Contains(body, s.path("maddy.conf:")) {
		t.Errorf("%d %s", status, body)
	}

	b.fill("#d-search", "Example.org")
	b.run(chromedp.KeyEvent("\r"))
	b.until("document.querySelectorAll('article').length === 1")
	const button = "[aria-label='Require TLS, example.org']"
	b.run(chromedp.Focus(chromedp.CSS(button)), chromedp.KeyEvent(" "))
	b.shows("example.org: require tls is on.")
	b.until(`document.activeElement.matches("` + button + `") && document.activeElement.ariaChecked === "true"`)
	b.shows("from the domains table")
	if status, body := s.call("GET", "/v3/domains/example.org/connection", key, nil); status != 200 || !strings.Contains(body, `"require_tls":true`) {
		t.Errorf("%d %s", status, body)
	}
	b.run(chromedp.KeyEvent("\r"))
	b.shows("example.org: require tls is off.")
	b.fill("#d-search", "not a domain.")
	b.run(chromedp.KeyEvent("\r"))
	b.shows("Domain not found")
}

// TestPageOff: `ui off` leaves nothing of it.
func TestPageOff(t *testing.T) {
	t.Parallel()
	s := newPage(t, "ui off", nil)
	for _, path := range []string{"/ui", "/ui/", "/ui/data/session"} {
		if status, body := s.call("GET", path, s.key(""), nil); status != 404 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// hostile is text that would do something if it were more than text.
const hostile = `"'><img src=x onerror="window.pwned=1"><script>window.pwned=1</script></script><svg onload=window.pwned=1>{{7*7}}&lt;b&gt;` +
	"\u202e\u0000" + `javascript:window.pwned=1`

// poison puts hostile text into every string of a value.
func poison(v any) any {
	switch v := v.(type) {
	case string:
		return v + hostile
	case []any:
		for i := range v {
			v[i] = poison(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = poison(v[k])
		}
		v[hostile] = hostile
	}
	return v
}

// TestPageShowsHostileTextAsText: whatever mail servers and strangers put into
// the fields of a document, the page shows it and does nothing else.
func TestPageShowsHostileTextAsText(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	var all []string
	for i, odd := range []string{"", "x", hostile, "{}"} {
		var d map[string]any
		if err := json.Unmarshal([]byte(sample(time.Now().Add(-time.Minute), 5*i+5)), &d); err != nil {
			t.Fatal(err)
		}
		poison(d)
		d["id"], d["event"] = fmt.Sprintf("id%d", i), "failed"
		d["queue-id"] = "q1/" + hostile
		if odd != "" { // the store takes what has no columns in whatever shape
			d["delivery-status"].(map[string]any)["hosts"], d["tls-policy"] = odd, []any{odd}
		}
		all = append(all, jsonOf(t, d))
	}
	s := newPage(t, "", all)
	b := s.login(s.key(""))
	b.until("document.querySelectorAll('#rows tr').length === 4")
	b.shows("<script>window.pwned=1</script>")
	b.click("#rows a")
	b.until("document.querySelectorAll('#story li.event').length === 4")
	b.shows("<script>window.pwned=1</script>")
	b.view("#charts")
	b.until("document.querySelectorAll('#charts figure').length === 4")
	b.shows("<img src=x onerror=")
	b.view("#message/" + url.PathEscape(hostile))
	b.shows("Nothing is known of message")
	b.view("#domains")
	b.fill("#d-search", `<img src=x onerror="window.pwned=1">.`)
	b.run(chromedp.KeyEvent("\r"))
	b.shows("Domain not found")
	if eval[bool](b, "window.pwned === 1 || document.querySelectorAll('main img, main script, [onerror], [onload]').length > 0") {
		t.Error("text of a document did something")
	}
}

// TestPageShowsLongAndEncodedTexts: a reply that is one long word makes no view wider
// than its screen, and a subject is there as people read it.
func TestPageShowsLongAndEncodedTexts(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	long := strings.Repeat("verylong", 100)
	var d map[string]any
	if err := json.Unmarshal([]byte(sample(time.Now().Add(-time.Minute), 5)), &d); err != nil {
		t.Fatal(err)
	}
	d["recipient"] = long[:240] + "@example.net"
	d["message"].(map[string]any)["headers"].(map[string]any)["subject"] = "Re: =?utf-8?q?Gr=C3=BC?= =?UTF-8?B?w59l?= an =?iso-8859-1?q?J=FCrgen_=2E?= =?x?q?y?="
	said := d["delivery-status"].(map[string]any)
	said["message"], said["description"], said["mx-host"] = long, "mx1.example.net said: "+long, long[:240]
	said["hosts"] = []any{map[string]any{"mx-host": long[:240], "mx-ip": "198.51.100.2", "reason": "connect", "message": long}}
	s := newPage(t, "", []string{jsonOf(t, d)})
	b := s.login(s.key(""))
	b.until("document.querySelectorAll('#rows tr').length === 1")
	b.fits("long-log")
	b.click("#rows a")
	b.until("document.querySelectorAll('#story li.event').length === 1")
	b.shows("Re: Grüße an Jürgen .=?x?q?y?=")
	b.fits("long-story")
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sample is the document number n of a busy day.
func sample(at time.Time, n int) string {
	hosts := []string{"mx1.example.net", "mail.protection.partner.example", "smtp-in.old-school.example", "mx.a-rather-long-name.of-a-mail-provider.example"}
	status := map[string]any{"tls": true, "certificate-verified": true, "mx-host": hosts[n%2], "mx-ip": "198.51.100.3", "mx-port": 25, "attempt-no": 1,
		"code": 250, "enhanced-code": "2.0.0", "message": "OK queued as 4F2A81C0", "description": "", "session-seconds": 0.148, "utf8": false,
		"tls-version": "TLSv1.3", "tls-cipher": "TLS_AES_128_GCM_SHA256", "tls-key-exchange": "X25519MLKEM768", "verification": "pkix", "connection-reused": false,
		"certificate": map[string]any{"subject": "CN=" + hosts[n%2], "issuer": "CN=R11,O=Let's Encrypt,C=US", "not-after": "2027-01-02T03:04:05Z", "sha256": strings.Repeat("ab12", 16)}}
	d := map[string]any{"event": "delivered", "id": fmt.Sprintf("sample%d", n), "timestamp": json.Number(fmt.Sprintf("%.6f", float64(at.UnixMicro())/1e6)),
		"log-level": "info", "queue-id": fmt.Sprintf("7f3a%04x", n), "recipient": fmt.Sprintf("customer-%d@example.net", n*37%1000), "recipient-domain": "example.net",
		"envelope":        map[string]any{"sender": "billing@example.com", "targets": "b@example.net", "transport": "smtp", "sending-ip": "192.0.2.7"},
		"message":         map[string]any{"headers": map[string]any{"message-id": fmt.Sprintf("m%d@example.com", n), "subject": "Your bill for November"}, "size": 4211},
		"delivery-status": status,
		"tls-policy": map[string]any{"require-tls": n%3 == 0, "skip-verification": false, "require-tls-source": "table", "skip-verification-source": "default",
			"floors": []any{"mta-sts"}, "demanded": "verified"}}
	switch {
	case n%11 == 0:
		status["tls"], status["mx-host"] = false, hosts[2]
		for _, name := range []string{"certificate-verified", "tls-version", "tls-cipher", "tls-key-exchange", "verification", "certificate"} {
			delete(status, name)
		}
		status["tls-fallback"] = "tls-not-offered"
	case n%7 == 0:
		status["certificate-verified"], status["mx-host"], status["verification"] = false, hosts[3], "none"
		status["verification-error"] = "certificate-expired: certificate has expired or is not yet valid: current time is after 2026-10-01T00:00:00Z"
	case n%5 == 0:
		d["event"], d["severity"], d["log-level"] = "failed", "temporary", "warn"
		d["reason"] = []string{"tls-not-offered", "connect", "certificate-name-mismatch", "timeout"}[n/5%4]
		if n%25 == 0 {
			d["severity"], d["reason"] = "permanent", "rcpt-rejected"
		}
		status["code"], status["enhanced-code"] = 451, "4.7.4"
		status["message"] = "TLS is required, but the mail server of the recipient does not offer it"
		status["hosts"] = []any{map[string]any{"mx-host": "mx0.example.net", "mx-ip": "198.51.100.2", "reason": "connect", "message": "connection refused"}}
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// tooDim lists texts of the page whose contrast is below that of WCAG 2.2, AA.
const tooDim = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (c) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((n, v, i) => n + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest('.hidden, .skip, noscript, option')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgba(e.ownerSVGElement ? style.fill : style.color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(walk.currentNode.data.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return found.slice(0, 5).join('; ');
})()`

// unnamed lists controls without a name that a screen reader could say.
const unnamed = `[...document.querySelectorAll('input, select, button, a')].filter((e) => e.checkVisibility() &&
  !(e.ariaLabel || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML).join()`

// fits looks at a view on each kind of screen.
func (b *browser) fits(view string) {
	b.Helper()
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			b.dress(width, scheme)
			name := fmt.Sprintf("%s-%d-%s", view, width, scheme)
			b.picture(name)
			if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > width {
				b.Errorf("%s is %d pixels wide", name, wide)
			}
			if dim := eval[string](b, tooDim); dim != "" {
				b.Errorf("%s: too little contrast: %s", name, dim)
			}
			if e := eval[string](b, unnamed); e != "" {
				b.Errorf("%s: controls without a name: %s", name, e)
			}
		}
	}
	b.dress(1280, "light")
}

// TestPageFitsEveryScreen: no view is wider than a screen of 400 pixels, every
// text has the contrast it needs in light and dark, and every control has a name.
func TestPageFitsEveryScreen(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	var all []string
	for n := range 700 {
		ago := time.Duration(n*n) * 176 * time.Millisecond // a day, busier towards its end
		all = append(all, sample(time.Now().Add(-ago), n))
	}
	s := newPage(t, "", all)
	key := s.key("")
	for _, domain := range []string{"example.com", "newsletter.example.org", "a-rather-long-name-for-a-sending-domain.example"} {
		if status, body := s.call("PUT", "/v3/domains/"+domain+"/connection", key, url.Values{"require_tls": {"yes"}}); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	b := browse(t, s.apiURL())
	b.dress(1280, "light")
	b.run(chromedp.Navigate(s.apiURL() + "/ui/"))
	b.until("document.activeElement.id === 'key'")
	b.picture("login")
	b.fill("#key", key)
	b.run(chromedp.KeyEvent("\r"))
	for _, view := range []struct{ name, hash, ready string }{
		{"log", "#log", "document.querySelectorAll('#rows tr').length >= 50"},
		{"story", "#message/7f3a0005", "document.querySelectorAll('#story li.event').length === 1"},
		{"unverified", "#message/7f3a0007", "document.querySelectorAll('#story li.event').length === 1 && document.body.innerText.includes('7f3a0007')"},
		{"charts", "#charts", "document.querySelectorAll('#charts figure').length === 4"},
		{"domains", "#domains", "document.querySelectorAll('article').length === 4"},
	} {
		b.view(view.hash)
		b.until(view.ready)
		b.fits(view.name)
	}
	if dir := os.Getenv("TLSCONTROL_PICTURES"); dir != "" {
		t.Log("pictures are in", dir)
	}
}
