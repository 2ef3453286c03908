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
	"sync/atomic"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"

	"tlscontrol/internal/api"
	"tlscontrol/internal/bell"
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
		ConnContext:       api.ConnContext,
		ErrorLog:          stdlog.New(serverLog{e}, "", 0),
	}
	e.crowded = newCrowded(e.log)
	for _, a := range s.listen {
		l, err := open(a, s.tls, api.NewCrowd(connections*s.requests, e.crowded.ring))
		if err != nil {
			for _, l := range e.listeners {
				l.Close()
			}
			e.crowded.close()
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
// most of them are idle. Strangers who open more do not use up what deliveries
// need.
const connections = 4

// open listens on an address for a crowd.
func open(a config.Endpoint, cert *tls.Config, crowd *api.Crowd) (net.Listener, error) {
	if a.Scheme == "unix" {
		removeStale(a.Path)
	}
	l, err := net.Listen(a.Network(), a.Address())
	if err != nil {
		return nil, err
	}
	l = crowd.Listen(l)
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
	e.crowded.close()
	return err
}

func (e *Endpoint) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), e.farewell)
	defer cancel()
	return e.server.Shutdown(ctx)
}

// crowded tells the operator when connections were closed to make room.
type crowded struct {
	bell   *bell.Bell
	closed atomic.Int64 // since it was told last
}

// crowdedEvery is how often it is told.
const crowdedEvery = time.Minute

func newCrowded(logger log.Logger) *crowded {
	c := &crowded{}
	c.bell = bell.New(crowdedEvery, func() {
		if n := c.closed.Swap(0); n > 0 {
			logger.Msg("too many connections, some that waited were closed", "closed", n)
		}
	})
	return c
}

// ring counts a connection.
func (c *crowded) ring() {
	c.closed.Add(1)
	c.bell.Ring()
}

func (c *crowded) close() { c.bell.Close(time.Second) }

// serverLog takes what net/http says about connections, which is for debugging:
// strangers cause it.
type serverLog struct{ e *Endpoint }

func (s serverLog) Write(text []byte) (int, error) {
	s.e.log.DebugMsg("connection failed", "reason", strings.TrimSpace(string(text)))
	return len(text), nil
}
