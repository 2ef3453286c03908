package mailtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"time"
)

// errScripted is the error of a handshake that the script breaks, and of one that
// has begun and not ended.
var errScripted = errors.New("mailtest: handshake not completed")

// startTLS answers STARTTLS and does, or breaks, the handshake.
func (d *dialogue) startTLS() error {
	b := d.mx.current()
	if d.tlsState != nil || !b.offersTLS() {
		return d.send("502 5.5.1 STARTTLS not available")
	}
	script := b.STARTTLSReply
	if script == "" {
		script = b.scripted("starttls", false)
	}
	ready := "220 2.0.0 ready to start TLS"
	if b.Handshake == "inject" {
		ready += "\n250 2.0.0 injected"
	}
	class, err := d.play(script, ready)
	if err != nil || class != '2' {
		return err
	}
	// What came in clear behind the command is on record, and not obeyed.
	d.raw.expectTLS()
	if err := d.flush(); err != nil {
		return err
	}
	d.mx.note(func() { d.session.Handshakes++; d.session.HandshakeErr = errScripted })
	switch b.Handshake {
	case "eof":
		d.hangUp()
		return errEnd
	case "stall":
		return d.hold()
	case "garbage":
		return d.breakWith([]byte("\x00\x01\xfe this is no TLS record \r\n"))
	case "alert":
		// Fatal handshake_failure (RFC 8446, section 6).
		return d.breakWith([]byte{21, 3, 3, 0, 2, 2, 40})
	}
	return d.handshake(b)
}

// breakWith answers the client's first bytes, its ClientHello, with p and closes
// the connection. Sent before, p would look like a reply injected behind the 220.
func (d *dialogue) breakWith(p []byte) error {
	_ = d.raw.SetDeadline(time.Now().Add(patience))
	if _, err := d.raw.Read(make([]byte, 16<<10)); err != nil {
		return err
	}
	_, _ = d.raw.Write(p)
	d.hangUp()
	return errEnd
}

func (d *dialogue) handshake(b Behaviour) error {
	secured := tls.Server(d.raw, d.tlsConfig(b))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = d.raw.SetDeadline(time.Now().Add(patience))
	err := secured.HandshakeContext(ctx)
	state := secured.ConnectionState()
	d.mx.note(func() {
		d.session.HandshakeErr = err
		d.session.TLS = err == nil
		d.session.Resumed = state.DidResume
	})
	if err != nil || b.Handshake == "eof-after" {
		d.hangUp()
		return errEnd
	}
	d.conn, d.tlsState = secured, &state
	d.r, d.w = bufio.NewReader(secured), bufio.NewWriter(secured)
	// RFC 3207 (4.2): everything learned in clear is forgotten.
	d.helo, d.extended, d.mail = "", false, nil
	return nil
}

func (d *dialogue) tlsConfig(b Behaviour) *tls.Config {
	config := &tls.Config{
		MinVersion: b.MinTLS,
		MaxVersion: b.MaxTLS,
		ClientAuth: b.ClientAuth,
		ClientCAs:  b.ClientCAs,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			d.mx.note(func() { d.session.SNI = hello.ServerName })
			return nil, nil
		},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return b.certificateFor(hello.ServerName)
		},
	}
	switch b.Handshake {
	case "version":
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case "cipher":
		// No client of today offers RC4, and TLS 1.3 suites cannot be chosen.
		config.MaxVersion = tls.VersionTLS12
		config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
	case "alert-after":
		// In TLS 1.3 the server judges after its own Finished, so the client has
		// completed the handshake when the alert arrives.
		config.MinVersion = tls.VersionTLS13
		config.VerifyConnection = func(tls.ConnectionState) error { return errScripted }
	}
	config.SetSessionTicketKeys([][32]byte{d.mx.ticketKey})
	return config
}

// certificateFor chooses by SNI.
func (b Behaviour) certificateFor(name string) (*tls.Certificate, error) {
	if b.Certificate == nil {
		return nil, errors.New("mailtest: the script has no certificate")
	}
	if b.NoSNICertificate == nil {
		return b.Certificate, nil
	}
	if name == "" || b.Certificate.Leaf == nil || b.Certificate.Leaf.VerifyHostname(name) != nil {
		return b.NoSNICertificate, nil
	}
	return b.Certificate, nil
}
