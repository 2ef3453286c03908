package delivery_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// remembering is a configuration with a memory and a policy that can change.
// Connections are not reused, unless more says so.
type remembering struct {
	policy switching
	cfg    delivery.Config
}

func (r *remembering) with(action downgrade.Action, path string, more ...func(*delivery.Config)) func(*delivery.Config) {
	r.policy.set(policy.Settings{})
	return func(c *delivery.Config) {
		c.ReuseLimit = 0
		// A resumed session has the certificate of its first handshake, and whether
		// its ticket has come by now is not certain.
		c.TLS.SessionTicketsDisabled = true
		c.Policies = &r.policy
		c.Memory = downgrade.Config{Path: path, Keep: 30 * 24 * time.Hour, Action: action, Interval: time.Millisecond}
		for _, m := range more {
			m(c)
		}
		r.cfg = *c
	}
}

// expected is the downgrade in short.
func expected(d *delivery.Downgrade) string {
	if d == nil {
		return "none"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s %s", d.Action, d.Host, d.Expected.Level, d.Expected.By))
}

// less is what hosts may do that offered good TLS before: what becomes of a
// message with downgrade_action log and of one with defer, and with how many
// connections.
var less = map[string]struct {
	host        hostFunc
	log, defers string
	logDials    int
}{
	"no STARTTLS":      {inClear(), "in clear", "451 4.7.4 tls-not-offered", 1},
	"STARTTLS hidden":  {good(func(b *mailtest.Behaviour) { b.HideSTARTTLS = true }), "in clear", "451 4.7.4 tls-not-offered", 1},
	"STARTTLS refused": {good(func(b *mailtest.Behaviour) { b.STARTTLSReply = "454 4.7.0 not now" }), "in clear", "451 4.7.4 tls-rejected", 1},
	"broken handshake": {good(func(b *mailtest.Behaviour) { b.Handshake = "garbage" }), "in clear", "451 4.7.5 tls-handshake", 2},
	"self-signed":      {withCert(mailtest.SelfSigned), "in clear", "451 4.7.5 certificate-untrusted", 2},
	"expired":          {withCert(mailtest.Expired), "in clear", "451 4.7.5 certificate-expired", 2},
	"wrong name":       {withCert(mailtest.WrongName), "in clear", "451 4.7.5 certificate-name-mismatch", 2},
	"good":             {good(), "pkix", "pkix", 1},
}

// TestLessThanBefore: a host proves a good certificate, and then gives less, with
// a restart in between.
func TestLessThanBefore(t *testing.T) {
	t.Parallel()
	for name, tt := range less {
		for _, action := range []downgrade.Action{downgrade.Log, downgrade.Defer} {
			t.Run(name+", "+string(action), func(t *testing.T) {
				t.Parallel()
				var r remembering
				w := newWorld(t, r.with(action, downgrade.File(t.TempDir(), "outbound")), good())
				if f := w.sendOne(); f != nil || w.last().Downgrade != nil {
					t.Fatalf("%s, %s", code(f), expected(w.last().Downgrade))
				}
				w.Close()
				r.cfg.Routes = route.NewResolver([]string{w.dns.Addr()})
				w.Engine = delivery.New(r.cfg)
				t.Cleanup(w.Engine.Close)

				before := w.mx[0].Connections()
				w.mx[0].Set(tt.host(w, hostName(0)))
				status, want, dials := w.result(), tt.log, tt.logDials
				if action == downgrade.Defer {
					want, dials = tt.defers, 1
					w.neverInClear()
				}
				if status != want {
					t.Errorf("%s, want %s", status, want)
				}
				if n := w.mx[0].Connections() - before; n != dials {
					t.Errorf("%d connections, want %d", n, dials)
				}
				wantDowngrade := string(action) + " mx1.test: verified pkix"
				if name == "good" {
					wantDowngrade = "none"
				}
				a := w.last()
				if got := expected(a.Downgrade); got != wantDowngrade {
					t.Errorf("downgrade %s, want %s", got, wantDowngrade)
				}
				if action == downgrade.Defer && name != "good" && !strings.Contains(a.Description, "mx1.test gave verified TLS on ") {
					t.Errorf("description %q", a.Description)
				}
				if a.Plan.Demand != tlsplan.Opportunistic {
					t.Errorf("the plan told is %+v, not that of the sender", a.Plan)
				}
			})
		}
	}
}

// result sends a message and says in a word what became of it.
func (w *world) result() string {
	w.Helper()
	if f := w.sendOne(); f != nil {
		return code(f)
	}
	switch o := w.last().Connection.Outcome; {
	case !o.TLS:
		return "in clear"
	case !o.Verified():
		return "unverified"
	default:
		return string(o.Verification)
	}
}

// TestWhoExpectsWhat: settings decide what falls short of what was proved.
func TestWhoExpectsWhat(t *testing.T) {
	t.Parallel()
	skip := policy.Settings{SkipVerification: true}
	keep := policy.Settings{Fallback: policy.Unverified}
	required := policy.Settings{RequireTLS: true, OnFailure: policy.Reject}
	for _, tt := range []struct {
		name      string
		action    downgrade.Action
		proof     hostFunc
		then      hostFunc
		settings  policy.Settings
		status    string
		downgrade string
	}{
		{"skip, log", downgrade.Log, good(), withCert(mailtest.SelfSigned), skip, "unverified", "none"},
		{"skip, defer", downgrade.Defer, good(), withCert(mailtest.SelfSigned), skip, "unverified", "none"},
		{"skip in clear, log", downgrade.Log, good(), inClear(), skip, "in clear", "log mx1.test: tls"},
		{"skip in clear, defer", downgrade.Defer, good(), inClear(), skip, "451 4.7.4 tls-not-offered", "defer mx1.test: tls"},
		{"fallback unverified, log", downgrade.Log, good(), withCert(mailtest.SelfSigned), keep, "unverified", "log mx1.test: verified pkix"},
		{"fallback unverified, defer", downgrade.Defer, good(), withCert(mailtest.SelfSigned), keep,
			"451 4.7.5 certificate-untrusted", "defer mx1.test: verified pkix"},
		{"never verified, fallback unverified", downgrade.Defer, withCert(mailtest.SelfSigned), withCert(mailtest.SelfSigned), keep, "unverified", "none"},
		// It would go in clear by itself, over a certificate no worse than before.
		{"never verified, fallback plaintext, log", downgrade.Log, withCert(mailtest.SelfSigned), withCert(mailtest.SelfSigned),
			policy.Settings{}, "in clear", "none"},
		{"never verified, and now in clear, log", downgrade.Log, withCert(mailtest.SelfSigned), inClear(),
			policy.Settings{}, "in clear", "log mx1.test: tls"},
		{"never verified, fallback plaintext, defer", downgrade.Defer, withCert(mailtest.SelfSigned), withCert(mailtest.SelfSigned),
			policy.Settings{}, "unverified", "none"},
		{"a stricter policy says itself what it wants", downgrade.Defer, good(), inClear(), required, "550 5.7.4 tls-not-offered", "none"},
		{"on_failure reject does not bounce for the memory", downgrade.Defer, good(), inClear(),
			policy.Settings{OnFailure: policy.Reject}, "451 4.7.4 tls-not-offered", "defer mx1.test: verified pkix"},
		{"clear text proves nothing", downgrade.Defer, inClear(), inClear(), keep, "in clear", "none"},
		{"off", downgrade.Off, good(), inClear(), keep, "in clear", "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r remembering
			w := newWorld(t, r.with(tt.action, ""), tt.proof)
			r.policy.set(skip)
			if f := w.sendOne(); f != nil {
				t.Fatal(code(f))
			}
			r.policy.set(tt.settings)
			w.mx[0].Set(tt.then(w, hostName(0)))
			if got := w.result(); got != tt.status {
				t.Errorf("%s, want %s", got, tt.status)
			}
			if got := expected(w.last().Downgrade); got != tt.downgrade {
				t.Errorf("downgrade %s, want %s", got, tt.downgrade)
			}
		})
	}
}

