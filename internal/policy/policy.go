// Package policy decides what TLS the sender of a message wants.
//
// Four settings describe that wish: require_tls, skip_verification,
// on_failure and opportunistic_fallback; a fifth, message_override, says how
// much a single message may have its own way. Several places may speak about
// each of them, and each setting is resolved on its own: the first place that
// says something wins.
//
//  1. The message itself (an Override, require_tls and skip_verification
//     only), as far as message_override admits it.
//  2. The `destination` blocks that match the recipient's domain, the longest
//     match first.
//  3. The `domain` blocks that match the sending domain, the longest match
//     first; only where no such block exists at all, the domain's row in the
//     `domains` table.
//  4. The top of the tls_policy block.
//  5. What is built in.
//
// Policy.Resolve is that list, and a pure function: the table's row is fetched
// before and handed in, acting on the result is somebody else's work. Floors
// that others put on top (published policies, REQUIRETLS) are not known here.
//
// An Override travels in the message. Fields reads it from the header fields a
// client wrote; Key.Stamp turns what was accepted at submission into one
// authenticated field that survives the queue, and Key.Open reads it back at
// delivery. Without a stamp that opens, only Fields.ReadTightening may be
// used: a stranger's header can make delivery stricter, never weaker.
//
// Everything that comes from outside (rows, header fields, stamps, the key
// file) is bounded, and appears in errors escaped and cut (see Quote).
package policy

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Switch is a yes/no setting that may also be left unsaid.
type Switch uint8

// The values of a Switch.
const (
	Unset Switch = iota
	No
	Yes
)

// String returns "unset", "no" or "yes".
func (s Switch) String() string {
	switch s {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unset"
}

// ParseSwitch reads yes, true, on, 1 or no, false, off, 0 in any letter case.
// The error names the word and the choices.
func ParseSwitch(s string) (Switch, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "on", "1":
		return Yes, nil
	case "no", "false", "off", "0":
		return No, nil
	}
	return Unset, fmt.Errorf("unexpected %s, expected yes or no", Quote(s))
}

// OnFailure says what becomes of a recipient whose TLS demands no host met.
type OnFailure string

// The values of OnFailure; "" is silent.
const (
	Defer  OnFailure = "defer"  // 451: the queue tries again
	Reject OnFailure = "reject" // 550: the sender gets a bounce
)

// ParseOnFailure reads defer or reject.
func ParseOnFailure(s string) (OnFailure, error) {
	return parseWord(s, Defer, Reject)
}

// Fallback says what an opportunistic delivery does when a certificate does
// not check out.
type Fallback string

// The values of Fallback; "" is silent.
const (
	Plaintext  Fallback = "plaintext"  // one new connection in clear
	Unverified Fallback = "unverified" // keep the TLS connection
)

// ParseFallback reads plaintext or unverified.
func ParseFallback(s string) (Fallback, error) {
	return parseWord(s, Plaintext, Unverified)
}

// Admission is the setting message_override: how much of a message's own
// override counts.
type Admission string

// The values of Admission; "" is silent.
const (
	AdmitAny     Admission = "any"     // a message's word wins
	AdmitTighten Admission = "tighten" // only require_tls yes and skip_verification no
	AdmitNone    Admission = "none"    // never
)

// ParseAdmission reads any, tighten or none.
func ParseAdmission(s string) (Admission, error) {
	return parseWord(s, AdmitAny, AdmitTighten, AdmitNone)
}

func parseWord[T ~string](s string, choices ...T) (T, error) {
	names := make([]string, len(choices))
	for i, c := range choices {
		if s == string(c) {
			return c, nil
		}
		names[i] = string(c)
	}
	last := len(names) - 1
	return "", fmt.Errorf("unexpected %s, expected %s or %s",
		Quote(s), strings.Join(names[:last], ", "), names[last])
}

// Block is what one place says; zero fields are silent.
type Block struct {
	RequireTLS       Switch
	SkipVerification Switch
	OnFailure        OnFailure
	Fallback         Fallback
	MessageOverride  Admission

	// Place tells people where this was said: file:line, or a table row.
	Place string
}

// Silent reports whether the block sets nothing.
func (b Block) Silent() bool {
	b.Place = ""
	return b == Block{}
}

// Override is what one message asks for.
type Override struct {
	RequireTLS       Switch
	SkipVerification Switch
}

// IsZero reports whether the message asks for nothing.
func (o Override) IsZero() bool { return o == Override{} }

// maxQuoted bounds what Quote shows of foreign text: enough to recognise it,
// little enough for one SMTP reply line (512 octets, RFC 5321, section 4.5.3.1.5).
const maxQuoted = 64

// Quote returns foreign text as it may appear in a log line, an SMTP reply or
// an error: quoted, escaped to printable ASCII, and cut after 64 bytes.
func Quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.QuoteToASCII(s)
	}
	cut := maxQuoted
	for cut > maxQuoted-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.QuoteToASCII(s[:cut]) + "..."
}
