package demo

import (
	"crypto/tls"

	"tlscontrol/internal/mailtest"
)

// host is an MX host with its way of treating TLS, and what was promised for messages to it.
type host struct {
	name string // <name>.example is the destination, mx.<name>.example the host
	does string // the heading
	// behaviour is what it does, given a good and a bad certificate.
	behaviour func(good, bad *tls.Certificate) mailtest.Behaviour
	// offers tells that STARTTLS is announced, so that every message has to try it.
	offers bool
	// cells are for the four senders, in their order; more are other senders and messages with a word of their own.
	cells [4]want
	more  []scene
}

func (h host) domain() string { return h.name + ".example" }
func (h host) mx() string     { return "mx." + h.domain() }

// scenes are the rows of the host.
func (h host) scenes() []scene {
	var all []scene
	for i, from := range senders {
		all = append(all, scene{label: from.label, from: from.domain, wants: from.wants, want: h.cells[i]})
	}
	return append(all, h.more...)
}

// scene is one row: a message with what is asked for it and what shall become of it.
type scene struct {
	label string // of the settings
	from  string // sending domain
	field string // the message's own word, a header field
	wants wants
	want  want
}

// wants is what the log shall say of the settings, with the place that each came from.
type wants struct {
	require, skip         bool
	requireFrom, skipFrom string
}

// demanded is what the two settings come to.
func (w wants) demanded() string {
	switch {
	case !w.require:
		return "opportunistic"
	case w.skip:
		return "tls"
	default:
		return "verified"
	}
}

// want is what shall happen on the wire and what the log shall say of it. Words are the log's.
type want struct {
	event             string // "" is a message that is refused at submission
	severity, reason  string // failed only
	code              int
	enhanced          string
	tls, verified     bool
	fallback          string // tls-fallback
	verificationError string // its first word
	connections       int
}

// senders are the four columns: what the sending domain asks for.
var senders = [4]struct {
	label, domain string
	wants         wants
}{
	{"opportunistic, verify", "opportunistic-verify.example", wants{false, false, "domain", "domain"}},
	{"opportunistic, skip verification", "opportunistic-skip.example", wants{false, true, "domain", "domain"}},
	{"required, verify", "required-verify.example", wants{true, false, "domain", "domain"}},
	{"required, skip verification", "required-skip.example", wants{true, true, "domain", "domain"}},
}

// The outcomes that there are.

func inClear(connections int, why string) want {
	return want{event: "delivered", code: 250, enhanced: "2.0.0", fallback: why, connections: connections}
}

func unverified(why string) want {
	return want{event: "delivered", code: 250, enhanced: "2.0.0", tls: true, verificationError: why, connections: 1}
}

func verified() want {
	return want{event: "delivered", code: 250, enhanced: "2.0.0", tls: true, verified: true, connections: 1}
}

func deferred(enhanced, why string) want {
	return want{event: "failed", severity: "temporary", code: 451, enhanced: enhanced, reason: why, connections: 1}
}

func rejected(enhanced, why string) want {
	return want{event: "failed", severity: "permanent", code: 550, enhanced: enhanced, reason: why, connections: 1}
}

// refused is a message that does not get past the submission endpoint.
func refused() want { return want{code: 554, enhanced: "5.6.0"} }

// kept is w, which the sender wanted better.
func (w want) kept(why string) want {
	w.fallback = why
	return w
}

// hosts is the table.
var hosts = [...]host{
	{
		name: "no-starttls", does: "The host offers no STARTTLS",
		behaviour: func(_, _ *tls.Certificate) mailtest.Behaviour { return mailtest.Behaviour{} },
		cells: [4]want{
			inClear(1, "tls-not-offered"), inClear(1, "tls-not-offered"),
			deferred("4.7.4", "tls-not-offered"), deferred("4.7.4", "tls-not-offered"),
		},
		more: []scene{
			{
				label: "required, on_failure reject", from: "reject.example",
				wants: wants{true, false, "domain", "domain"}, want: rejected("5.7.4", "tls-not-offered"),
			},
			{
				label: "opportunistic", from: "opportunistic-verify.example", field: "X-Require-TLS: yes",
				wants: wants{true, false, "message", "domain"}, want: deferred("4.7.4", "tls-not-offered"),
			},
			{
				label: "tighten", from: "tighten.example", field: "X-Require-TLS: no",
				wants: wants{true, false, "domain", "domain"}, want: deferred("4.7.4", "tls-not-offered"),
			},
		},
	},
	{
		name: "refuses-starttls", does: "The host answers STARTTLS with 454", offers: true,
		behaviour: func(good, _ *tls.Certificate) mailtest.Behaviour {
			return mailtest.Behaviour{Certificate: good, STARTTLSReply: "454 4.7.0 TLS not available"}
		},
		cells: [4]want{
			inClear(1, "tls-rejected"), inClear(1, "tls-rejected"),
			deferred("4.7.4", "tls-rejected"), deferred("4.7.4", "tls-rejected"),
		},
	},
	{
		name: "breaks-handshake", does: "The host breaks the handshake", offers: true,
		behaviour: func(good, _ *tls.Certificate) mailtest.Behaviour {
			return mailtest.Behaviour{Certificate: good, Handshake: "alert"}
		},
		cells: [4]want{
			inClear(2, "tls-handshake"), inClear(2, "tls-handshake"),
			deferred("4.7.5", "tls-handshake"), deferred("4.7.5", "tls-handshake"),
		},
	},
	{
		name: "bad-certificate", does: "The host shows a bad certificate, signed by itself", offers: true,
		behaviour: func(_, bad *tls.Certificate) mailtest.Behaviour { return mailtest.Behaviour{Certificate: bad} },
		cells: [4]want{
			inClear(2, "certificate-untrusted"), unverified("certificate-untrusted"),
			deferred("4.7.5", "certificate-untrusted"), unverified("certificate-untrusted"),
		},
		more: []scene{
			{
				label: "opportunistic_fallback unverified", from: "keep-tls.example",
				wants: wants{false, false, "domain", "domain"},
				want:  unverified("certificate-untrusted").kept("certificate-untrusted"),
			},
			exhibit,
			{
				label: "none", from: "none.example", field: "X-Skip-Verification: yes",
				wants: wants{true, false, "domain", "domain"}, want: deferred("4.7.5", "certificate-untrusted"),
			},
		},
	},
	{
		name: "good-certificate", does: "The host shows a good certificate", offers: true,
		behaviour: func(good, _ *tls.Certificate) mailtest.Behaviour { return mailtest.Behaviour{Certificate: good} },
		cells:     [4]want{verified(), verified(), verified(), verified()},
		more: []scene{
			{
				label: "opportunistic", from: "opportunistic-verify.example", field: "X-Require-TLS: yes",
				wants: wants{true, false, "message", "domain"}, want: verified(),
			},
			{
				label: "opportunistic", from: "opportunistic-verify.example", field: "X-Require-TLS: maybe",
				want: refused(),
			},
		},
	},
}

// exhibit is the row whose document is printed in full: it has a bit of everything.
var exhibit = scene{
	label: "required", from: "required-verify.example", field: "X-Skip-Verification: yes",
	wants: wants{true, true, "domain", "message"}, want: unverified("certificate-untrusted"),
}

// total is the number of rows.
func total() (n int) {
	for _, h := range hosts {
		n += len(h.scenes())
	}
	return n
}
