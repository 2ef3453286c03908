package status

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/tlsplan"
)

// Limits of what a document takes over from outside, in octets after invalid
// UTF-8 was replaced. A line stays well below what log shippers cut off.
const (
	// maxText is the limit for text of the remote side and of header fields.
	maxText = 2 << 10
	// maxWord is the limit for everything else: addresses (RFC 5321 allows
	// 256 octets), host names, identifiers, certificate names.
	maxWord = 1 << 10
	// maxHosts keeps a domain with hundreds of dead addresses from filling
	// the disk; nobody reads further to learn that it is dead.
	maxHosts = 32
)

// Options is what a document depends on besides the attempt.
type Options struct {
	// Headers names the header fields to copy.
	Headers []string
	// Rand is where ids come from; nil means crypto/rand.
	Rand io.Reader
}

// Build makes the document of one attempt. It shares memory with a.
func Build(a *delivery.Attempt, opts Options) *Document {
	d := &Document{
		Event:           EventDelivered,
		ID:              newID(opts.Rand),
		Timestamp:       timestamp(a.Concluded),
		LogLevel:        LevelInfo,
		QueueID:         clip(a.QueueID, maxWord),
		Recipient:       clip(a.Recipient, maxWord),
		RecipientDomain: clip(a.Domain, maxWord),
		TLSPolicy:       tlsPolicy(a),
	}
	if a.Result != delivery.Delivered {
		d.Event = EventFailed
		d.LogLevel, d.Severity = LevelWarn, SeverityTemporary
		if a.Result == delivery.Permanent {
			d.LogLevel, d.Severity = LevelError, SeverityPermanent
		}
		d.Reason = known(a.Reason)
	}
	d.Envelope = Envelope{
		Sender:    clip(a.Sender, maxWord),
		Targets:   d.Recipient,
		Transport: "smtp",
	}
	d.Message = message(a, opts.Headers)
	d.DeliveryStatus = deliveryStatus(a)
	if c := a.Connection; c != nil {
		d.Envelope.SendingIP = address(c.LocalIP)
		d.DeliveryStatus.describe(c)
	}
	return d
}

// known keeps the vocabulary closed: parsers may rely on it. A failure whose
// reason nobody named is our own mistake, and that has a word too.
func known(r tlsplan.Reason) tlsplan.Reason {
	if reasons[r] {
		return r
	}
	return tlsplan.Internal
}

// reasons is only read.
var reasons = func() map[tlsplan.Reason]bool {
	m := make(map[tlsplan.Reason]bool)
	for _, r := range tlsplan.Reasons() {
		m[r] = true
	}
	return m
}()

// newID is 128 random bits in hexadecimal: unique without any memory.
func newID(r io.Reader) string {
	if r == nil {
		r = rand.Reader
	}
	var raw [16]byte
	// crypto/rand never fails; a source given by a caller that does yields
	// what it had.
	_, _ = io.ReadFull(r, raw[:])
	return hex.EncodeToString(raw[:])
}

// timestamp never uses an exponent and always has six decimals, so that
// lines sort and parse the same everywhere. An attempt that does not say when
// it was concluded was concluded just now: it is documented at once.
func timestamp(t time.Time) json.Number {
	if t.IsZero() {
		t = time.Now()
	}
	us := t.UnixMicro()
	sign := ""
	if us < 0 {
		sign, us = "-", -us
	}
	b := make([]byte, 0, 24)
	b = append(b, sign...)
	b = strconv.AppendInt(b, us/1e6, 10)
	b = append(b, '.')
	for frac, unit := us%1e6, int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+frac/unit%10))
	}
	return json.Number(b)
}

// message copies the size and the header fields. A field that occurs several
// times counts with its first value, one that is missing is left out.
func message(a *delivery.Attempt, names []string) Message {
	m := Message{Size: max(a.Size, 0)}
	for _, name := range names {
		name = strings.ToLower(name)
		if !a.Header.Has(name) {
			continue
		}
		v := strings.TrimSpace(a.Header.Get(name))
		if name == "message-id" {
			v = messageID(v)
		}
		if m.Headers == nil {
			m.Headers = make(map[string]string, len(names))
		}
		m.Headers[name] = clip(v, maxText)
	}
	return m
}

// messageID returns what the first pair of angle brackets holds: around it may
// be comments, and fields of careless programs have several. A value without
// such a pair is left as it is.
func messageID(v string) string {
	for rest := v; ; {
		before, after, ok := strings.Cut(rest, ">")
		if !ok {
			return v
		}
		if i := strings.LastIndexByte(before, '<'); i >= 0 {
			return before[i+1:]
		}
		rest = after
	}
}

// deliveryStatus is the part that does not depend on a connection.
func deliveryStatus(a *delivery.Attempt) DeliveryStatus {
	s := DeliveryStatus{
		AttemptNo:    max(a.Number, 0),
		EnhancedCode: enhancedCode(a.Enhanced),
		Message:      clip(a.Message, maxText),
		Description:  clip(a.Description, maxText),
		UTF8:         a.UTF8,
		Hosts:        hosts(a.Hosts),
	}
	if 100 <= a.Code && a.Code <= 999 {
		s.Code = a.Code
	}
	if a.Fallback != "" {
		s.TLSFallback = known(a.Fallback)
	}
	return s
}

func enhancedCode(e [3]int) string {
	if e == [3]int{} {
		return ""
	}
	b := make([]byte, 0, 11)
	for i, n := range e {
		// RFC 3463, section 2: one digit, then one to three each.
		if n < 0 || n > 999 {
			return ""
		}
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

func hosts(failures []delivery.HostFailure) []Host {
	if len(failures) == 0 {
		return nil
	}
	failures = failures[:min(len(failures), maxHosts)]
	out := make([]Host, 0, len(failures))
	for _, f := range failures {
		out = append(out, Host{
			MXHost:  clip(f.Host, maxWord),
			MXIP:    address(f.IP),
			Reason:  known(f.Reason),
			Message: clip(f.Text, maxText),
		})
	}
	return out
}

func tlsPolicy(a *delivery.Attempt) *TLSPolicy {
	if a.Settings == nil && a.Plan == nil {
		return nil
	}
	p := &TLSPolicy{}
	if s := a.Settings; s != nil {
		p.RequireTLS = boolean(s.RequireTLS)
		p.SkipVerification = boolean(s.SkipVerification)
		p.RequireTLSSource = s.RequireTLSSource
		p.SkipVerificationSource = s.SkipVerificationSource
	}
	if a.Plan != nil {
		p.Floors = a.Plan.Floors
		p.Demanded = a.Plan.Demand
	}
	return p
}

func address(ip netip.Addr) string {
	if !ip.IsValid() {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}

// seconds has three decimals and no exponent; a value that no clock can have
// measured counts as unknown.
func seconds(s float64) json.Number {
	if math.IsNaN(s) || s < 0 || s > 1e9 {
		return ""
	}
	return json.Number(strconv.FormatFloat(s, 'f', 3, 64))
}

// boolean gives a pointer that omitempty takes for set, without allocating.
func boolean(b bool) *bool {
	if b {
		return &yes
	}
	return &no
}

// yes and no are only pointed at, never written.
var yes, no = true, false
