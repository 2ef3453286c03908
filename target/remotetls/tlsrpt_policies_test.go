package remotetls

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsrpt"
)

// TestReportsByPolicy: what recipients publish, found in a real DNS and on a real
// policy host, is what the session with them counts under.
func TestReportsByPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mailtest.Behaviour{}, "")
	cert, err := w.ca.Issue(mailtest.Good, "mx1.test", "mxd.test")
	if err != nil {
		t.Fatal(err)
	}
	w.mx.Set(mailtest.Behaviour{Certificate: &cert})
	host, err := mailtest.NewSTS(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	publish := func(domain string, policy ...string) {
		w.dns.MX(domain, 10, "mx1.test")
		if policy == nil {
			return
		}
		w.dns.TXT("_mta-sts."+domain, "v=STSv1; id=1;")
		w.dns.A("mta-sts."+domain, host.IP())
		if policy[0] != "" {
			host.Serve(domain, mailtest.STSPage{Body: "version: STSv1\nmode: " + policy[0] + "\nmx: " + policy[1] + "\nmax_age: 86400\n"})
		}
	}
	publish("plain.test")
	publish("kept.test", "enforce", "mx1.test")
	publish("testing.test", "testing", "other.test")
	publish("enforced.test", "enforce", "other.test")
	publish("missing.test", "")
	w.dns.MX("dane.test", 10, "mxd.test")
	w.dns.A("mxd.test", w.mx.IP())
	w.dns.TLSA(fmt.Sprintf("_%d._tcp.mxd.test", w.mx.Port()), 3, 1, 1, make([]byte, 32))
	w.dns.SetAuthenticated(true)

	w.Close()
	mod, err := New("target.remote_tls", "outbound", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Target = mod.(*Target)
	w.Target.log.Out = w.log
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := w.ca.WriteFile(ca); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := fmt.Sprintf("target.remote_tls outbound {\nhostname relay.example.com\nresolver %s\nport %d\nconn_reuse_limit 0\ntls_client {\nroot_ca %s\n}\n"+
		"mx_auth {\ndane\nmtasts {\ncache ram\nport %d\nroot_ca %s\nallow_private\n}\n}\n%stlsrpt {\nfrom a@relay.example.com\nmail no\ndir %s\n}\n}",
		w.dns.Addr(), w.mx.Port(), ca, host.Port(), ca, quiet, dir)
	if err := w.Init(config.NewMap(map[string]interface{}{"state_dir": t.TempDir()}, nodes(t, text)[0])); err != nil {
		t.Fatal(err)
	}
	// Without reuse, each message makes a session of its own.
	for domain, delivered := range map[string]bool{
		"plain.test": true, "kept.test": true, "testing.test": true, "enforced.test": false, "missing.test": true, "dane.test": false,
	} {
		d := w.begin(&module.MsgMetadata{ID: "1f7c"}, "a@example.com", "b@"+domain)
		if err := w.body(d); (err == nil) != delivered {
			t.Errorf("%s: %v", domain, err)
		}
	}
	w.Close()

	got := reported(t, dir)
	want := []string{
		"dane.test: tlsa mxd.test [3 1 1 " + strings.Repeat("00", 32) + "] 0/1 validation-failure dane-mismatch mxd.test",
		"enforced.test: sts enforced.test [version: STSv1|mode: enforce|mx: other.test|max_age: 86400] 0/1 validation-failure mta-sts-mx-mismatch mx1.test",
		"kept.test: sts kept.test [version: STSv1|mode: enforce|mx: mx1.test|max_age: 86400] 1/0",
		"missing.test: no-policy-found missing.test [] 1/0",
		"missing.test: sts missing.test [] 0/1 sts-policy-fetch-error",
		"plain.test: no-policy-found plain.test [] 1/0",
		"testing.test: sts testing.test [version: STSv1|mode: testing|mx: other.test|max_age: 86400] 0/1 validation-failure mta-sts-mx-mismatch mx1.test",
	}
	// Why a policy cannot be fetched is said in words that may change.
	same := func(got, want string) bool {
		return got == want || strings.HasSuffix(want, "fetch-error") && strings.HasPrefix(got, want)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestReportsWithoutPolicy: a domain that publishes nothing promises nothing about
// certificates, whatever our own policy makes of one.
func TestReportsWithoutPolicy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, mailtest.Behaviour{}, "conn_reuse_limit 0\ntlsrpt {\nfrom a@relay.example.com\nmail no\ndir "+dir+"\n}\n"+
		"policy {\nopportunistic_fallback plaintext\ndestination kept.test {\nopportunistic_fallback unverified\n}\n"+
		"destination required.test clear.test {\nrequire_tls yes\n}\n}")
	cert, err := w.ca.Issue(mailtest.SelfSigned, "mx1.test")
	if err != nil {
		t.Fatal(err)
	}
	send := func(domain string, delivered, tls bool) {
		t.Helper()
		w.dns.MX(domain, 10, "mx1.test")
		err := w.body(w.begin(&module.MsgMetadata{ID: "1f7c"}, "a@example.com", "b@"+domain))
		if (err == nil) != delivered {
			t.Errorf("%s: %v", domain, err)
		}
		if all := w.mx.Messages(); delivered && all[len(all)-1].TLS != tls {
			t.Errorf("%s: in TLS: %v", domain, !tls)
		}
	}
	send("clear.test", false, false)
	send("optional.test", true, false)
	w.mx.Set(mailtest.Behaviour{Certificate: &cert})
	send("kept.test", true, true)
	send("fallback.test", true, false)
	send("required.test", false, false)
	w.Close()

	want := []string{
		"clear.test: no-policy-found clear.test [] 0/1 starttls-not-supported  mx1.test",
		"fallback.test: no-policy-found fallback.test [] 1/0",
		"kept.test: no-policy-found kept.test [] 1/0",
		"optional.test: no-policy-found optional.test [] 0/1 starttls-not-supported  mx1.test",
		"required.test: no-policy-found required.test [] 1/0",
	}
	if got := reported(t, dir); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// reported is what was counted just now, in short.
func reported(t *testing.T, dir string) (all []string) {
	t.Helper()
	for _, day := range []time.Time{time.Now(), time.Now().Add(-time.Minute)} { // midnight may have passed
		docs, err := tlsrpt.Source{Dir: dir, Sender: tlsrpt.Sender{From: "a@relay.example.com"}}.Read(t.Context(), day)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lines(docs)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lines are reports in short, a line for each policy.
func lines(docs []tlsrpt.Document) (all []string) {
	for _, d := range docs {
		for _, p := range d.Policies {
			line := fmt.Sprintf("%s: %s %s [%s] %d/%d", d.Domain, p.Policy.Type, p.Policy.Domain, strings.Join(p.Policy.String, "|"),
				p.Summary.TotalSuccessfulSessionCount, p.Summary.TotalFailureSessionCount)
			for _, f := range p.FailureDetails {
				line += strings.TrimRight(fmt.Sprintf(" %s %s %s", f.ResultType, f.FailureReasonCode, f.ReceivingMXHostname), " ")
			}
			all = append(all, line)
		}
	}
	return all
}
