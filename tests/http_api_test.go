package tests

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

// apiPort is that of the http_api endpoint: the one that configurations call
// {smtp}.
const apiPort = "2525"

// apiBlocks is a relay with the HTTP API in place of submission.
func apiBlocks(s *server, more string) blocks {
	return blocks{
		policy: domainsInSQL(s.dir) + "domain block.example {\nrequire_tls yes\n}",
		target: "event_store &events",
		more: `event_store events { }
msgpipeline outbound_pipeline {
    check {
        tls_override {
            policy &outbound_policy
        }
    }
    destination refused.test {
        reject 550 5.1.1 "No such user"
    }
    destination later.test {
        reject 450 4.2.1 "Not now"
    }
    default_destination {
        deliver_to &remote_queue
    }
}`,
		endpoints: `http_api tcp://{ip}:{smtp} {
    policy &outbound_policy
    deliver_to &outbound_pipeline
    store &events
    keys sql_table {
        driver sqlite3
        dsn {dir}/keys.db
        table_name api_keys
    }
` + more + "\n}",
	}
}

// newAPI starts a relay with the API.
func newAPI(t *testing.T, more string, behaviours ...mailtest.Behaviour) *server {
	t.Helper()
	s := newServer(t, behaviours...)
	s.config(apiBlocks(s, more))
	s.start()
	return s
}

// key makes a key, for one domain or for all.
func (s *server) key(domain string) string {
	s.Helper()
	if domain == "" {
		return s.mustCommand("tls", "key", "create")
	}
	return s.mustCommand("tls", "key", "create", "--domain", domain)
}

func (s *server) apiURL() string { return "http://" + net.JoinHostPort(s.ip, apiPort) }

// call sends a form, or gets a page with nil, and returns status and body.
func (s *server) call(method, target, key string, form url.Values) (int, string) {
	s.Helper()
	if !strings.HasPrefix(target, "http") {
		target = s.apiURL() + target
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		s.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.SetBasicAuth("api", key)
	client := http.Client{Timeout: hang}
	res, err := client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// apiLetter is a form that can be sent, with more values.
func apiLetter(more ...string) url.Values {
	f := url.Values{"from": {user}, "to": {"b@example.net"}, "subject": {"a secret"}, "text": {"a secret body"}}
	for i := 0; i < len(more); i += 2 {
		f.Add(more[i], more[i+1])
	}
	return f
}

// TestAPIMessageToEvents: a message handed in over HTTP is delivered as one over
// SMTP is, does what it asks for itself, and is told of in the events.
func TestAPIMessageToEvents(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{}) // no STARTTLS
	full, sends := s.key(""), s.key("example.com")

	status, body := s.call("POST", "/v3/example.com/messages", sends, apiLetter("o:require-tls", "yes", "to", "c@example.net"))
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, d := range s.documents(2) {
		if got := d.status() + " " + d.settings(); got != "failed temporary 451 tls-not-offered yes message, no default" {
			t.Errorf("got %s", got)
		}
	}
	s.neverInClear()

	var sent struct{ ID string }
	status, body = s.call("POST", "/v3/example.com/messages", sends, apiLetter("o:tag", "bills", "bcc", "c@example.net", "v:order", "42"))
	if err := json.Unmarshal([]byte(body), &sent); status != 200 || err != nil {
		t.Fatalf("%d %s", status, body)
	}
	for _, d := range s.documents(4)[2:] {
		if got := d.status() + " " + d.settings(); got != "delivered 250 no default, no default" {
			t.Errorf("got %s", got)
		}
	}
	message := string(s.mx[0].Messages()[0].Data)
	for _, want := range []string{"Subject: a secret\r\n", "Message-Id: " + sent.ID + "\r\n", "by relay.example.com with HTTP id ", "a secret body"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q is not in\n%s", want, message)
		}
	}
	// By chance "127." can be in the Message-Id.
	for _, gone := range []string{"Bcc", "c@example.net", "TLS-Override", "127."} {
		if strings.Contains(strings.ReplaceAll(message, sent.ID, ""), gone) {
			t.Errorf("%q is in\n%s", gone, message)
		}
	}

	for query, want := range map[string]int{
		"event=accepted":                                                4,
		"event=accepted&tags=bills":                                     2,
		"event=delivered&tags=bills":                                    2,
		"event=delivered&tags=" + url.QueryEscape("NOT bills"):          0,
		"event=failed&tags=" + url.QueryEscape("NOT bills"):             2,
		"event=opened":                                                  0,
		"event=delivered&tls=no&mx-host=mx1.test":                       2,
		"event=failed&reason=tls-not-offered&severity=temporary":        2,
		"recipient=c@example.net":                                       4,
		"message-id=" + url.QueryEscape(sent.ID):                        4,
		"subject=" + url.QueryEscape(`"a secret"`) + "&event=accepted":  4,
		"size=" + url.QueryEscape("NOT >100000000") + "&event=accepted": 4,
		"size=" + url.QueryEscape("<10"):                                0,
		"tls=yes":                                                       0,
	} {
		s.hasEvents(full, query, want)
	}
	if id, _ := s.events(full, "event=accepted&limit=1").Items[0]["api-key-id"].(string); id == "" || !strings.Contains(sends, id) {
		t.Errorf("an acceptance tells key %q", id)
	}
	if got := fmt.Sprint(s.events(full, "event=delivered&limit=1").Items[0]["user-variables"]); got != "map[order:42]" {
		t.Errorf("a delivery tells variables %s", got)
	}
}

