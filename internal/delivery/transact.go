package delivery

import (
	"errors"
	"fmt"
	"io"
	"time"

	"tlscontrol/internal/route"
	"tlscontrol/internal/smtpwire"
)

// maxRecipients bounds the recipients of one transaction: every server takes a
// hundred (RFC 5321, section 4.5.3.1.8), some answer 452 to more.
const maxRecipients = 100

// tryHost delivers to one host: over an idle session if there is one that meets
// the plan, else over a fresh one, address by address. Recipients without a
// result afterwards stay open for the next host.
func (d *run) tryHost(g *group, h route.Host) {
	since := time.Now()
	if s, ok := d.e.pool.Take(h.Name, *g.plan); ok {
		d.e.acquired(s, since, true)
		if d.use(g, s); len(g.open) == 0 || d.ctx.Err() != nil {
			return
		}
	}
	addrs, ok := d.addresses(g, h)
	if !ok {
		return
	}
	for _, ip := range addrs.IPs {
		s, on, f := d.open(*g.plan, h.Name, ip)
		if f != nil {
			g.gaveUp(HostFailure{Host: h.Name, IP: ip, Reason: f.Reason, Text: errText(f)}, f, on)
		} else {
			d.use(g, s)
		}
		if len(g.open) == 0 || d.ctx.Err() != nil {
			return
		}
	}
}

// use sends the message to the open recipients of g over s, in as many
// transactions as it takes, and gives s back. Recipients whose transaction broke
// off before anything was decided about them stay open.
func (d *run) use(g *group, s *session) {
	for {
		batch, rest := g.open, []*recipient(nil)
		if n := s.batch(); len(batch) > n {
			batch, rest = batch[:n], batch[n:]
		}
		res := s.conn.Send(d.ctx, d.transaction(s, batch))
		broken := d.settle(g, s, batch, &res)
		g.open = append(broken, rest...)
		if len(broken) > 0 || res.Err != nil || len(rest) == 0 {
			d.e.release(s, res.Clean, res.Err != nil)
			return
		}
		if !res.Clean && s.conn.Reset(d.ctx) != nil {
			d.e.release(s, false, true)
			return
		}
		s.uses++
	}
}

// batch is how many recipients one transaction over s may have (RFC 9422).
func (s *session) batch() int {
	if _, rcptMax := s.conn.Extensions().Limits(); rcptMax > 0 && rcptMax < maxRecipients {
		return rcptMax
	}
	return maxRecipients
}

// transaction is the message as the wire wants it.
func (d *run) transaction(s *session, batch []*recipient) *smtpwire.Transaction {
	p := d.parcel
	t := &smtpwire.Transaction{
		From:       p.From,
		Recipients: make([]smtpwire.Recipient, len(batch)),
		Size:       int64(len(p.header)) + int64(p.Body.Len()),
		UTF8:       p.Options.UTF8,
		Body:       string(p.Options.Body),
		RequireTLS: p.Options.RequireTLS && s.outcome.OffersREQUIRETLS,
		Return:     string(p.Options.Return),
		EnvelopeID: p.Options.EnvelopeID,
		Header:     p.header,
		Content:    p.content,
	}
	for i, r := range batch {
		t.Recipients[i] = smtpwire.Recipient{
			Address:           r.Address,
			OriginalRecipient: r.originalRecipient(),
		}
		for _, n := range r.Options.Notify {
			t.Recipients[i].Notify = append(t.Recipients[i].Notify, string(n))
		}
	}
	return t
}

// settle concludes every recipient of a transaction whose fate is decided and
// returns the others: those to whom another host, or a fresh connection, may
// still deliver.
func (d *run) settle(g *group, s *session, batch []*recipient, res *smtpwire.Result) (broken []*recipient) {
	var first *smtpwire.Error
	on := s.describe()
	for i, r := range batch {
		err := res.Recipients[i].Err
		if err == nil {
			d.conclude(g, r, outcome{connection: on, reply: &res.Final, utf8: res.UTF8})
			continue
		}
		var we *smtpwire.Error
		if errors.As(err, &we) && d.ctx.Err() == nil && mayGoElsewhere(we) {
			broken = append(broken, r)
			if first == nil {
				first = we
			}
			continue
		}
		f := wireFailure(s.host, err)
		if ctxErr := d.ctx.Err(); ctxErr != nil && f.Reply == nil {
			f = cancelled(ctxErr)
		}
		d.troubled(f.Reason, true)
		d.conclude(g, r, outcome{connection: on, failure: f, utf8: res.UTF8})
	}
	if first != nil && !stale(s, res) {
		f := wireFailure(s.host, first)
		d.troubled(f.Reason, true)
		g.gaveUp(HostFailure{Host: s.host, IP: s.ip, Reason: f.Reason, Text: errText(f)}, f, on)
	}
	return broken
}

// mayGoElsewhere reports whether a recipient can be tried again at once,
// because nothing was decided: the connection broke, or the server went away,
// before the body; or the server cannot take any message just now. After the
// body has begun only the queue may try again, later.
func mayGoElsewhere(we *smtpwire.Error) bool {
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
