package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// Each way in which a policy host can be right or wrong, and what it is called.
func TestFetchMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := page("mx.example.net")
	with := func(change func(*mailtest.STSPage)) mailtest.STSPage {
		p := good
		change(&p)
		return p
	}
	header := func(name, value string) mailtest.STSPage {
		return with(func(p *mailtest.STSPage) { p.Header = map[string]string{name: value} })
	}
	raw := func(text string) mailtest.STSPage { return mailtest.STSPage{Raw: text} }
	text := func(body string) mailtest.STSPage { return mailtest.STSPage{Body: body} }
	const ok Kind = ""
	cases := map[string]struct {
		page mailtest.STSPage
		want Kind
	}{
		"good":               {good, ok},
		"charset":            {header("Content-Type", "text/plain; charset=utf-8"), ok},
		"type-case":          {header("Content-Type", "Text/Plain"), ok},
		"odd-parameter":      {header("Content-Type", "text/plain; charset"), ok},
		"line-feeds":         {text(strings.ReplaceAll(good.Body, "\r\n", "\n")), ok},
		"empty-lines-at-end": {text(good.Body + "\r\n\n  \n"), ok},
		"extension":          {text(good.Body + "future: value\r\n"), ok},
		"almost-too-long":    {text(good.Body + "x: " + strings.Repeat("a", maxBody-len(good.Body)-3)), ok},
		"tls12":              {with(func(p *mailtest.STSPage) { p.MaxVersion = tls.VersionTLS12 }), ok},
		"early-hints":        {raw("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + good.Body), ok},
		"tiny-chunks":        {raw(chunked(good.Body)), ok},
		"identity":           {header("Content-Encoding", "identity"), ok},

		"html":            {header("Content-Type", "text/html"), Invalid},
		"no-type":         {header("Content-Type", ""), Invalid},
		"bad-type":        {header("Content-Type", "text"), Invalid},
		"compressed":      {header("Content-Encoding", "gzip"), Invalid},
		"empty":           {text(""), Invalid},
		"prose":           {text("Hello, world\n"), Invalid},
		"no-mx":           {text("version: STSv1\nmode: enforce\nmax_age: 86400\n"), Invalid},
		"no-mode":         {text("version: STSv1\nmx: a.example\nmax_age: 86400\n"), Invalid},
		"no-age":          {text("version: STSv1\nmode: enforce\nmx: a.example\n"), Invalid},
		"no-version":      {text("mode: enforce\nmx: a.example\nmax_age: 86400\n"), Invalid},
		"other-version":   {text("version: STSv2\nmode: enforce\nmx: a.example\nmax_age: 86400\n"), Invalid},
		"other-mode":      {text("version: STSv1\nmode: enforced\nmx: a.example\nmax_age: 86400\n"), Invalid},
		"negative-age":    {text("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: -1\n"), Invalid},
		"star-in-middle":  {text("version: STSv1\nmode: enforce\nmx: mx.*.example\nmax_age: 86400\n"), Invalid},
		"mx-is-address":   {text("version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 86400\n"), Invalid},
		"broken-xn":       {text("version: STSv1\nmode: enforce\nmx: *.xn--\x00\nmax_age: 86400\n"), Invalid},
		"too-long":        {text(good.Body + "x: " + strings.Repeat("a", maxBody)), Invalid},
		"endless":         {with(func(p *mailtest.STSPage) { p.Endless = true }), Invalid},
		"unknown-ca":      {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.UnknownCA }), WebPKIInvalid},
		"self-signed":     {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.SelfSigned }), WebPKIInvalid},
		"expired":         {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.Expired }), WebPKIInvalid},
		"not-yet-valid":   {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.NotYetValid }), WebPKIInvalid},
		"wrong-name":      {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.WrongName }), WebPKIInvalid},
		"common-name":     {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.CNOnly }), WebPKIInvalid},
		"wrong-usage":     {with(func(p *mailtest.STSPage) { p.Certificate = mailtest.WrongUsage }), WebPKIInvalid},
		"tls11":           {with(func(p *mailtest.STSPage) { p.MaxVersion = tls.VersionTLS11 }), FetchError},
		"garbage":         {raw("220 mx.example.net ESMTP\r\n"), FetchError},
		"cut-short":       {raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n\r\n" + good.Body), FetchError},
		"endless-header":  {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 2*maxHeader)), FetchError},
		"many-fields":     {raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + strings.Repeat("a:\r\n", maxHeader) + "\r\n" + good.Body), FetchError},
		"endless-interim": {raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100)), FetchError},
	}
	for _, status := range []int{201, 204, 206, 301, 302, 307, 308, 400, 403, 404, 410, 429, 500, 503} {
		p := header("Location", "https://mta-sts.good.example/.well-known/mta-sts.txt")
		p.Status = status
		if status == http.StatusNoContent {
			p.Body = ""
		}
		cases[fmt.Sprint("status-", status)] = struct {
			page mailtest.STSPage
			want Kind
		}{p, FetchError}
	}
	c := w.cache()
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		test := cases[name]
		domain := name + ".example"
		w.publish(domain, "1", test.page)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.want == ok {
				wantPolicy(t, c, domain, "mx.example.net")
				return
			}
			r := wantNone(t, c, domain, test.want)
			if n := len(r.Err.Error()); n > 3*maxText {
				t.Errorf("the error has %d octets", n)
			}
			t.Log(r.Err)
		})
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("xn--bcher-kva.example", "1", page("mx.example.net"))
	wantPolicy(t, w.cache(), "Bücher.example", "mx.example.net")
	r := w.host.Requests()[0]
	if r.Method != "GET" || r.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.xn--bcher-kva.example" || r.SNI != r.Host {
		t.Errorf("request %+v", r)
	}
	for _, name := range []string{"Cookie", "Accept-Encoding", "Authorization", "Referer"} {
		if v := r.Header.Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
}