// eventsPage is a page of events.
type eventsPage struct {
	Items  []document
	Paging map[string]string
}

// events asks for a page, by parameters or by its URL.
func (s *server) events(key, query string) eventsPage {
	s.Helper()
	if !strings.HasPrefix(query, "http") {
		query = "/v3/example.com/events?" + query
	}
	status, body := s.call("GET", query, key, nil)
	var p eventsPage
	if err := json.Unmarshal([]byte(body), &p); status != 200 || err != nil {
		s.Fatalf("%s: %d %s", query, status, body)
	}
	return p
}

// eventuallyAsking is eventually for conditions that ask the HTTP API: not as often as
// rate_limit says is too often, for whatever comes next.
func (s *server) eventuallyAsking(what string, holds func() bool) {
	s.Helper()
	s.eventually(what, func() bool {
		if holds() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
		return false
	})
}

// hasEvents waits until a query finds n events, and before that until there is a store.
func (s *server) hasEvents(key, query string, n int) {
	s.Helper()
	query = "/v3/example.com/events?" + query
	s.eventuallyAsking(fmt.Sprintf("%d events in %s", n, query), func() bool {
		status, body := s.call("GET", query, key, nil)
		if status == 429 || status == 503 {
			return false
		}
		var p eventsPage
		if err := json.Unmarshal([]byte(body), &p); status != 200 || err != nil {
			s.Fatalf("%s: %d %s", query, status, body)
		}
		return len(p.Items) == n
	})
}

