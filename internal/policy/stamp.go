package policy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// StampField is the header field in which an accepted override travels through
// the queue. It is removed before a message leaves.
const StampField = "TLS-Override"

// maxStamp bounds the value of a stamp field: a line of a header (998 octets,
// RFC 5322, section 2.1.1) and some white space.
const maxStamp = 1024

// StampProblem says in one word why a stamp does not check out. The words are
// few and fixed, fit for metric labels.
type StampProblem string

// The problems of stamps.
const (
	StampMalformed StampProblem = "malformed" // not a stamp at all
	StampVersion   StampProblem = "version"   // not v=1
	StampForged    StampProblem = "forged"    // the MAC is not ours, or not for this text
	StampForeign   StampProblem = "foreign"   // ours, but of another message
)

// StampError reports a stamp that does not check out.
type StampError struct {
	Problem StampProblem
	// Value is the stamp as it may be shown: quoted, escaped and cut.
	Value string
}

func (e *StampError) Error() string {
	return fmt.Sprintf("stamp %s: %s", e.Problem, e.Value)
}

// Stamp returns the value of the stamp field for a message: the override, bound
// to the message ID under the key,
//
//	v=1; require-tls=yes; skip-verification=no; id=7f3a9c1e; mac=<hex>
//
// where settings that are not overridden are left out. The MAC is HMAC-SHA256
// over the text before "; mac=". The message ID is escaped as in a URL query, so
// that no ID can add a word of its own.
func (k Key) Stamp(messageID string, o Override) string {
	words := []string{"v=1"}
	if o.RequireTLS != Unset {
		words = append(words, "require-tls="+o.RequireTLS.String())
	}
	if o.SkipVerification != Unset {
		words = append(words, "skip-verification="+o.SkipVerification.String())
	}
	words = append(words, "id="+url.QueryEscape(messageID))
	text := strings.Join(words, "; ")
	return text + "; mac=" + hex.EncodeToString(k.mac(text))
}

// Open returns the override of a stamp field, if the stamp was made under this
// key for this message. White space around the words may have changed on the
// way: header fields get folded. The message ID may have attempt suffixes that
// the stamp's does not have (see QueueID). The error is a *StampError.
func (k Key) Open(value, messageID string) (Override, error) {
	fail := func(p StampProblem) (Override, error) {
		return Override{}, &StampError{Problem: p, Value: Quote(value)}
	}
	if len(value) > maxStamp {
		return fail(StampMalformed)
	}
	words := strings.Split(value, ";")
	for i, w := range words {
		words[i] = strings.Trim(w, " \t\r\n")
	}
	last := len(words) - 1
	mac, ok := strings.CutPrefix(words[last], "mac=")
	if !ok || !strings.HasPrefix(words[0], "v=") {
		return fail(StampMalformed)
	}
	if words[0] != "v=1" {
		return fail(StampVersion)
	}
	// Authenticate first, interpret afterwards.
	sum, err := hex.DecodeString(mac)
	if err != nil {
		return fail(StampMalformed)
	}
	if !hmac.Equal(sum, k.mac(strings.Join(words[:last], "; "))) {
		return fail(StampForged)
	}
	o, id, err := readStamp(words[1:last])
	if err != nil {
		return fail(StampMalformed)
	}
	if !sameMessage(id, messageID) {
		return fail(StampForeign)
	}
	return o, nil
}

// readStamp interprets the authenticated words between version and MAC.
func readStamp(words []string) (o Override, id string, err error) {
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "require-tls":
			o.RequireTLS, err = ParseSwitch(value)
		case "skip-verification":
			o.SkipVerification, err = ParseSwitch(value)
		case "id":
			id, err = url.QueryUnescape(value)
		default:
			err = fmt.Errorf("unexpected %s", Quote(name))
		}
		if err != nil {
			return Override{}, "", err
		}
	}
	return o, id, nil
}

func (k Key) mac(text string) []byte {
	h := hmac.New(sha256.New, k[:])
	h.Write([]byte(text))
	return h.Sum(nil)
}

// attempts matches what queues, possibly nested, have appended to a message ID.
var attempts = regexp.MustCompile(`^(?:-[0-9a-f]{1,16})+$`)

// sameMessage reports whether messageID is the stamped ID, or that ID with
// attempt suffixes.
func sameMessage(stamped, messageID string) bool {
	rest, ok := strings.CutPrefix(messageID, stamped)
	return ok && stamped != "" && (rest == "" || attempts.MatchString(rest))
}

// QueueID returns the message ID without the suffixes that queues append for
// each attempt: "-" and the time in hexadecimal seconds, once for each queue.
func QueueID(messageID string) string {
	id := messageID
	for {
		dash := strings.LastIndexByte(id, '-')
		switch {
		case dash < 0 || !isTime(id[dash+1:]):
			return id
		case dash == 0: // nothing but suffixes: it is an ID all the same
			return messageID
		}
		id = id[:dash]
	}
}

// isTime is stricter than attempts, for use without the stamped ID at hand: a time
// in seconds has had eight hexadecimal digits since 1978, and shorter groups may
// belong to the ID itself.
func isTime(s string) bool {
	if len(s) < 8 || len(s) > 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
