package mailtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlscontrol/internal/mailtest"
)

func newSTS(t *testing.T) (*mailtest.STS, *mailtest.CA) {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := mailtest.NewSTS(ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, ca
}

// get fetches a policy as a plain HTTPS client does.
func get(t *testing.T, s *mailtest.STS, ca *mailtest.CA, domain string) (*http.Response, string, error) {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: ca.Pool()},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(s.IP(), strconv.Itoa(s.Port())))
		},
	}
	client := &http.Client{Transport: transport, Timeout: hang, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	reply, err := client.Get("https://mta-sts." + domain + "/.well-known/mta-sts.txt")
	if err != nil {
		return nil, "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	return reply, string(text), err
}

func TestSTSServes(t *testing.T) {
	t.Parallel()
	s, ca := newSTS(t)
	s.Serve("example.net", mailtest.STSPage{Body: "a policy"})
	s.Serve("moved.example", mailtest.STSPage{Status: 301, Header: map[string]string{"Location": "https://example.net/"}})
	s.Serve("html.example", mailtest.STSPage{Body: "x", Header: map[string]string{"Content-Type": "text/html"}})
	s.Serve("untyped.example", mailtest.STSPage{Body: "x", Header: map[string]string{"Content-Type": ""}})
	s.Serve("endless.example", mailtest.STSPage{Body: "again and ", Endless: true})
	s.Serve("raw.example", mailtest.STSPage{Raw: "HTTP/1.1 418 Odd\r\n\r\nraw"})
	for domain, want := range map[string]string{
		"example.net": "200 text/plain a policy", "moved.example": "301 text/plain ", "html.example": "200 text/html x",
		"untyped.example": "200  x", "raw.example": "418  raw",
	} {
		reply, text, err := get(t, s, ca, domain)
		if err != nil {
			t.Errorf("%s: %v", domain, err)
		} else if got := strconv.Itoa(reply.StatusCode) + " " + reply.Header.Get("Content-Type") + " " + text; got != want {
			t.Errorf("%s: %q, want %q", domain, got, want)
		}
	}
	if _, text, err := get(t, s, ca, "endless.example"); err != nil || len(text) != 1<<20 {
		t.Errorf("endless: %d octets, %v", len(text), err)
	}
	if _, _, err := get(t, s, ca, "unknown.example"); err == nil {
		t.Error("a domain without a page is served")
	}
	requests := s.Requests()
	if len(requests) != 6 || s.Handshakes() != 7 {
		t.Errorf("%d requests, %d handshakes", len(requests), s.Handshakes())
	}
	for _, r := range requests {
		if r.SNI != "mta-sts."+r.Domain || r.Path != "/.well-known/mta-sts.txt" || r.Method != "GET" {
			t.Errorf("%+v", r)
		}
	}
}

func TestSTSCertificates(t *testing.T) {
	t.Parallel()
	s, ca := newSTS(t)
	for _, kind := range mailtest.Kinds {
		s.Serve("example.net", mailtest.STSPage{Certificate: kind})
		_, _, err := get(t, s, ca, "example.net")
		var refused *tls.CertificateVerificationError
		if kind.IsGood() != (err == nil) || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	s.Serve("old.example", mailtest.STSPage{MaxVersion: tls.VersionTLS11})
	if _, _, err := get(t, s, ca, "old.example"); err == nil || errors.As(err, new(x509.HostnameError)) {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// Close ends those who wait, in the handshake and in a request.
func TestSTSCloseEndsEverything(t *testing.T) {
	t.Parallel()
	s, ca := newSTS(t)
	s.Serve("handshake.example", mailtest.STSPage{StallHandshake: true})
	s.Serve("reply.example", mailtest.STSPage{Hold: make(chan struct{})})
	failed := make(chan error, 2)
	for _, domain := range []string{"handshake.example", "reply.example"} {
		go func() {
			_, _, err := get(t, s, ca, domain)
			failed <- err
		}()
	}
	waitFor(t, func() bool { return s.Handshakes() == 2 && len(s.Requests()) == 1 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		select {
		case err := <-failed:
			if err == nil {
				t.Error("a reply after all")
			}
		case <-time.After(hang):
			t.Fatal("somebody still waits")
		}
	}
	if _, _, err := get(t, s, ca, "reply.example"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("after Close: %v", err)
	}
}