// TestMemoryIsAShadow: with log nothing changes on the wire, nor in any status.
func TestMemoryIsAShadow(t *testing.T) {
	t.Parallel()
	type story struct {
		Statuses []string
		Dialogue [][]string
	}
	for name, tt := range less {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stories []story
			for _, action := range []downgrade.Action{downgrade.Off, downgrade.Log} {
				var (
					r remembering
					s story
				)
				w := newWorld(t, r.with(action, "", func(c *delivery.Config) { c.ReuseLimit = 10 }), good(), good())
				for _, set := range []policy.Settings{
					{}, {SkipVerification: true}, {Fallback: policy.Unverified}, {RequireTLS: true}, {},
				} {
					r.policy.set(set)
					s.Statuses = append(s.Statuses, w.result())
					for _, h := range w.last().Hosts {
						s.Statuses = append(s.Statuses, "after "+h.Host+": "+string(h.Reason)+": "+h.Text)
					}
					w.eventually("no connection is busy", w.rec.quiet)
					w.mx[0].Set(tt.host(w, hostName(0)))
				}
				w.Close()
				for _, m := range w.mx {
					for _, session := range m.Sessions() {
						s.Dialogue = append(s.Dialogue, session.Commands)
					}
				}
				stories = append(stories, s)
			}
			if diff := cmp.Diff(stories[0], stories[1]); diff != "" {
				t.Errorf("(-off +log):\n%s", diff)
			}
		})
	}
}