// TestAPISettingsWhileRunning: what is set over HTTP counts from the next message
// on; a domain with a block stays as it is.
func TestAPISettingsWhileRunning(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{})
	full := s.key("")
	const path = "/v3/domains/example.com/connection"
	for i, tt := range []struct{ form, want string }{
		{"", "delivered 250 no default, no default"},
		{"require_tls=true", "failed temporary 451 tls-not-offered yes table, no default"},
		{"skip_verification=yes", "failed temporary 451 tls-not-offered yes table, yes table"},
		{"require_tls=false", "delivered 250 no table, yes table"},
	} {
		if tt.form != "" {
			form, _ := url.ParseQuery(tt.form)
			if status, body := s.call("PUT", path, full, form); status != 200 {
				t.Fatalf("%s: %d %s", tt.form, status, body)
			}
		}
		if status, body := s.call("POST", "/v3/example.com/messages", full, apiLetter()); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		if d := s.lastDocument(i + 1); d.status()+" "+d.settings() != tt.want {
			t.Errorf("%s: %s %s", tt.form, d.status(), d.settings())
		}
	}
	if out := s.mustCommand("tls", "domain", "get", "example.com"); !strings.Contains(out, "skip_verification") {
		t.Errorf("the command line says %s", out)
	}
	// Each change has one line: the API's with its key, and others that the table is
	// found to have.
	s.mustCommand("tls", "domain", "set", "example.com", "require_tls=yes")
	if status, body := s.call("POST", "/v3/example.com/messages", full, apiLetter()); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.lastDocument(5)
	var told []string
	s.eventually("four lines in the log", func() bool {
		told = nil
		for line := range strings.Lines(s.stderr.String()) {
			if _, fields, ok := strings.Cut(line, "domain settings changed\t"); ok && strings.HasSuffix(line, "\n") {
				var f map[string]string
				if err := json.Unmarshal([]byte(fields), &f); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				told = append(told, fmt.Sprint(f["key"] != "", f["seen_in"], " ", f["require_tls_before"], ">", f["require_tls"], " ", f["skip_verification_before"], ">", f["skip_verification"]))
			}
		}
		return len(told) >= 4
	})
	want := []string{"true false>true false>false", "true true>true false>true", "true true>false true>true", "falsetable no>yes yes>yes"}
	if !slices.Equal(told, want) {
		t.Errorf("told of %q, expected %q", told, want)
	}
	status, body := s.call("PUT", "/v3/domains/block.example/connection", full, url.Values{"require_tls": {"no"}})
	if status != 409 || !strings.Contains(body, s.path("maddy.conf:")) {
		t.Errorf("a domain with a block: %d %s", status, body)
	}
	status, body = s.call("GET", "/v4/domains", full, nil)
	if status != 200 || !strings.Contains(body, `"total_count":2`) {
		t.Errorf("%d %s", status, body)
	}
}

// TestAPITableNotWritable: a table whose file the server may only read is told of as
// such, to the client and in the log: trying again later would not help.
func TestAPITableNotWritable(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{})
	full := s.key("")
	const path = "/v3/domains/example.com/connection"
	if status, body := s.call("PUT", path, full, url.Values{"require_tls": {"yes"}}); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.stop()
	b := apiBlocks(s, "")
	b.policy = strings.Replace(b.policy, "dsn "+s.dir+"/domains.db", "dsn file:"+s.dir+"/domains.db?mode=ro", 1)
	s.config(b)
	s.start()
	status, body := s.call("PUT", path, full, url.Values{"require_tls": {"no"}})
	if status != 409 || !strings.Contains(body, "the table cannot be written: whoever the server runs as may not change") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := s.call("GET", path, full, nil); status != 200 || !strings.Contains(body, `"require_tls":true`) {
		t.Errorf("%d %s", status, body)
	}
	s.logs("domains table cannot be written")
}

// TestAPIRefusesWhole: if the pipeline refuses one recipient, nobody gets the
// message, and the client reads why.
func TestAPIRefusesWhole(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "", mailtest.Behaviour{})
	key := s.key("example.com")
	for to, want := range map[string]string{
		"x@refused.test": "400 x@refused.test: 550 5.1.1 No such user (msg ID = ",
		"x@later.test":   "503 x@later.test: 450 4.2.1 Not now (msg ID = ",
	} {
		status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter("to", to))
		var e struct{ Message string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || !strings.HasPrefix(fmt.Sprint(status, " ", e.Message), want) {
			t.Errorf("%d %s", status, body)
		}
	}
	if files, err := filepath.Glob(s.path("state/remote_queue/*")); err != nil || len(files) != 0 {
		t.Errorf("in the queue: %v, %v", files, err)
	}
	if status, _ := s.call("POST", "/v3/example.com/messages", key, apiLetter()); status != 200 {
		t.Error("the next one was refused")
	}
	s.documents(1)
	if n := len(s.mx[0].Messages()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
}

