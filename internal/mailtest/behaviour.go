package mailtest

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"slices"
	"time"
)

// Behaviour is the script of an MX host. The zero value is a well-behaved host
// without STARTTLS.
//
// Where a field holds a reply, it is either literal text ("450 4.2.0 later",
// several lines separated by "\n") or one of these words:
//
//	stall     say nothing more; read and drop what comes, until the client closes
//	eof       close without a reply
//	reset     end the connection with a TCP RST
//	ok-reset  the default reply, then RST
//	ok-stall  the default reply, which never arrives
//	endless   a multi-line reply that never ends
//	longline  a reply line of 1 MB
//	control   the default code followed by control characters
//	invalid   a line that is no SMTP reply
//	dribble   the default reply, byte by byte
//
// A literal 421 closes the connection after it, as RFC 5321 (3.8) has it.
type Behaviour struct {
	// Certificate is shown in the handshake; with nil, STARTTLS is not offered
	// (unless STARTTLSReply or Handshake is set).
	Certificate *tls.Certificate
	// NoSNICertificate is shown instead to a client that sends no SNI, or one
	// that Certificate is not valid for. Nil means Certificate.
	NoSNICertificate *tls.Certificate
	// MinTLS and MaxTLS bound the TLS versions; zero is the default of crypto/tls.
	MinTLS, MaxTLS uint16
	// ClientAuth and ClientCAs ask for a client certificate.
	ClientAuth tls.ClientAuthType
	ClientCAs  *x509.CertPool
	// HideSTARTTLS leaves the keyword out of EHLO replies, as an attacker on the
	// way would; the command works all the same.
	HideSTARTTLS bool
	// STARTTLSReply answers STARTTLS; the handshake follows only a 2xx.
	STARTTLSReply string
	// Handshake is what happens after the 220 to STARTTLS:
	//
	//	eof          the connection is closed
	//	garbage      bytes that are no TLS
	//	alert        a fatal alert in plaintext
	//	stall        nothing
	//	inject       a further SMTP reply glued to the 220, then a handshake
	//	version      a handshake of TLS 1.0 or 1.1 only
	//	cipher       a handshake with no cipher suite in common
	//	alert-after  a fatal alert right behind the handshake (the client must speak TLS 1.3)
	//	eof-after    the connection is closed behind the handshake
	Handshake string
	// ExtensionsClear and ExtensionsTLS are the EHLO keywords before and after
	// the handshake; nil means DefaultExtensions. STARTTLS is added by itself.
	ExtensionsClear, ExtensionsTLS []string
	// LowerCaseKeywords writes EHLO keywords in lower case.
	LowerCaseKeywords bool
	// Greeting is the reply that opens the dialogue.
	Greeting string
	// EHLOReply answers every EHLO, HELOOnly refuses it with 502.
	EHLOReply string
	HELOOnly  bool
	// Replies answers steps: greeting, ehlo, helo, starttls, mail, rcpt, data,
	// bdat (a chunk that is not the last), body (the final dot or last chunk),
	// rset, noop, quit. A key like "mail-tls" is for TLS only and wins there.
	Replies map[string]string
	// RejectRcpt answers RCPT for an address, in lower case; it wins over Replies.
	RejectRcpt map[string]string
	// MaxRecipients is how many recipients a message may have; further ones get
	// 452 4.5.3. Zero means 10000.
	MaxRecipients int
	// AfterMessages, if positive, makes MAIL on a connection that has delivered so
	// many messages answered with AfterReply ("" is a 421).
	AfterMessages int
	AfterReply    string
	// IdleClose closes a connection that has delivered a message and on which no
	// command came for so long, after saying IdleReply, if there is one. Within a
	// message, and before the first one, the host has patience.
	IdleClose time.Duration
	IdleReply string
	// ResetInBody sends an RST after so many bytes of a body; StallInBody stops
	// reading there.
	ResetInBody, StallInBody int
	// Delay passes before replies are sent. Replies to commands that came
	// together go out together and wait once, as over a network.
	Delay time.Duration
	// DiscardData drops bodies: Message.Data stays nil.
	DiscardData bool
}

// DefaultExtensions returns the EHLO keywords of a host that sets none.
func DefaultExtensions() []string {
	return []string{
		"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10485760",
		"ENHANCEDSTATUSCODES", "CHUNKING", "DSN",
	}
}

// clone keeps the caller's later changes out of the script.
func (b Behaviour) clone() Behaviour {
	b.ExtensionsClear = slices.Clone(b.ExtensionsClear)
	b.ExtensionsTLS = slices.Clone(b.ExtensionsTLS)
	b.Replies = maps.Clone(b.Replies)
	b.RejectRcpt = maps.Clone(b.RejectRcpt)
	return b
}

// offersTLS reports whether the STARTTLS command works.
func (b Behaviour) offersTLS() bool {
	return b.Certificate != nil || b.STARTTLSReply != "" || b.Handshake != ""
}

// extensions are the keywords announced in the given state, STARTTLS aside.
func (b Behaviour) extensions(underTLS bool) []string {
	chosen := b.ExtensionsClear
	if underTLS {
		chosen = b.ExtensionsTLS
	}
	if chosen == nil {
		return DefaultExtensions()
	}
	return chosen
}

// scripted returns the reply that the script has for a step, "" for the default.
func (b Behaviour) scripted(step string, underTLS bool) string {
	if underTLS {
		if reply := b.Replies[step+"-tls"]; reply != "" {
			return reply
		}
	}
	return b.Replies[step]
}

func (b Behaviour) recipientLimit() int {
	if b.MaxRecipients > 0 {
		return b.MaxRecipients
	}
	return 10_000
}
