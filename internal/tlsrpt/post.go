package tlsrpt

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/foxcpp/maddy/framework/exterrors"
)

const (
	postTimeout = 60 * time.Second // for a report, connecting included
	maxReply    = 4 << 10          // octets of a reply; what it says does not matter
)

// newClient makes the client for reports by HTTPS. RFC 8460, section 3 lets
// certificates go unverified; a report tells who mails whom, so they do not here.
func (r *Reporter) newClient() *http.Client {
	return &http.Client{
		Timeout: postTimeout,
		// A redirect could lead anywhere; the record says where reports go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // the guard has to see the address
			DialContext:            r.dial,
			TLSClientConfig:        &tls.Config{RootCAs: r.cfg.Roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // one report a day
			DisableCompression:     true,
			TLSHandshakeTimeout:    connectTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}
}

// post sends a report (RFC 8460, section 5.4). Any 2xx is taken for success.
func (r *Reporter) post(ctx context.Context, uri string, zipped []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, bytes.NewReader(zipped))
	if err != nil {
		return exterrors.WithTemporary(err, false)
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	req.Header.Set("User-Agent", "tlscontrol")
	reply, err := r.client.Do(req)
	if err != nil {
		// net/http has a view of its own of what is temporary.
		return exterrors.WithTemporary(err, !errors.Is(err, errNotPublic))
	}
	defer reply.Body.Close()
	// What is unread is thrown away with the connection.
	_, _ = io.CopyN(io.Discard, reply.Body, maxReply)
	if code := reply.StatusCode; code < 200 || code > 299 {
		return exterrors.WithTemporary(fmt.Errorf("answered %d", code), mayRecover(code))
	}
	return nil
}

// mayRecover reports whether another attempt is worth it. A redirect or a 4xx is
// an answer about the request, apart from those that speak of time.
func mayRecover(code int) bool {
	return code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests
}