// TestDeferTriesTheNextHost: the memory is about one host, not the domain.
func TestDeferTriesTheNextHost(t *testing.T) {
	t.Parallel()
	var r remembering
	w := newWorld(t, r.with(downgrade.Defer, ""), good(), good())
	if got := w.result(); got != "pkix" {
		t.Fatal(got)
	}
	w.mx[0].Set(inClear()(w, hostName(0)))
	if got := w.result(); got != "pkix" || w.last().Connection.Host != "mx2.test" {
		t.Errorf("%s on %+v", got, w.last().Connection)
	}
	a := w.last()
	if got := expected(a.Downgrade); got != "defer mx1.test: verified pkix" {
		t.Errorf("downgrade %s", got)
	}
	if len(a.Hosts) != 1 || a.Hosts[0].Reason != tlsplan.TLSNotOffered {
		t.Errorf("hosts %+v", a.Hosts)
	}
	w.mx[1].Set(inClear()(w, hostName(1)))
	if got := w.result(); got != "451 4.7.4 tls-not-offered" || expected(w.last().Downgrade) != "defer mx1.test: verified pkix" {
		t.Errorf("%s, %s", got, expected(w.last().Downgrade))
	}
	w.neverInClear()
}

// TestDeferAndThePool: a connection in clear that was good enough when it was made
// serves nobody any more once the host proved better.
func TestDeferAndThePool(t *testing.T) {
	t.Parallel()
	var r remembering
	w := newWorld(t, r.with(downgrade.Defer, "", func(c *delivery.Config) { c.ReuseLimit = 10 }), inClear())
	if got := w.result(); got != "in clear" {
		t.Fatal(got)
	}
	w.eventually("it is idle", func() bool { return w.rec.idleNow() == 1 })
	// Under TLS a connection carries one message and is closed (RFC 9422), so
	// that only the one in clear is idle.
	once := good(func(b *mailtest.Behaviour) {
		b.ExtensionsTLS = append(mailtest.DefaultExtensions(), "LIMITS MAILMAX=1")
	})
	w.mx[0].Set(once(w, hostName(0)))
	r.policy.set(policy.Settings{RequireTLS: true})
	if got := w.result(); got != "pkix" {
		t.Fatal(got)
	}
	r.policy.set(policy.Settings{})
	for range 2 {
		if got := w.result(); got != "pkix" {
			t.Errorf("%s after the host had proved better", got)
		}
	}
	if w.rec.idleNow() != 1 {
		t.Error("there was no connection in clear to be tempted by")
	}
	if n := w.mx[0].Connections(); n != 4 {
		t.Errorf("%d connections", n)
	}
}

