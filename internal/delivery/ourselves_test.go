package delivery_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/policy"
)

const (
	usGreeting = "220 relay.example.com ESMTP Service Ready"
	loops      = "554 5.4.6 mx-lookup"
)

// us is a host that greets as we do.
func us() hostFunc { return good(func(b *mailtest.Behaviour) { b.Greeting = usGreeting }) }

// knowsItself is what target.remote_tls sets on port 25.
func knowsItself(c *delivery.Config) { c.OwnNames = []string{"relay.example.com", "mx.example.com"} }

// Names by which a host is ourselves, and those by which it is not.
func TestOwnName(t *testing.T) {
	t.Parallel()
	greeting := func(text string) func(*mailtest.Behaviour) {
		return func(b *mailtest.Behaviour) { b.Greeting = text }
	}
	for name, tt := range map[string]struct {
		host hostFunc
		want string
	}{
		"greeting":             {us(), loops},
		"in clear":             {inClear(greeting(usGreeting)), loops},
		"name alone":           {good(greeting("220 relay.example.com")), loops},
		"many lines":           {good(greeting("220-relay.example.com\n220 at your service")), loops},
		"other case and a dot": {good(greeting("220 Relay.EXAMPLE.com. ESMTP")), loops},
		"the other name":       {good(greeting("220 mx.example.com ESMTP")), loops},
		"reply to EHLO":        {good(reply("ehlo", "250-relay.example.com Hello\n250 PIPELINING")), loops},
		"reply to HELO": {inClear(func(b *mailtest.Behaviour) {
			b.HELOOnly = true
			b.Replies = map[string]string{"helo": "250 relay.example.com"}
		}), loops},
		"greets us by our name": {good(reply("ehlo", "250-Hello relay.example.com\n250 PIPELINING"), greeting("220 mx1.test, not relay.example.com")), "delivered"},
		"longer name":           {good(greeting("220 relay.example.com.mx1.test ESMTP")), "delivered"},
		"shorter name":          {good(greeting("220 example.com ESMTP")), "delivered"},
		"no name":               {good(greeting("220 ")), "delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, knowsItself, tt.host)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if tt.want == loops {
				w.neverInClear()
			}
		})
	}
}

// Who does not say who he is meets nobody who is him.
func TestWithoutOwnNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, us())
	if f := w.sendOne(); f != nil {
		t.Error(f)
	}
}

// The rule of RFC 5321, section 5.1: this server and what is not preferred over it
// are left out; if nothing is left, the mail should have ended here.
func TestLoop(t *testing.T) {
	t.Parallel()
	down := good(func(b *mailtest.Behaviour) { b.Greeting = "421 4.3.2 later" })
	for name, tt := range map[string]struct {
		hosts   []hostFunc
		equal   bool // all hosts have the same preference
		want    string
		untried []int
	}{
		"alone":                 {[]hostFunc{us()}, false, loops, nil},
		"before others":         {[]hostFunc{us(), good()}, false, loops, []int{1}},
		"after a good one":      {[]hostFunc{good(), us()}, false, "delivered", []int{1}},
		"after one in trouble":  {[]hostFunc{down, us(), good()}, false, "421 4.3.2 connect", []int{2}},
		"beside one in trouble": {[]hostFunc{us(), down}, true, loops, nil},
		"twice":                 {[]hostFunc{us(), us()}, true, loops, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, knowsItself, tt.hosts...)
			if tt.equal {
				w.dns.Remove("example.net")
				for i := range tt.hosts {
					w.dns.MX("example.net", 10, hostName(i))
				}
			}
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, i := range tt.untried {
				if n := len(w.mx[i].Sessions()); n != 0 {
					t.Errorf("%d connections to %s", n, hostName(i))
				}
			}
			for i, m := range w.mx {
				if n := len(m.Messages()); n != 0 && tt.want != "delivered" {
					t.Errorf("%d messages at %s", n, hostName(i))
				}
			}
			w.tellsOfLoop(tt.want)
		})
	}
}

