package status

// What follows writes a document as encoding/json would, without HTML in mind,
// from the declarations in document.go: one line for each field, in the same
// order. TestEncoderKnowsEveryField fails when one is missing.

// append appends the document without a newline.
func (d *Document) append(dst []byte) []byte {
	e := encoder{b: dst}
	d.encode(&e)
	return e.b
}

func (d *Document) encode(e *encoder) {
	e.begin()
	e.text("event", d.Event)
	e.hex("id", d.ID[:])
	e.timestamp("timestamp", d.Timestamp)
	e.text("log-level", d.LogLevel)
	e.optText("severity", d.Severity)
	e.optText("reason", string(d.Reason))
	e.optText("hostname", d.Hostname)
	e.optText("queue-id", d.QueueID)
	e.text("recipient", d.Recipient)
	e.optText("recipient-domain", d.RecipientDomain)
	e.key("envelope")
	d.Envelope.encode(e)
	e.key("message")
	d.Message.encode(e)
	e.key("delivery-status")
	d.DeliveryStatus.encode(e)
	if d.TLSPolicy != nil {
		e.key("tls-policy")
		d.TLSPolicy.encode(e)
	}
	e.end()
}

func (v *Envelope) encode(e *encoder) {
	e.begin()
	e.text("sender", v.Sender)
	e.text("targets", v.Targets)
	e.text("transport", v.Transport)
	e.optAddress("sending-ip", v.SendingIP)
	e.end()
}

func (m *Message) encode(e *encoder) {
	e.begin()
	if len(m.Headers) > 0 {
		e.key("headers")
		m.Headers.encode(e)
	}
	e.optInt("size", m.Size)
	e.end()
}

func (s *DeliveryStatus) encode(e *encoder) {
	e.begin()
	e.optBool("tls", s.TLS)
	e.optBool("certificate-verified", s.CertificateVerified)
	e.optText("mx-host", s.MXHost)
	e.optAddress("mx-ip", s.MXIP)
	e.optInt("mx-port", int64(s.MXPort))
	e.optInt("attempt-no", int64(s.AttemptNo))
	e.optInt("code", int64(s.Code))
	e.optCode("enhanced-code", s.EnhancedCode)
	e.text("message", s.Message)
	e.text("description", s.Description)
	e.optSeconds("session-seconds", s.SessionSeconds)
	e.bool("utf8", s.UTF8)
	e.optText("tls-version", s.TLSVersion)
	e.optText("tls-cipher", s.TLSCipher)
	e.optText("tls-key-exchange", s.TLSKeyExchange)
	e.optText("verification", string(s.Verification))
	e.optText("verification-error", s.VerificationError)
	e.optText("tls-fallback", string(s.TLSFallback))
	e.optText("content-sent", string(s.ContentSent))
	if s.TLSDowngrade != nil {
		e.key("tls-downgrade")
		s.TLSDowngrade.encode(e)
	}
	e.optBool("connection-reused", s.ConnectionReused)
	if s.Certificate != nil {
		e.key("certificate")
		s.Certificate.encode(e)
	}
	if len(s.Hosts) > 0 {
		e.key("hosts")
		e.beginArray()
		for i := range s.Hosts {
			e.comma()
			s.Hosts[i].encode(e)
		}
		e.endArray()
	}
	e.end()
}

func (c *Certificate) encode(e *encoder) {
	e.begin()
	e.text("subject", c.Subject)
	e.text("issuer", c.Issuer)
	e.moment("not-after", c.NotAfter)
	e.hex("sha256", c.SHA256[:])
	e.end()
}

func (d *TLSDowngrade) encode(e *encoder) {
	e.begin()
	e.text("mx-host", d.MXHost)
	e.text("expected", string(d.Expected))
	e.optText("verification", string(d.Verification))
	e.moment("last-seen", d.LastSeen)
	e.text("action", string(d.Action))
	e.end()
}

func (h *Host) encode(e *encoder) {
	e.begin()
	e.optText("mx-host", h.MXHost)
	e.optAddress("mx-ip", h.MXIP)
	e.text("reason", string(h.Reason))
	e.text("message", h.Message)
	e.optText("content-sent", string(h.ContentSent))
	e.end()
}

func (p *TLSPolicy) encode(e *encoder) {
	e.begin()
	e.optBool("require-tls", p.RequireTLS)
	e.optBool("skip-verification", p.SkipVerification)
	e.optText("require-tls-source", string(p.RequireTLSSource))
	e.optText("skip-verification-source", string(p.SkipVerificationSource))
	e.optText("require-tls-place", p.RequireTLSPlace)
	e.optText("skip-verification-place", p.SkipVerificationPlace)
	e.optText("tls-required", p.TLSRequired)
	e.optText("mta-sts-error", p.MTASTSError)
	if len(p.Floors) > 0 {
		e.key("floors")
		e.beginArray()
		for _, f := range p.Floors {
			e.comma()
			e.b = appendString(e.b, string(f))
		}
		e.endArray()
	}
	e.optText("demanded", string(p.Demanded))
	e.end()
}