// Aliases of both names are followed, while the certificate is of the name asked.
func TestAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.CNAME("_mta-sts.example.net", "_mta-sts.hoster.example")
	w.dns.TXT("_mta-sts.hoster.example", "v=STSv1;", " id=2026")
	w.dns.CNAME("mta-sts.example.net", "web.hoster.example")
	w.dns.A("web.hoster.example", w.host.IP())
	w.host.Serve("example.net", page("mx.example.net"))
	if r := wantPolicy(t, w.cache(), "example.net", "mx.example.net"); r.Policy.ID != "2026" {
		t.Errorf("id %q", r.Policy.ID)
	}
}

func TestPolicyHostUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache()
	w.announce("no-host.example", "1")
	wantNone(t, c, "no-host.example", FetchError)
	w.announce("refused.example", "1")
	w.dns.A("mta-sts.refused.example", "127.9.9.9")
	wantNone(t, c, "refused.example", FetchError)
	// An address that refuses does not keep from the next.
	w.publish("second.example", "1", page("mx.example.net"))
	w.dns.Remove("mta-sts.second.example")
	w.dns.A("mta-sts.second.example", "127.9.9.9", w.host.IP())
	wantPolicy(t, c, "second.example", "mx.example.net")
}

// Without leave, nobody in DNS makes us connect to ourselves.
func TestPrivateAddressesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.cache(func(cfg *Config) { cfg.AllowPrivate = false })
	w.publish("example.net", "1", page("mx.example.net"))
	w.dns.A("mta-sts.example.net", "::1", "10.0.0.1", "169.254.169.254", "fe80::1", "fd00::1", "64:ff9b::7f00:1")
	r := wantNone(t, c, "example.net", FetchError)
	if !strings.Contains(r.Err.Error(), "no address on the Internet") {
		t.Error(r.Err)
	}
	if n := w.host.Handshakes(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// A host that never answers ends with the caller's patience, or Close.
func TestStalledHost(t *testing.T) {
	t.Parallel()
	for name, stalled := range map[string]mailtest.STSPage{
		"handshake": {StallHandshake: true},
		"reply":     {Hold: make(chan struct{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish("example.net", "1", stalled)
			c := w.cache()
			ctx, cancel := context.WithCancel(t.Context())
			results := make(chan Result, 2)
			go func() { results <- c.Lookup(ctx, "example.net") }()
			eventually(t, "the host is asked", func() bool { return w.host.Handshakes() == 1 })
			cancel()
			r := <-results
			wantKind(t, r, Internal)
			if r.Policy != nil || !errors.Is(r.Err, context.Canceled) {
				t.Errorf("%+v", r)
			}
			go func() { results <- c.Lookup(t.Context(), "example.net") }()
			c.Close()
			r = <-results
			wantKind(t, r, Internal)
			if w.host.Handshakes() != 1 {
				t.Error("a second fetch beside the first")
			}
		})
	}
}

// chunked is a reply in chunks of one octet.
func chunked(text string) string {
	reply := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
	for i := range len(text) {
		reply += "1\r\n" + text[i:i+1] + "\r\n"
	}
	return reply + "0\r\n\r\n"
}
