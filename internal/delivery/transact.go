package delivery

import (
	"errors"
	"fmt"
	"io"
	"time"

	"tlscontrol/internal/health"
	"tlscontrol/internal/smtpwire"
	"tlscontrol/internal/tlsplan"
)

// use sends the message to the open recipients of g over s, in as many
// transactions as it takes, and gives s back. Recipients whose transaction broke
// off before anything was decided about them stay open for another address. It
// returns true if s came to its end and the recipients that are open were not
// reached yet: the same address may serve them over a new session.
func (d *run) use(g *group, s *session, place *health.Place) (again bool) {
	clean, broken := false, true // unless the loop comes to its end
	defer func() { d.e.release(s, clean, broken) }()
	place.Connected(s.ip)
	for {
		batch, rest := g.open, []*recipient(nil)
		if len(batch) > s.batch {
			batch, rest = batch[:s.batch], batch[s.batch:]
		}
		res := s.conn.Send(d.ctx, d.transaction(g, s, batch))
		if res.ContentSent {
			g.sent = tlsplan.Weaker(g.sent, s.outcome.Protection())
		}
		if !stale(s, &res) {
			d.remember(g, s)
		}
		undecided := d.settle(g, s, batch, &res)
		g.open = append(undecided, rest...)
		clean, broken = res.Clean, res.Err != nil
		if !stale(s, &res) {
			bears(place, &res)
		}
		if len(undecided) > 0 || len(rest) == 0 {
			return false
		}
		if broken || s.uses+1 >= s.mailMax {
			return true
		}
		if !clean {
			if broken = s.conn.Reset(d.ctx) != nil; broken {
				return true
			}
		}
		s.uses++
	}
}

// bears takes note of what a transaction tells of how many sessions the host bears.
func bears(place *health.Place, res *smtpwire.Result) {
	for i := range res.Recipients {
		var we *smtpwire.Error
		if errors.As(res.Recipients[i].Err, &we) && complained(place, we.Reply) {
			return
		}
	}
	if res.Final.Code != 0 {
		place.Succeeded()
	}
}

// sendTime is how long one transaction may take in all. Each wait has a deadline
// of its own; this one is for a server that is just quick enough for all of
// them. It leaves room for the ten minutes that RFC 5321, section 4.5.3.2.6
// gives the final reply, and for a line of 4 KiB a second.
func sendTime(size int64) time.Duration {
	return 20*time.Minute + time.Duration(size/4096)*time.Second
}

// transaction is the message as the wire wants it.
func (d *run) transaction(g *group, s *session, batch []*recipient) *smtpwire.Transaction {
	p := d.parcel
	t := &g.transaction
	*t = smtpwire.Transaction{
		From:          onWire(p.From, p.FromDomain),
		Recipients:    append(g.envelope[:0], make([]smtpwire.Recipient, len(batch))...),
		Size:          int64(len(p.header)) + int64(p.Body.Len()),
		UTF8:          p.Options.UTF8,
		Body:          string(p.Options.Body),
		RequireTLS:    p.Options.RequireTLS && s.outcome.OffersREQUIRETLS,
		Return:        string(p.Options.Return),
		EnvelopeID:    p.Options.EnvelopeID,
		Header:        p.header,
		Content:       p.content,
		Deadline:      time.Now().Add(sendTime(p.size)),
		EnvelopeFirst: d.careful(g, s),
	}
	for i, r := range batch {
		t.Recipients[i] = smtpwire.Recipient{
			Address:           onWire(r.Address, r.Domain),
			OriginalRecipient: r.originalRecipient(),
		}
		for _, n := range r.Options.Notify {
			t.Recipients[i].Notify = append(t.Recipients[i].Notify, string(n))
		}
	}
	return t
}