// TestAPIKeysWhileRunning: a key counts as soon as it is made, and no more as soon
// as it is revoked.
func TestAPIKeysWhileRunning(t *testing.T) {
	t.Parallel()
	s := newAPI(t, "sending_domains example.com *.example.org")
	full := s.key("")
	for domain, want := range map[string]int{"example.com": 200, "a.example.org": 200, "example.org": 404, "other.test": 404} {
		if status, body := s.call("GET", "/v3/domains/"+domain+"/connection", full, nil); status != want {
			t.Errorf("%s: %d %s", domain, status, body)
		}
	}
	s.mustCommand("tls", "key", "revoke", strings.Split(full, "-")[1])
	if status, body := s.call("GET", "/v3/domains/example.com/connection", full, nil); status != 401 || !strings.Contains(body, "Invalid private key") {
		t.Errorf("a revoked key: %d %s", status, body)
	}
	if strings.Contains(s.stderr.String(), strings.Split(full, "-")[2]) {
		t.Error("a key is in the log")
	}
	for path, want := range map[string]string{"/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ok","checks":{"domains":"ok","events":"ok","keys":"ok"}}`} {
		s.eventually(path, func() bool {
			status, body := s.call("GET", path, "", nil)
			return status == 200 && strings.TrimSpace(body) == want
		})
	}
}

// TestAPIAcceptedIsOnDisk: what was answered with 200 is delivered after kill -9.
func TestAPIAcceptedIsOnDisk(t *testing.T) {
	t.Parallel()
	s := newServer(t, mailtest.Behaviour{Replies: map[string]string{"mail": "stall"}})
	s.config(apiBlocks(s, ""))
	s.start()
	key := s.key("")
	if status, body := s.call("POST", "/v3/example.com/messages", key, apiLetter("o:skip-verification", "yes")); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	s.kill()
	s.mx[0].Set(mailtest.Behaviour{})
	s.start()
	s.eventually("its document", func() bool { return len(s.readLog()) > 0 })
	if n := len(s.mx[0].Messages()); n != 1 {
		t.Errorf("%d messages arrived", n)
	}
	docs := s.readLog()
	if d := docs[len(docs)-1]; d.settings() != "no default, yes message" {
		t.Errorf("the override is lost: %s", d.settings())
	}
}

// TestAPIOverTLS: the API speaks TLS 1.2 and later with maddy's certificate, and
// HTTP/1.1.
func TestAPIOverTLS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.relayCertificate()
	b := apiBlocks(s, "tls file {dir}/relay.pem {dir}/relay.key")
	b.endpoints = strings.Replace(b.endpoints, "tcp://", "tls://", 1)
	s.config(b)
	s.start()
	key := s.key("")
	dial := func(c *tls.Config) (*tls.Conn, error) {
		c.RootCAs, c.ServerName, c.NextProtos = s.ca.Pool(), "relay.example.com", []string{"h2", "http/1.1"}
		return tls.Dial("tcp", net.JoinHostPort(s.ip, apiPort), c)
	}
	if c, err := dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 was taken")
	}
	client := http.Client{Timeout: hang, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool(), ServerName: "relay.example.com"}}}
	r, err := http.NewRequest("GET", "https://"+net.JoinHostPort(s.ip, apiPort)+"/v3/example.com/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	s.eventuallyAsking("events", func() bool {
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode == 503 {
			return false // the store is being made
		}
		if res.StatusCode != 200 || res.ProtoMajor != 1 || !bytes.Contains(text, []byte(`"next":"https://`)) {
			t.Errorf("%s %s %s", res.Proto, res.Status, text)
		}
		return true
	})
}