// TestNotOfStaleConnections: nobody needs to hear of an idle connection in clear
// that the host had closed, once a better one took its place.
func TestNotOfStaleConnections(t *testing.T) {
	t.Parallel()
	var r remembering
	closes := func(b *mailtest.Behaviour) { b.AfterMessages, b.AfterReply = 1, "eof" }
	w := newWorld(t, r.with(downgrade.Log, "", func(c *delivery.Config) { c.ReuseLimit = 10 }), inClear(closes))
	if got := w.result(); got != "in clear" {
		t.Fatal(got)
	}
	w.eventually("it is idle", func() bool { return w.rec.idleNow() == 1 })
	w.mx[0].Set(good(closes, func(b *mailtest.Behaviour) {
		b.ExtensionsTLS = append(mailtest.DefaultExtensions(), "LIMITS MAILMAX=1")
	})(w, hostName(0)))
	r.policy.set(policy.Settings{RequireTLS: true})
	if got := w.result(); got != "pkix" {
		t.Fatal(got)
	}
	r.policy.set(policy.Settings{})
	if got := w.result(); got != "pkix" || w.last().Downgrade != nil {
		t.Errorf("%s, downgrade %s", got, expected(w.last().Downgrade))
	}
	if n := w.mx[0].Connections(); n != 3 || w.rec.idleNow() != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestForget: an operator lets a host go while mail waits for it, and it may
// prove itself again.
func TestForget(t *testing.T) {
	t.Parallel()
	var r remembering
	path := downgrade.File(t.TempDir(), "outbound")
	w := newWorld(t, r.with(downgrade.Defer, path), good())
	if got := w.result(); got != "pkix" {
		t.Fatal(got)
	}
	w.mx[0].Set(inClear()(w, hostName(0)))
	if got := w.result(); got != "451 4.7.4 tls-not-offered" {
		t.Fatal(got)
	}
	w.eventually("it is on disk", func() bool { all, _, _ := downgrade.Read(path); return len(all) == 1 })
	if err := downgrade.Forget(path, []string{"mx1.test"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("mail flows again", func() bool { return w.result() == "in clear" })
	if d := w.last().Downgrade; d != nil {
		t.Errorf("downgrade %s", expected(d))
	}
	w.mx[0].Set(good()(w, hostName(0)))
	if got := w.result(); got != "pkix" {
		t.Fatal(got)
	}
	w.mx[0].Set(inClear()(w, hostName(0)))
	if got := w.result(); got != "451 4.7.4 tls-not-offered" {
		t.Error(got)
	}
}

// TestStrangerProvesNothing: who is in between cannot teach us that a host has a
// certificate, and a refused handshake proves nothing at all.
func TestStrangerProvesNothing(t *testing.T) {
	t.Parallel()
	var r remembering
	w := newWorld(t, r.with(downgrade.Defer, ""), withCert(mailtest.UnknownCA))
	r.policy.set(policy.Settings{RequireTLS: true})
	if got := w.result(); got != "451 4.7.5 certificate-untrusted" {
		t.Fatal(got)
	}
	r.policy.set(policy.Settings{})
	for range 2 {
		if got := w.result(); got != "in clear" || w.last().Downgrade != nil {
			t.Errorf("%s, %s", got, expected(w.last().Downgrade))
		}
	}
}

// TestMemoryOfDANE: TLSA records that are not there any more, and a certificate
// that only they proved. A message that would rather arrive does.
func TestMemoryOfDANE(t *testing.T) {
	t.Parallel()
	var (
		r    remembering
		seen shows
	)
	w := newWorld(t, r.with(downgrade.Defer, downgrade.File(t.TempDir(), "outbound"), withDANE(lifting)), seen.host(mailtest.SelfSigned))
	w.dns.SetAuthenticated(true)
	w.publish(hostName(0), 3, 1, 1, seen.cert.Leaf)
	if got := w.result(); got != "dane-ee" {
		t.Fatal(got)
	}
	w.Close()
	w.dns.Remove(w.tlsaName(hostName(0)))
	r.cfg.Routes = route.NewResolver([]string{w.dns.Addr()}) // with an empty cache
	w.Engine = delivery.New(r.cfg)
	t.Cleanup(w.Engine.Close)

	if got := w.result(); got != "451 4.7.5 certificate-untrusted" {
		t.Error(got)
	}
	if got := expected(w.last().Downgrade); got != "defer mx1.test: verified dane-ee" {
		t.Errorf("downgrade %s", got)
	}
	w.neverInClear()

	m := headerWith(message("b@example.net"), "TLS-Required", "No")
	if f := failure(t, w.send(t.Context(), m)["b@example.net"]); f != nil {
		t.Error(code(f))
	}
	if got := expected(w.last().Downgrade); got != "log mx1.test: verified dane-ee" {
		t.Errorf("downgrade %s", got)
	}
}

func (r *recorder) idleNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

func (r *recorder) quiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy == 0
}
