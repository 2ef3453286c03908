package mtasts

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tlscontrol/internal/internet"
	"tlscontrol/internal/route"
)

const (
	// fetchTimeout bounds a fetch as a whole, and maxBody the policy; RFC 8461, 3.3
	// suggests both.
	fetchTimeout = time.Minute
	maxBody      = 64 << 10
	// maxHeader bounds the header of a reply, each of whose lines costs some hundred
	// octets of memory, and maxCoded the policy as it is sent: in chunks of a few
	// octets it is many times as long.
	maxHeader = 32 << 10
	maxCoded  = 8 * maxBody
	// maxInterim is how many interim replies (1xx) may come before the real one.
	maxInterim = 5
	// dialTimeout bounds the attempt to connect to one address of several.
	dialTimeout = 10 * time.Second
)

// Resolver is what a Cache asks DNS with, as a *route.Resolver is. TXT yields
// the strings of each record joined, and none without an error where a name does
// not exist or has no such records.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	Addresses(ctx context.Context, host string, ipv4Only bool) (route.Addresses, error)
}

// client gets policies. It speaks HTTP/1.1 over a connection of its own for each
// policy: no redirects, proxies, cookies, compression, nothing kept.
type client struct {
	resolver     Resolver
	roots        *x509.CertPool // nil: the system's
	port         int
	allowPrivate bool
}

// fetch returns the text that a domain's policy host serves.
func (c *client) fetch(ctx context.Context, domain string) (body string, failure *Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, errors.New("the policy host took more than a minute"))
	defer cancel()
	body, kind, err := c.get(ctx, hostPrefix+domain)
	if err == nil {
		return body, nil
	}
	if ctx.Err() != nil {
		kind, err = FetchError, context.Cause(ctx)
	}
	return "", &Error{Kind: kind, Domain: domain, Err: err}
}

// get makes one connection and one request.
func (c *client) get(ctx context.Context, host string) (body string, kind Kind, err error) {
	bare, err := c.dial(ctx, host)
	if err != nil {
		return "", FetchError, err
	}
	defer bare.Close()
	// Closing ends reads and writes at once when the context ends.
	defer context.AfterFunc(ctx, func() { bare.Close() })()
	// The oldest version is TLS 1.2 (RFC 8996), and no other name or protocol will
	// do. Revocation is not looked into, as browsers do not.
	conn := tls.Client(bare, &tls.Config{
		ServerName: host, RootCAs: c.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		var verification *tls.CertificateVerificationError
		if errors.As(err, &verification) {
			return "", WebPKIInvalid, err
		}
		return "", FetchError, err
	}
	reply, err := request(conn, host)
	if err != nil {
		return "", FetchError, err
	}
	defer reply.Body.Close()
	return read(reply)
}

// dial connects to the first address of host that answers. Addresses that are
// not public are passed over; nothing else is dialled than what was looked at.
func (c *client) dial(ctx context.Context, host string) (net.Conn, error) {
	addresses, err := c.resolver.Addresses(ctx, host, false)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	var failure error
	for _, ip := range addresses.IPs {
		if !c.allowPrivate && !internet.Public(ip) {
			failure = keep(failure, fmt.Errorf("%s is at %v, which is no address on the Internet", host, ip))
			continue
		}
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(ip, uint16(c.port)).String())
		if err == nil {
			return conn, nil
		}
		failure = keep(failure, err)
	}
	if failure == nil {
		failure = errors.New(host + " has no address")
	}
	return nil, failure
}

// keep returns the first of several errors.
func keep(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// request asks for the policy.
func request(conn net.Conn, host string) (*http.Response, error) {
	ask := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: host, Path: "/.well-known/mta-sts.txt"},
		Host:   host,
		Header: http.Header{"Accept": {"text/plain"}, "User-Agent": {"tlscontrol (MTA-STS, RFC 8461)"}},
		Close:  true,
	}
	if err := ask.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	r := bufio.NewReader(limited)
	for range maxInterim {
		reply, err := http.ReadResponse(r, ask)
		if limited.N <= 0 && err != nil {
			return nil, fmt.Errorf("the header is longer than %d octets", maxHeader)
		}
		if err != nil || reply.StatusCode >= 200 {
			limited.N += maxCoded
			return reply, err
		}
	}
	return nil, errors.New("nothing but interim replies")
}

// read takes the policy out of a reply.
func read(reply *http.Response) (body string, kind Kind, err error) {
	if reply.StatusCode != http.StatusOK {
		// Redirects must not be followed (RFC 8461, 3.3).
		return "", FetchError, errors.New("status " + strconv.Itoa(reply.StatusCode) + " where 200 is wanted")
	}
	// RFC 8461, 3.2: where users may upload images or pages, they must not be able
	// to upload a policy. Parameters of the type do not matter.
	media, _, err := mime.ParseMediaType(reply.Header.Get("Content-Type"))
	if (err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter)) || media != "text/plain" {
		return "", Invalid, fmt.Errorf("Content-Type %q where text/plain is wanted", reply.Header.Get("Content-Type"))
	}
	if coding := reply.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return "", Invalid, fmt.Errorf("Content-Encoding %q, which was not asked for", coding)
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, maxBody+1))
	switch {
	case len(text) > maxBody:
		return "", Invalid, fmt.Errorf("the policy is longer than %d octets", maxBody)
	case err != nil:
		return "", FetchError, err
	}
	return string(text), "", nil
}
