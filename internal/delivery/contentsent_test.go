package delivery_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/tlsplan"
)

// TestContentSent: an attempt says under what protection the text of the message
// left, whatever became of it: the word of the first host, which fails at some step,
// is held against what came in at its socket.
func TestContentSent(t *testing.T) {
	t.Parallel()
	extensions := map[string][]string{
		"one flight": {"PIPELINING", "CHUNKING"}, "chunk": {"CHUNKING"}, "pipelined": {"PIPELINING"}, "plain": {"8BITMIME"},
	}
	hosts := map[tlsplan.Protection]func(...func(*mailtest.Behaviour)) func(*world, string) mailtest.Behaviour{
		tlsplan.ProtectionClear:    inClear,
		tlsplan.ProtectionVerified: good,
		tlsplan.ProtectionUnverified: func(more ...func(*mailtest.Behaviour)) func(*world, string) mailtest.Behaviour {
			return withCert(mailtest.SelfSigned, more...)
		},
	}
	steps := map[string]string{
		"none": "", "mail": "450 4.3.0 later", "mail eof": "eof", "rcpt": "550 5.1.1 nobody", "rcpt eof": "eof",
		"data": "451 4.3.0 later", "body": "554 5.7.1 spam", "body eof": "eof",
	}
	for ext, keywords := range extensions {
		for step, answer := range steps {
			t.Run(ext+"/"+step, func(t *testing.T) {
				t.Parallel()
				left := make(map[tlsplan.Protection]bool)
				for protection, host := range hosts {
					w := newWorld(t, settings(policy.Settings{Fallback: policy.Unverified}), host(func(b *mailtest.Behaviour) {
						b.ExtensionsClear, b.ExtensionsTLS = keywords, keywords
						if name, _, _ := strings.Cut(step, " "); answer != "" {
							b.Replies = map[string]string{name: answer}
						}
					}), good())
					w.send(context.Background(), message("b@example.net"))
					w.contentSent(protection)
					for _, h := range w.last().Hosts {
						left[protection] = left[protection] || h.Sent != ""
					}
				}
				if left[tlsplan.ProtectionUnverified] != left[tlsplan.ProtectionClear] || left[tlsplan.ProtectionVerified] != left[tlsplan.ProtectionClear] {
					t.Errorf("what leaves in clear and over TLS is not the same: %v", left)
				}
			})
		}
	}
}

// contentSent holds the last attempt against what came in at the first host, to which
// connections give protection. Over TLS nobody sees what does.
func (w *world) contentSent(protection tlsplan.Protection) {
	w.Helper()
	a := w.last()
	var there tlsplan.Protection // what the attempt says of the first host
	first := a.Connection != nil && a.Connection.Host == hostName(0)
	for _, h := range a.Hosts {
		if h.Host == hostName(0) {
			there = tlsplan.Weaker(there, h.Sent)
		}
	}
	if first {
		there = a.ContentSent
	} else if a.Result == delivery.Delivered && a.ContentSent != tlsplan.Weaker(there, tlsplan.ProtectionVerified) {
		w.Errorf("%s: sent %q to all, %q to the first host", protection, a.ContentSent, there)
	}
	if there != "" && there != protection {
		w.Errorf("%s: sent %q to the first host", protection, there)
	}
	if protection != tlsplan.ProtectionClear {
		return
	}
	var seen bool
	w.Close() // ends idle sessions
	w.eventually("the sessions with the first host have ended", func() bool {
		seen = false
		for _, s := range w.mx[0].Sessions() {
			if !s.Closed {
				return false
			}
			seen = seen || bytes.Contains(s.ClearBytes, []byte("a secret"))
		}
		return true
	})
	if said := there != ""; said != seen {
		w.Errorf("in clear: it says %q, and the text came in: %v\n%s", there, seen, fmt.Sprint(a.Message, a.Hosts))
	}
}

// TestContentSentIntoAnIdleConnection: an idle connection in clear takes the text and
// ends, and the message is delivered over a fresh one with a good certificate. The
// document names the host to which it went in clear.
func TestContentSentIntoAnIdleConnection(t *testing.T) {
	t.Parallel()
	end := func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "eof" }
	w := newWorld(t, nil, inClear(end))
	if f := w.sendOne(); f != nil || w.last().ContentSent != tlsplan.ProtectionClear {
		t.Fatalf("%s, sent %q", code(f), w.last().ContentSent)
	}
	w.mx[0].Set(good(end)(w, hostName(0))) // on connections to come
	if f := w.sendOne(); f != nil {
		t.Fatal(code(f))
	}
	a := w.last()
	if !a.Connection.Outcome.Verified() || a.ContentSent != tlsplan.ProtectionClear ||
		len(a.Hosts) != 1 || a.Hosts[0].Host != hostName(0) || a.Hosts[0].Sent != tlsplan.ProtectionClear {
		t.Errorf("sent %q over %+v, hosts %+v", a.ContentSent, a.Connection, a.Hosts)
	}
}