// Where a host must prove who it is, nobody is believed in clear that it is this
// server: the host fails for now, and the others are tried.
func TestForgedName(t *testing.T) {
	t.Parallel()
	verified, encrypted := policy.Settings{RequireTLS: true}, policy.Settings{RequireTLS: true, SkipVerification: true}
	for name, tt := range map[string]struct {
		settings policy.Settings
		hosts    []hostFunc
		want     string
	}{
		"alone":               {verified, []hostFunc{us()}, "451 4.4.6 mx-lookup"},
		"others are tried":    {verified, []hostFunc{us(), good()}, "delivered"},
		"and fail for good":   {verified, []hostFunc{us(), good(reply("greeting", "554 5.3.2 no"))}, "451 4.4.6 mx-lookup"},
		"rejects nothing":     {policy.Settings{RequireTLS: true, OnFailure: policy.Reject}, []hostFunc{us()}, "451 4.4.6 mx-lookup"},
		"any certificate":     {encrypted, []hostFunc{us(), good()}, loops},
		"TLS if there is any": {policy.Settings{Fallback: policy.Unverified}, []hostFunc{us(), good()}, loops},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *delivery.Config) {
				knowsItself(c)
				c.Policies = static(tt.settings)
			}, tt.hosts...)
			if got := code(w.sendOne()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			w.neverInClear()
		})
	}
}

// tellsOfLoop looks at what observers get to know.
func (w *world) tellsOfLoop(want string) {
	w.Helper()
	if want != loops {
		return
	}
	a := w.last()
	met := slices.IndexFunc(a.Hosts, func(h delivery.HostFailure) bool {
		return strings.HasSuffix(h.Text, " greets as relay.example.com, which is this server") && h.IP.IsValid()
	})
	if met < 0 || a.Result != delivery.Permanent || a.Connection == nil || a.Connection.Host != a.Hosts[met].Host {
		w.Errorf("hosts %+v, connection %+v", a.Hosts, a.Connection)
	}
	if a.Message != "Mail for example.net loops back to this host" {
		w.Errorf("message %q", a.Message)
	}
}

// The connection to ourselves ends politely and is not kept.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, knowsItself, us())
	for range 2 {
		if got := code(w.sendOne()); got != loops {
			t.Error(got)
		}
	}
	w.Close()
	for _, s := range w.mx[0].Sessions() {
		if want := []string{"C: EHLO relay.example.com", "C: QUIT"}; !slices.Equal(s.Commands, want) {
			t.Errorf("commands %q, want %q", s.Commands, want)
		}
	}
	if n := len(w.mx[0].Sessions()); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// With a look at the hosts an explanation says the same.
func TestExplainLoop(t *testing.T) {
	t.Parallel()
	down := good(func(b *mailtest.Behaviour) { b.Greeting = "421 4.3.2 later" })
	for name, tt := range map[string]struct {
		hosts []hostFunc
		want  string
		via   int
		ours  []bool // flagged as passed over
	}{
		"alone":                {[]hostFunc{us()}, loops, -1, []bool{false}},
		"before others":        {[]hostFunc{us(), good(), down}, loops, -1, []bool{false, true, true}},
		"after a good one":     {[]hostFunc{good(), us(), good()}, "delivered", 0, []bool{false, false, true}},
		"after one in trouble": {[]hostFunc{down, us(), good()}, "421 4.3.2 connect", -1, []bool{false, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, knowsItself, tt.hosts...)
			ctx, cancel := context.WithTimeout(context.Background(), hang)
			defer cancel()
			x, err := w.Explain(ctx, delivery.Question{Message: message("b@example.net"), Probe: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := code(x.Failure); got != tt.want || x.Via != tt.via {
				t.Errorf("%s via %d, want %s via %d", got, x.Via, tt.want, tt.via)
			}
			for i, h := range x.Hosts {
				if h.Ours != tt.ours[i] {
					t.Errorf("%s: passed over %v", h.Name, h.Ours)
				}
			}
			if sent := code(w.sendOne()); sent != tt.want {
				t.Errorf("explained %s, but sent %s", tt.want, sent)
			}
		})
	}
}
