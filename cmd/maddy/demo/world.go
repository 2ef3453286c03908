package demo

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"tlscontrol/internal/mailtest"
)

// world is all that surrounds the server: its directory, the resolver and the MX hosts.
type world struct {
	dir        string
	dns        *mailtest.DNS
	mx         []*mailtest.MX // parallel to hosts
	port       int            // of all of them
	submission string         // address of the server
}

// newWorld starts the resolver and the MX hosts. Everything is ended by close.
func newWorld() (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(false))
		}
	}()
	dir, err := os.MkdirTemp("", "tlscontrol-demo-")
	if err != nil {
		return nil, err
	}
	// The server has a working directory of its own, and $TMPDIR may be relative.
	if w.dir, err = filepath.Abs(dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ca, err := mailtest.NewCA()
	if err != nil {
		return nil, err
	}
	if err := ca.WriteFile(w.path("ca.pem")); err != nil {
		return nil, err
	}
	if w.dns, err = mailtest.NewDNS(); err != nil {
		return nil, err
	}
	return w, w.startHosts(ca)
}

// startHosts starts the MX hosts and publishes them.
func (w *world) startHosts(ca *mailtest.CA) error {
	var behaviours []mailtest.Behaviour
	for _, h := range hosts {
		var certs [2]tls.Certificate
		for i, kind := range []mailtest.Kind{mailtest.Good, mailtest.SelfSigned} {
			var err error
			if certs[i], err = ca.Issue(kind, h.mx()); err != nil {
				return err
			}
		}
		behaviours = append(behaviours, h.behaviour(&certs[0], &certs[1]))
	}
	var err error
	if w.mx, w.port, err = mailtest.NewMXs(len(behaviours), behaviours...); err != nil {
		return fmt.Errorf("each MX host needs an address of its own in 127.0.0.0/8, all of which Linux has: %w", err)
	}
	for i, h := range hosts {
		w.dns.MX(h.domain(), 10, h.mx())
		w.dns.A(h.mx(), w.mx[i].IP())
	}
	return nil
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }
func (w *world) log() string             { return w.path("deliveries.jsonl") }
func (w *world) config() string          { return w.path("maddy.conf") }
func (w *world) output() string          { return w.path("maddy.log") }

// configure chooses a port for the submission endpoint and writes the configuration.
func (w *world) configure() error {
	// maddy looks up the name of each client; that of 127.0.0.1 needs no resolver.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.submission = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return err
	}
	text := configFor(w.dir, w.dns.Addr(), strconv.Itoa(w.port), w.submission, string(hash))
	return os.WriteFile(w.config(), []byte(text), 0o600)
}

// strays says what came behind the back of the rows, "" for nothing.
func (w *world) strays(t tally, all []document) string {
	var found []string
	for i, h := range hosts {
		if got, want := w.mx[i].Connections(), t.connections[i]; got != want {
			found = append(found, fmt.Sprintf("%d connections to %s instead of %d", got, h.mx(), want))
		}
	}
	if len(all) != t.documents {
		found = append(found, fmt.Sprintf("%d documents instead of %d", len(all), t.documents))
	}
	return strings.Join(found, ", ")
}

// close ends everything, and removes the files unless they shall stay.
func (w *world) close(keep bool) error {
	var errs []error
	for _, mx := range w.mx {
		errs = append(errs, mx.Close())
	}
	if w.dns != nil {
		errs = append(errs, w.dns.Close())
	}
	if w.dir != "" && !keep {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}
