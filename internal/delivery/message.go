package delivery

import (
	"io"
	"net"
	"strings"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-smtp"
	"github.com/foxcpp/maddy/framework/address"

	"tlscontrol/internal/policy"
)

// Message is one message with all its recipients, as a target gets it.
type Message struct {
	ID         string // the queue's attempt suffix may be there
	From       string // MAIL FROM, "" for the null sender
	FromDomain string // its domain, normalised; "" for the null sender
	Options    smtp.MailOptions
	Recipients []Recipient
	Header     textproto.Header
	Body       Body
	ClientIP   net.IP // where the message came from, for the limits
}

// Recipient is one RCPT TO, as handed in.
type Recipient struct {
	Address string
	Local   string // local part
	Domain  string // normalised (U-labels)
	Options smtp.RcptOptions
}

// Body is the body of a message: maddy's framework/buffer.Buffer has it.
type Body interface {
	Open() (io.ReadCloser, error)
	Len() int
}

// parcel is a message made ready for the wire: the header without the fields
// that are ours, and what those fields said.
type parcel struct {
	*Message
	queueID  string
	header   []byte // as sent, with the empty line
	size     int64  // header and body as handed in
	override policy.Override
	solo     solo
}

// solo is room for the one recipient that most messages have.
type solo struct {
	group     group
	recipient recipient
	groups    [1]*group
	all       [1]*recipient
	handedIn  [1]string
}

// pack takes our fields out of the header and renders it into p.
func (e *Engine) pack(m *Message, p *parcel) error {
	p.Message, p.queueID = m, policy.QueueID(m.ID)
	var err error
	if p.header, err = render(m.Header); err != nil {
		return err
	}
	p.size = int64(len(p.header)) + int64(m.Body.Len())
	if !e.hasOurs(m.Header) {
		return nil
	}
	p.override = e.override(m)
	outgoing := m.Header.Copy()
	for _, name := range e.ours {
		outgoing.Del(name)
	}
	p.header, err = render(outgoing)
	return err
}

// hasOurs reports whether a header has one of the fields that never leave.
func (e *Engine) hasOurs(h textproto.Header) bool {
	for _, name := range e.ours {
		if h.Has(name) {
			return true
		}
	}
	return false
}

// maxStamps is how many stamps of a message are looked at: our check leaves one,
// a stranger may bring thousands.
const maxStamps = 5

// override reads what the message asks for. A stamp was made by our own check
// for this very message; without one, override fields can only tighten.
func (e *Engine) override(m *Message) policy.Override {
	if stamps := m.Header.Values(policy.StampField); len(stamps) > 0 {
		key, err := e.cfg.Key()
		if err != nil {
			e.cfg.Log.Error("the key of the override stamps cannot be read", "msg_id", m.ID, "error", err)
		} else {
			for _, stamp := range stamps[:min(len(stamps), maxStamps)] {
				var o policy.Override
				if o, err = key.Open(stamp, m.ID); err == nil {
					return o
				}
			}
			e.cfg.Log.Warn("an override stamp does not check out and counts as absent",
				"msg_id", m.ID, "stamps", len(stamps), "reason", printable(err.Error(), maxStatusText))
		}
	}
	return e.cfg.Fields.ReadTightening(func(name string) []string { return m.Header.Values(name) })
}

// groups puts recipients of one domain together, in order of appearance.
// Addresses that are equal, or differ only in the spelling of the domain, are one
// recipient that was handed in several times.
func (p *parcel) groups() []*group {
	if len(p.Recipients) == 1 {
		s, r := &p.solo, p.Recipients[0]
		s.handedIn[0] = r.Address
		s.recipient = recipient{Recipient: r, handedIn: s.handedIn[:]}
		s.all[0] = &s.recipient
		s.group = group{domain: r.Domain, all: s.all[:]}
		s.groups[0] = &s.group
		return s.groups[:]
	}
	var (
		all      []*group
		byDomain = make(map[string]*group)
		seen     = make(map[string]*recipient)
	)
	for _, r := range p.Recipients {
		key := r.Local + "@" + r.Domain
		if first, ok := seen[key]; ok {
			first.handedIn = append(first.handedIn, r.Address)
			continue
		}
		g := byDomain[r.Domain]
		if g == nil {
			g = &group{domain: r.Domain}
			byDomain[r.Domain] = g
			all = append(all, g)
		}
		rcpt := &recipient{Recipient: r, handedIn: []string{r.Address}}
		seen[key] = rcpt
		g.all = append(g.all, rcpt)
	}
	return all
}

// onWire is an address as it goes into a command. maddy hands local parts in
// without the quotes that some need. A domain that is not ASCII is written as it
// was understood here, normalised: no other host shall read it otherwise.
func onWire(addr, normalised string) string {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return addr
	}
	local, domain := addr[:at], addr[at+1:]
	if !isDotString(local) && (len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"') {
		local = address.QuoteMbox(local)
	}
	if domain = strings.TrimSuffix(domain, "."); !address.IsASCII(domain) {
		domain = normalised
	}
	if local == addr[:at] && domain == addr[at+1:] {
		return addr
	}
	return local + "@" + domain
}

// isDotString reports whether a local part consists of what needs no quotes
// (atext and dots, RFC 5322, section 3.2.3), as almost all do.
func isDotString(local string) bool {
	for i := range len(local) {
		c := local[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-/=?^_`{|}~.", c) < 0 {
			return false
		}
	}
	return true
}

// originalRecipient is the ORCPT parameter, RFC 3461, section 4.2.
func (r *recipient) originalRecipient() string {
	if r.Options.OriginalRecipient == "" {
		return ""
	}
	kind := strings.ToLower(string(r.Options.OriginalRecipientType))
	if kind == "" {
		kind = "rfc822"
	}
	return kind + ";" + r.Options.OriginalRecipient
}
