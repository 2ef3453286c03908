package tests

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"tlscontrol/internal/mailtest"
)

// keyHash is by what a browser can be told to trust a certificate.
func (s *server) keyHash(file string) string {
	s.Helper()
	text, err := os.ReadFile(s.path(file))
	if err != nil {
		s.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// cookies are those that the browser has for the page.
func (b *browser) cookies() (all []*network.Cookie) {
	b.Helper()
	b.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		got, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{})
		all = got.Cookies
		return err
	}))
	return all
}

// TestPageOverTLS: over TLS the page works, switches included, and its cookie is one
// that never travels in clear, that no script sees and that no other site uses.
func TestPageOverTLS(t *testing.T) {
	t.Parallel()
	realTool(t, "chromium")
	s := newServer(t, mailtest.Behaviour{})
	s.relayCertificate()
	b := apiBlocks(s, "tls file {dir}/relay.pem {dir}/relay.key")
	b.endpoints = strings.Replace(b.endpoints, "tcp://", "tls://", 1)
	s.config(b)
	s.start()
	key := s.key("")

	home := strings.Replace(s.apiURL(), "http:", "https:", 1)
	page := browse(t, home, chromedp.Flag("ignore-certificate-errors-spki-list", s.keyHash("relay.pem")))
	page.run(chromedp.Navigate(home + "/ui/"))
	page.fill("#key", key)
	page.run(chromedp.KeyEvent("\r"))
	page.until("!document.getElementById('nav').hidden")
	cookies := page.cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	if c := cookies[0]; !c.Secure || !c.HTTPOnly || c.SameSite != "Strict" || c.Path != "/ui/" || c.Domain != s.ip || strings.Contains(c.Value, key) {
		t.Errorf("%+v", c)
	}

	page.view("#domains")
	page.fill("#d-search", "example.com")
	page.click("#find button")
	page.until("document.querySelectorAll('[role=switch]').length >= 2")
	page.click("[data-field=require_tls]")
	page.shows("example.com: require tls is on.")
	if said := s.mustCommand("tls", "domain", "get", "example.com"); !strings.Contains(said, "require_tls") || !strings.Contains(said, "yes") {
		t.Errorf("the command line says %s", said)
	}
}
