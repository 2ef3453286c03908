package delivery_test

import (
	"sync/atomic"
	"testing"
	"time"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// silent is a host that takes in whatever comes and never answers MAIL.
func silent(copies *atomic.Int32) func(*peer) {
	return func(p *peer) {
		p.hello("PIPELINING", "CHUNKING")
		if p.message(nil) {
			copies.Add(1)
		}
		p.message(nil)
	}
}

// breaking is a host that says yes to MAIL, takes in what came with it and is
// gone.
func breaking(copies *atomic.Int32) func(*peer) {
	return func(p *peer) {
		p.hello("PIPELINING", "CHUNKING")
		whole := p.message(func(verb string) {
			switch verb {
			case "MAIL":
				p.say("250 2.1.0 ok")
			case "RCPT":
				// What is in this flight is here already, or nearly so.
				_ = p.SetReadDeadline(time.Now().Add(time.Second))
			}
		})
		if whole {
			copies.Add(1)
		}
	}
}

// impatient does not wait long for a reply to a command.
func impatient(c *delivery.Config) { c.Wire.Timeouts.Command = 2 * time.Second }

// TestTakenWithoutAWord: a host that breaks off in a flight may have the whole
// message. The next ones get the envelope first, so that it stays with that copy.
func TestTakenWithoutAWord(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]func(*atomic.Int32) func(*peer){
		"silent": silent, "breaking": breaking,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var copies atomic.Int32
			w, raw := rawWorld(t, impatient, host(&copies), host(&copies), host(&copies))
			if f := w.sendOne(); f == nil || f.Code != 451 {
				t.Errorf("%s, want a temporary failure", code(f))
			}
			if a := w.last(); len(a.Hosts) != 3 {
				t.Errorf("hosts %+v, want all three", a.Hosts)
			}
			w.eventually("the hosts are done", func() bool { _, open := raw.count(); return open == 0 })
			if n := copies.Load(); n != 1 {
				t.Errorf("%d copies arrived, want the one of the first flight", n)
			}
		})
		t.Run(name+", the next one is well", func(t *testing.T) {
			t.Parallel()
			var copies, envelopes atomic.Int32
			w, raw := rawWorld(t, impatient, host(&copies), func(p *peer) {
				p.hello("PIPELINING", "CHUNKING")
				p.message(func(verb string) {
					if verb == "RCPT" {
						// Only now may the message come.
						_ = p.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
						if _, err := p.r.Peek(1); err != nil {
							envelopes.Add(1)
						}
						_ = p.SetReadDeadline(time.Time{})
						p.say("250 2.1.0 ok", "250 2.1.5 ok")
					}
				})
				copies.Add(1)
				p.say("250 2.0.0 taken")
			})
			if f := w.sendOne(); f != nil {
				t.Errorf("%s, want delivered", code(f))
			}
			w.Engine.Close()
			w.eventually("the hosts are done", func() bool { _, open := raw.count(); return open == 0 })
			if copies.Load() != 2 || envelopes.Load() != 1 {
				t.Errorf("%d copies, want two; %d envelopes alone, want one", copies.Load(), envelopes.Load())
			}
		})
	}
}

// TestTakenOnce: a host that broke off in a flight gets the envelope first in
// later attempts, of this message and of others.
func TestTakenOnce(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]func(*atomic.Int32) func(*peer){
		"silent": silent, "breaking": breaking,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var copies atomic.Int32
			w, raw := rawWorld(t, impatient, host(&copies))
			for range 2 {
				if f := w.sendOne(); f == nil || f.Code != 451 {
					t.Errorf("%s, want a temporary failure", code(f))
				}
			}
			w.eventually("the host is done", func() bool { _, open := raw.count(); return open == 0 })
			if n, total := copies.Load(), 0; n != 1 {
				total, _ = raw.count()
				t.Errorf("%d copies over %d connections in two attempts, want one", n, total)
			}
		})
	}
}

// TestSurplusMakesCareful: a host that gave one reply too many gets the envelope
// first from then on, so that its replies are told apart.
func TestSurplusMakesCareful(t *testing.T) {
	t.Parallel()
	var sessions, alone atomic.Int32
	w, _ := rawWorld(t, nil, func(p *peer) {
		second := sessions.Add(1) > 1
		p.hello("PIPELINING", "CHUNKING")
		p.message(func(verb string) {
			if verb != "RCPT" {
				return
			}
			if second {
				_ = p.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := p.r.Peek(1); err != nil {
					alone.Add(1)
				}
				_ = p.SetReadDeadline(time.Time{})
			}
			p.say("250 2.1.0 ok", "250 2.1.5 ok")
		})
		if second {
			p.say("250 2.0.0 taken")
		} else {
			p.say("250 2.1.5 ok again", "250 2.0.0 taken")
		}
	})
	for range 2 {
		if f := w.sendOne(); f != nil {
			t.Errorf("%s, want delivered", code(f))
		}
	}
	if sessions.Load() != 2 || alone.Load() != 1 {
		t.Errorf("%d sessions, want two; %d envelopes alone, want one", sessions.Load(), alone.Load())
	}
}

// TestNeitherYesNorNo: a reply to STARTTLS that is neither 220 nor a refusal is
// a broken handshake.
func TestNeitherYesNorNo(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"250 2.0.0 go on", "354 go ahead", "211 what?"} {
		host := func() hostFunc { return good(func(b *mailtest.Behaviour) { b.STARTTLSReply = answer }) }
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil, host())
			if f := w.sendOne(); f != nil {
				t.Fatalf("opportunistic: %s", code(f))
			}
			a := w.last()
			if a.Fallback != tlsplan.TLSHandshake || a.Connection.Outcome.TLS || w.mx[0].Connections() != 2 {
				t.Errorf("opportunistic: fallback %q, %+v, %d connections", a.Fallback, a.Connection, w.mx[0].Connections())
			}
			first := w.mx[0].Sessions()[0].Commands
			if last := first[len(first)-1]; last != "C: STARTTLS" {
				t.Errorf("after the reply to STARTTLS came %q", last)
			}

			w = newWorld(t, settings(policy.Settings{RequireTLS: true}), host(), host())
			if got := code(w.sendOne()); got != "451 4.7.5 tls-handshake" {
				t.Errorf("required: %s", got)
			}
			if len(w.last().Hosts) != 2 || w.mx[0].Connections() != 1 || w.mx[1].Connections() != 1 {
				t.Errorf("required: hosts %+v, want each tried once", w.last().Hosts)
			}
			w.neverInClear()
		})
	}
}
