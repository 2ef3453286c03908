package status

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
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
	Headers []HeaderName
	// Rand is where the ids of attempts without one come from; nil means
	// math/rand/v2.
	Rand io.Reader
}

// Builder makes documents, one at a time, in memory that it uses again. The
// zero Builder is ready.
type Builder struct {
	document Document

	// What the document points to.
	headers     Headers
	seconds     Seconds
	certificate Certificate
	downgrade   TLSDowngrade
	hosts       []Host
	policy      TLSPolicy
}

// reset forgets the document and keeps the memory.
func (b *Builder) reset() {
	clear(b.headers)
	clear(b.hosts)
	*b = Builder{headers: b.headers[:0], hosts: b.hosts[:0]}
}

// Build makes the document of one attempt. It shares memory with a, and is
// good until Build is called again.
func (b *Builder) Build(a *delivery.Attempt, opts Options) *Document {
	b.reset()
	d := &b.document
	d.Event, d.LogLevel = EventDelivered, LevelInfo
	if d.ID = a.ID; d.ID == (ID{}) {
		d.ID.draw(opts.Rand)
	}
	d.Timestamp = timestamp(a.Concluded)
	if a.Result != delivery.Delivered {
		d.Event = EventFailed
		d.LogLevel, d.Severity = LevelWarn, SeverityTemporary
		if a.Result == delivery.Permanent {
			d.LogLevel, d.Severity = LevelError, SeverityPermanent
		}
		d.Reason = known(a.Reason)
	}
	d.Hostname = clip(a.Hostname, maxWord)
	d.QueueID = clip(a.QueueID, maxWord)
	d.Recipient = clip(a.Recipient, maxWord)
	d.RecipientDomain = clip(a.Domain, maxWord)
	d.Envelope = Envelope{
		Sender:    clip(a.Sender, maxWord),
		Targets:   d.Recipient,
		Transport: "smtp",
	}
	d.Message = Message{Headers: b.copyHeaders(a, opts.Headers), Size: max(a.Size, 0)}
	b.result(a)
	if c := a.Connection; c != nil {
		d.Envelope.SendingIP = address(c.LocalIP)
		b.connection(c)
	}
	d.TLSPolicy = b.tlsPolicy(a)
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

// draw makes id 128 random bits: unique without any memory. Those of
// math/rand/v2 come from ChaCha8, which Go seeds for each process (and thread)
// with 256 bits of the kernel's: its output cannot be told from the kernel's
// own, so that two equal ids are as unlikely, and costs no system call. It is
// not erased from memory as crypto/rand's is, which matters for keys; an id is
// no secret.
func (id *ID) draw(r io.Reader) {
	if r != nil {
		// A source that fails yields what it had.
		_, _ = io.ReadFull(r, id[:])
		return
	}
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
}

// timestamp is when an attempt was concluded. One that does not say so was
// concluded just now: it is documented at once.
func timestamp(t time.Time) Timestamp {
	if t.IsZero() {
		t = time.Now()
	}
	return Timestamp(t.UnixMicro())
}

// copyHeaders takes the header fields. One that occurs several times counts
// with its first value, one that is missing is left out.
func (b *Builder) copyHeaders(a *delivery.Attempt, names []HeaderName) Headers {
	for _, name := range names {
		if !a.Header.Has(name.canonical) {
			continue
		}
		v := strings.TrimSpace(a.Header.Get(name.canonical))
		if name.lower == "message-id" {
			v = messageID(v)
		}
		b.headers = append(b.headers, HeaderField{name.lower, clip(v, maxText)})
	}
	return b.headers
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

// result fills in what does not depend on a connection.
func (b *Builder) result(a *delivery.Attempt) {
	s := &b.document.DeliveryStatus
	s.AttemptNo = max(a.Number, 0)
	if 100 <= a.Code && a.Code <= 999 {
		s.Code = a.Code
	}
	s.EnhancedCode = enhancedCode(a.Enhanced)
	s.Message = clip(a.Message, maxText)
	s.Description = clip(a.Description, maxText)
	s.UTF8 = a.UTF8
	if a.Fallback != "" {
		s.TLSFallback = known(a.Fallback)
	}
	s.ContentSent = sent(a.ContentSent)
	s.TLSDowngrade = b.lessThanBefore(a.Downgrade)
	s.Hosts = b.givenUp(a.Hosts)
}

// sent keeps the vocabulary closed: of a word that is not in it, it is only known
// that something was sent, maybe in clear.
func sent(p tlsplan.Protection) tlsplan.Protection {
	switch p {
	case "", tlsplan.ProtectionUnverified, tlsplan.ProtectionVerified:
		return p
	}
	return tlsplan.ProtectionClear
}

func enhancedCode(e [3]int) (code EnhancedCode) {
	for i, n := range e {
		// RFC 3463, section 2: one digit, then one to three each.
		if n < 0 || n > 999 {
			return EnhancedCode{}
		}
		code[i] = uint16(n)
	}
	return code
}

func (b *Builder) lessThanBefore(d *delivery.Downgrade) *TLSDowngrade {
	if d == nil {
		return nil
	}
	b.downgrade = TLSDowngrade{
		MXHost:       clip(d.Host, maxWord),
		Expected:     d.Expected.Level,
		Verification: d.Expected.By,
		LastSeen:     Moment(d.Expected.LastSeen.Unix()),
		Action:       d.Action,
	}
	return &b.downgrade
}

func (b *Builder) givenUp(failures []delivery.HostFailure) []Host {
	for _, f := range failures[:min(len(failures), maxHosts)] {
		b.hosts = append(b.hosts, Host{
			MXHost:  clip(f.Host, maxWord),
			MXIP:    address(f.IP),
			Reason:  known(f.Reason),
			Message: clip(f.Text, maxText),

			ContentSent: sent(f.Sent),
		})
	}
	return b.hosts
}

func (b *Builder) tlsPolicy(a *delivery.Attempt) *TLSPolicy {
	if a.Settings == nil && a.Plan == nil {
		return nil
	}
	p := &b.policy
	if s := a.Settings; s != nil {
		p.RequireTLS = boolean(s.RequireTLS)
		p.SkipVerification = boolean(s.SkipVerification)
		p.RequireTLSSource = s.RequireTLSSource
		p.SkipVerificationSource = s.SkipVerificationSource
		p.RequireTLSPlace = clip(s.RequireTLSPlace, maxWord)
		p.SkipVerificationPlace = clip(s.SkipVerificationPlace, maxWord)
	}
	if a.Lifted {
		p.TLSRequired = "no"
	}
	if e := a.STSErr; e != nil {
		p.MTASTSError = clip(string(e.Kind)+": "+e.Detail(), maxText)
	}
	if a.Plan != nil {
		p.Floors = a.Plan.Floors
		p.Demanded = a.Plan.Demand
	}
	return p
}

// address is written without a zone, which means something on this machine
// only. The zero address is unknown.
func address(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// boolean gives a pointer that omitempty takes for set, without allocating.
func boolean(b bool) *bool {
	if b {
		return &yes
	}
	return &no
}

// yes and no are only pointed at, never written.
var yes, no = true, false
