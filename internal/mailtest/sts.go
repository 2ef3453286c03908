package mailtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
)

// maxSTSRequests bounds the record of requests; later ones are answered
// unrecorded.
const maxSTSRequests = 100_000

// STSPage says what a policy host does with requests for one domain's policy.
type STSPage struct {
	Body string
	// Certificate is what is wrong with the certificate for mta-sts.DOMAIN; "" is Good.
	Certificate Kind
	MaxVersion  uint16            // of TLS, as tls.VersionTLS11; 0: the newest
	Status      int               // 0: 200
	Header      map[string]string // beside or in place of Content-Type: text/plain; "" leaves a field out
	// Raw is sent in place of a reply, header and all, and the connection closed.
	Raw string
	// Endless repeats Body until the client is gone.
	Endless bool
	// Hold keeps the reply back until it is closed, or the client or the host is gone.
	Hold <-chan struct{}
	// StallHandshake never answers the client's first TLS record.
	StallHandshake bool
}

// STSRequest is one request that came, over TLS.
type STSRequest struct {
	Domain string // without mta-sts.
	SNI    string
	Method string
	Path   string
	Host   string
	Header http.Header
}

// STS is an HTTPS host of MTA-STS policies, for many domains at one address.
type STS struct {
	ca       *CA
	listener net.Listener
	server   *http.Server
	done     sync.WaitGroup
	ctx      context.Context // ends with Close
	stop     context.CancelFunc

	mu       sync.Mutex
	pages    map[string]STSPage
	certs    map[string]*tls.Certificate // by kind and host
	requests []STSRequest
	hellos   int
}

// NewSTS starts a policy host on 127.0.0.1 and a free port, with certificates of ca.
func NewSTS(ca *CA) (*STS, error) { return NewSTSAt(ca, "127.0.0.1") }

// NewSTSAt starts a policy host on the given address and a free port.
func NewSTSAt(ca *CA, ip string) (*STS, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return nil, fmt.Errorf("mailtest: policy host: %w", err)
	}
	s := &STS{ca: ca, listener: listener, pages: make(map[string]STSPage), certs: make(map[string]*tls.Certificate)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	config := &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: s.hello}
	s.server = &http.Server{
		Handler:     http.HandlerFunc(s.serve),
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ErrorLog:    log.New(io.Discard, "", 0),
	}
	s.done.Go(func() { _ = s.server.Serve(tls.NewListener(listener, config)) })
	return s, nil
}

// Port returns the port the host listens on.
func (s *STS) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// IP returns the address the host listens on.
func (s *STS) IP() string {
	return s.listener.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap().String()
}

// Serve sets the page of a domain, for later connections. A domain without one is
// refused in the handshake.
func (s *STS) Serve(domain string, page STSPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[strings.ToLower(domain)] = page
}

// Requests returns what was asked for, in order.
func (s *STS) Requests() []STSRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]STSRequest(nil), s.requests...)
}

// Handshakes counts the handshakes begun.
func (s *STS) Handshakes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hellos
}

// Close ends the listener, every connection and what waits in them.
func (s *STS) Close() error {
	s.stop()
	err := s.server.Close()
	s.done.Wait()
	return err
}

// hello chooses what is shown to a client, by the name it asks for.
func (s *STS) hello(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	s.mu.Lock()
	s.hellos++
	page, ok := s.pages[strings.TrimPrefix(hello.ServerName, "mta-sts.")]
	s.mu.Unlock()
	if !ok {
		return nil, errors.New("no policy of " + hello.ServerName)
	}
	if page.StallHandshake {
		select {
		case <-hello.Context().Done():
		case <-s.ctx.Done():
		}
		return nil, errors.New("stalled")
	}
	kind := page.Certificate
	if kind == "" {
		kind = Good
	}
	cert, err := s.certificate(kind, hello.ServerName)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS10, MaxVersion: page.MaxVersion,
	}, nil
}

// certificate issues each certificate once.
func (s *STS) certificate(kind Kind, host string) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(kind) + " " + host
	if cert := s.certs[key]; cert != nil {
		return cert, nil
	}
	cert, err := s.ca.Issue(kind, host)
	if err != nil {
		return nil, err
	}
	s.certs[key] = &cert
	return &cert, nil
}

// serve answers one request.
func (s *STS) serve(w http.ResponseWriter, r *http.Request) {
	domain := strings.TrimPrefix(r.TLS.ServerName, "mta-sts.")
	s.mu.Lock()
	page := s.pages[domain]
	if len(s.requests) < maxSTSRequests {
		s.requests = append(s.requests, STSRequest{
			Domain: domain, SNI: r.TLS.ServerName, Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Header: r.Header.Clone(),
		})
	}
	s.mu.Unlock()
	if page.Hold != nil {
		select {
		case <-page.Hold:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // Else the server would make up a reply.
		}
	}
	if page.Raw != "" {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(conn, page.Raw)
			conn.Close()
		}
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	for name, value := range page.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = []string{value}
		if value == "" {
			// Nil keeps the server from guessing a type.
			w.Header()[http.CanonicalHeaderKey(name)] = nil
		}
	}
	if page.Status != 0 {
		w.WriteHeader(page.Status)
	}
	_, err := io.WriteString(w, page.Body)
	for page.Endless && err == nil && r.Context().Err() == nil {
		_, err = io.WriteString(w, page.Body)
	}
}