// settle concludes every recipient of a transaction whose fate is decided and
// returns the others: those to whom another host, or a fresh connection, may still
// deliver.
func (d *run) settle(g *group, s *session, batch []*recipient, res *smtpwire.Result) (undecided []*recipient) {
	var cause *smtpwire.Error // why they are undecided
	on := s.describe()
	if res.Surplus {
		d.e.careful.Add(s.host, struct{}{})
	}
	for i, r := range batch {
		err := res.Recipients[i].Err
		if err == nil {
			d.conclude(g, r, outcome{connection: on, reply: &res.Final, utf8: res.UTF8})
			continue
		}
		var we *smtpwire.Error
		isWire := errors.As(err, &we)
		if isWire && mayHaveIt(we, res) {
			d.e.careful.Add(s.host, struct{}{})
			d.e.careful.Add(d.copyKey(g), struct{}{})
		}
		if isWire && d.over() == nil && mayGoElsewhere(we, res) {
			undecided = append(undecided, r)
			if cause == nil {
				cause = we
			}
			continue
		}
		f := wireFailure(s.host, err)
		if ctxErr := d.over(); ctxErr != nil && f.Reply == nil {
			f = cancelled(ctxErr)
		}
		d.troubled(f.Reason, true)
		d.conclude(g, r, outcome{connection: on, failure: f, utf8: res.UTF8})
	}
	if cause != nil {
		d.undecided(g, s, res, wireFailure(s.host, cause), on)
	}
	return undecided
}

// undecided notes that s was of no use to some, because of f. That an idle session
// had ended is nobody's business, unless text of the message went into it for others
// than the host that was meant.
func (d *run) undecided(g *group, s *session, res *smtpwire.Result, f *Failure, on *Connection) {
	h := HostFailure{Host: s.host, IP: s.ip, Reason: f.Reason, Text: errText(f)}
	if res.ContentSent {
		h.Sent = s.outcome.Protection()
	}
	if stale(s, res) {
		if h.Sent != "" && h.Sent != tlsplan.ProtectionVerified {
			g.hosts = append(g.hosts, h)
		}
		return
	}
	d.troubled(f.Reason, true)
	g.gaveUp(h, f, on)
}

// mayGoElsewhere reports whether a recipient can be tried again at once,
// because nothing was decided: the server cannot take any message just now, or
// the connection broke while the envelope was being answered. After that only the
// queue may try again, later.
func mayGoElsewhere(we *smtpwire.Error, res *smtpwire.Result) bool {
	switch we.Stage {
	case smtpwire.StageMail, smtpwire.StageRcpt, smtpwire.StageData:
	default:
		return false
	}
	if we.Reply != nil {
		return we.Reply.Code == 421 || we.Stage == smtpwire.StageMail && we.Reply.Code/100 == 4
	}
	return !errors.Is(we, smtpwire.ErrTooLarge) && !errors.Is(we, smtpwire.ErrUTF8) &&
		!errors.Is(we, smtpwire.ErrBadAddress)
}

// mayHaveIt reports whether the server may have the message although it did not
// even answer the envelope: both went out together before the connection broke. A
// server that hung up without a word has turned us away at MAIL; one that fell
// silent later, or is just slow, may be about to take it. The message goes to
// another host all the same, twice being better than never; but whoever gets it
// now, and this host from now on, gets the envelope first, so that it stays with
// one copy too many, whatever other hosts and later attempts bring.
func mayHaveIt(we *smtpwire.Error, res *smtpwire.Result) bool {
	return we.Reply == nil && res.Written && (res.Replied || we.Timeout())
}

// careful reports whether the envelope has to go first: to hosts that may have a
// message twice, and to hosts that do not keep replies apart.
func (d *run) careful(g *group, s *session) bool {
	known := d.e.careful
	return known.Len() > 0 && (known.Contains(s.host) || known.Contains(d.copyKey(g)))
}

// copyKey stands for the message and its recipients in g, also in later
// attempts. A host name has no space.
func (d *run) copyKey(g *group) string { return d.parcel.queueID + " " + g.domain }

// stale reports whether an idle session turned out to be closed by the other
// side: nobody needs to hear of it, a fresh one takes its place.
func stale(s *session, res *smtpwire.Result) bool {
	return s.reused && res.Err != nil && !res.Replied
}

// errContent is the cause of a failure to read the message on our side.
var errContent = errors.New("the message cannot be read")

// content opens the body so that its errors are told from those of the network.
func (p *parcel) content() (io.ReadCloser, error) {
	r, err := p.Body.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errContent, err)
	}
	return contentReader{r}, nil
}

type contentReader struct{ io.ReadCloser }

// Read implements io.Reader.
func (r contentReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errContent, err)
	}
	return n, err
}
