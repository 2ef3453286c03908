package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"golang.org/x/net/netutil"

	"tlscontrol/internal/api"
)

// farewell is how long requests have that are being served at the end, and then once
// more, when they have been told.
const farewell = 10 * time.Second

// listen opens all addresses, and serves them if that worked.
func (e *Endpoint) listen(s *settings, handler http.Handler) error {
	e.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: api.HeaderTimeout,
		ReadTimeout:       api.ReadTimeout,
		WriteTimeout:      api.WriteTimeout,
		IdleTimeout:       api.IdleTimeout,
		MaxHeaderBytes:    api.MaxHeaderBytes,
		ErrorLog:          stdlog.New(serverLog{e}, "", 0),
	}
	for _, a := range s.listen {
		l, err := open(a, s.tls, connections*s.requests)
		if err != nil {
			for _, l := range e.listeners {
				l.Close()
			}
			return err
		}
		e.listeners = append(e.listeners, l)
	}
	for i, l := range e.listeners {
		e.log.Println("listening on", s.listen[i].String())
		e.serving.Go(func() {
			if err := e.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				e.log.Error("serve failed", err, "endpoint", s.listen[i].String())
			}
		})
	}
	return nil
}

// connections is how many there may be for each request that is served at a time;
// most of them are idle. Strangers who open more wait, and do not use up what
// deliveries need.
const connections = 4

// open listens on an address, with so many connections at a time.
func open(a config.Endpoint, cert *tls.Config, most int) (net.Listener, error) {
	if a.Scheme == "unix" {
		removeStale(a.Path)
	}
	l, err := net.Listen(a.Network(), a.Address())
	if err != nil {
		return nil, err
	}
	l = netutil.LimitListener(l, most)
	if !a.IsTLS() {
		return l, nil
	}
	return tls.NewListener(l, strict(cert)), nil
}

// removeStale removes a socket that a killed process left behind, on which nobody
// listens. If it cannot be removed, listening says why.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return
	}
	_ = os.Remove(path)
}

// strict is maddy's TLS configuration without what SMTP still needs and HTTP does
// not: TLS before 1.2 (RFC 8996).
func strict(cert *tls.Config) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			found, err := cert.GetConfigForClient(hello)
			if err != nil || found == nil {
				return found, err
			}
			found = found.Clone()
			found.MinVersion = max(found.MinVersion, tls.VersionTLS12)
			found.NextProtos = []string{"http/1.1"}
			return found, nil
		},
	}
}

// Close lets requests end that are being served, and stops listening. Messages that
// are still being looked at after that are refused, so that the client hears that it
// was not taken; one that does not end then either (a check that hangs) is not in
// the queue, or is there and was not answered.
func (e *Endpoint) Close() error {
	if e.server == nil {
		return nil
	}
	err := e.shutdown()
	e.end()
	if err != nil {
		if err = e.shutdown(); err != nil {
			err = errors.Join(err, e.server.Close())
		}
	}
	e.serving.Wait()
	return err
}

func (e *Endpoint) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), e.farewell)
	defer cancel()
	return e.server.Shutdown(ctx)
}

// serverLog takes what net/http says about connections, which is for debugging:
// strangers cause it.
type serverLog struct{ e *Endpoint }

func (s serverLog) Write(text []byte) (int, error) {
	s.e.log.DebugMsg("connection failed", "reason", strings.TrimSpace(string(text)))
	return len(text), nil
}
