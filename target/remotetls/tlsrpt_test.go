package remotetls

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/log"
	"github.com/foxcpp/maddy/framework/module"
	mox "github.com/mjl-/mox/tlsrpt"

	"tlscontrol/internal/mailtest"
	"tlscontrol/internal/tlsrpt"
)

// newKey writes a DKIM key as modify.dkim does and returns it with its file.
func newKey(t *testing.T) (crypto.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, writePEM(t, "PRIVATE KEY", der)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReportsMistakes(t *testing.T) {
	t.Parallel()
	_, key := newKey(t)
	bad := unreadable(t)
	other := writePEM(t, "CERTIFICATE", nil)
	ec := writePEM(t, "EC PRIVATE KEY", nil)
	const start, to = "from reports@relay.example.org\n", "deliver_to &queue\n"
	mail := start + to + "dkim_key off\n"
	const names = "from, org, contact, deliver_to, dkim_key, dir, driver, dsn, mail, https, allow_private, root_ca"
	const dkimHint = "expected a file and a selector, or off if deliver_to signs"
	for _, m := range []mistake{
		{"tlsrpt", `2: tlsrpt: expected a block`},
		{"tlsrpt &shared", `2: tlsrpt: unexpected "&shared", expected a block`},
		{"tlsrpt {\n}", `2: tlsrpt: expected from, the address that reports come from`},
		{"tlsrpt {\nform a@b.example\n}", `3: unexpected directive "form" in tlsrpt, expected one of ` + names},
		{"tlsrpt {\n" + mail + start + "}", `6: from is already set at maddy.conf:3`},
		{"tlsrpt {\n" + mail + "}\ntlsrpt {\n}", `7: tlsrpt is already set at maddy.conf:2`},
		{"tlsrpt {\nfrom\n}", `3: from: expected a mail address`},
		{"tlsrpt {\nfrom a b\n}", `3: from: unexpected "b" after "a", expected a mail address`},
		{"tlsrpt {\nfrom relay.example.org\n}", `3: from: unexpected "relay.example.org", expected a mail address`},
		{"tlsrpt {\nfrom <>\n}", `3: from: unexpected "<>", expected a mail address`},
		{"tlsrpt {\n" + mail + "contact https://x.example\n}", `6: contact: unexpected "https://x.example", expected a mail address`},
		{"tlsrpt {\n" + mail + `org ""` + "\n}", `6: org: unexpected "", expected the name of an organisation`},
		{"tlsrpt {\n" + mail + "org \"a\r\nb\"\n}", `6: org: unexpected "a\r\nb", expected the name of an organisation`},
		{"tlsrpt {\n" + mail + "org Example Org\n}", `6: org: unexpected "Org" after "Example", expected the name of an organisation`},
		{"tlsrpt {\n" + start + "}", `2: tlsrpt: expected deliver_to: the target or pipeline that takes reports`},
		{"tlsrpt {\n" + start + "deliver_to\n}", `4: deliver_to: expected the target or pipeline that takes reports`},
		{"tlsrpt {\n" + start + to + "}", `2: tlsrpt: expected dkim_key: a file and a selector, or off if deliver_to signs`},
		{"tlsrpt {\n" + start + to + "dkim_key\n}", `5: dkim_key: ` + dkimHint},
		{"tlsrpt {\n" + start + to + "dkim_key on\n}", `5: dkim_key: unexpected "on", ` + dkimHint},
		{"tlsrpt {\n" + start + to + "dkim_key a b c d\n}", `5: dkim_key: unexpected "a b c d", ` + dkimHint},
		{"tlsrpt {\n" + start + to + "dkim_key off {\n}\n}", `5: dkim_key: unexpected block, ` + dkimHint},
		{"tlsrpt {\n" + start + to + "dkim_key " + key + " \"a b\"\n}", `5: dkim_key: unexpected "a b", expected a selector`},
		{"tlsrpt {\n" + start + to + "dkim_key " + key + " sel example.net\n}", `5: dkim_key: unexpected "example.net", expected relay.example.org, the domain of from, or a parent of it`},
		{"tlsrpt {\n" + start + to + "dkim_key " + key + " sel y.example.org\n}", `5: dkim_key: unexpected "y.example.org", expected relay.example.org, the domain of from, or a parent of it`},
		{"tlsrpt {\n" + start + to + "dkim_key " + bad + ".not sel\n}", `5: dkim_key: open ` + bad + `.not: no such file or directory`},
		{"tlsrpt {\n" + start + to + "dkim_key " + bad + " sel\n}", `5: dkim_key: ` + bad + `: not a PEM file`},
		{"tlsrpt {\n" + start + to + "dkim_key " + other + " sel\n}", `5: dkim_key: ` + other + `: not a private key`},
		{"tlsrpt {\n" + start + to + "dkim_key " + ec + " sel\n}", `5: dkim_key: ` + ec + `: not a private key`},
		{"tlsrpt {\n" + mail + "mail no\n}", `4: deliver_to: unexpected, because mail is no`},
		{"tlsrpt {\n" + start + "dkim_key off\nmail no\n}", `4: dkim_key: unexpected, because mail is no`},
		{"tlsrpt {\n" + start + "mail no\nhttps no\n}", `5: https: unexpected no, because mail is no as well`},
		{"tlsrpt {\n" + mail + "https maybe\n}", `6: https: unexpected "maybe", expected yes or no`},
		{"tlsrpt {\n" + mail + "allow_private 127.0.0.1\n}", `6: allow_private: unexpected "127.0.0.1", expected yes or no`},
		{"tlsrpt {\n" + mail + "root_ca\n}", `6: root_ca: expected at least one file`},
		{"tlsrpt {\n" + mail + "root_ca " + bad + "\n}", `6: root_ca: there is no certificate in ` + bad},
		{"tlsrpt {\n" + mail + "dir\n}", `6: dir: expected a directory`},
		{"tlsrpt {\n" + mail + "driver postgres\n}", `6: driver: expected dsn, a connection string, beside it`},
		{"tlsrpt {\n" + mail + "driver sqlite3\ndsn x\n}", `6: driver: unexpected "sqlite3", expected postgres; without it this relay reports for itself`},
		{"tlsrpt {\n" + mail + "driver\ndsn x\n}", `6: driver: expected postgres; without it this relay reports for itself`},
		{"tlsrpt {\n" + mail + "dsn dbname=maddy\n}", `6: dsn: unexpected without driver postgres`},
		{"tlsrpt {\n" + mail + "driver postgres\ndsn\n}", `7: dsn: expected a connection string`},
		{"tlsrpt {\n" + mail + "driver postgres\ndsn \"\"\n}", `7: dsn: unexpected "", expected a connection string`},
		{"tlsrpt {\n" + mail + "driver postgres\ndsn host=db passfile=/x\n}", `7: dsn: unexpected passfile, expected the file's name in PGPASSFILE in maddy's environment`},
		{"tlsrpt {\n" + mail + "driver postgres\ndsn postgres://a:secret@[db/x\n}", `7: dsn: the URL cannot be read`},
		{"tlsrpt {\n" + mail + `dir ""` + "\n}", `6: dir: unexpected "", expected a directory`},
	} {
		t.Run(m.lines, func(t *testing.T) {
			t.Parallel()
			if cfg, err := load(t, nil, m.lines); err == nil || cfg != nil || err.Error() != "maddy.conf:"+m.want {
				t.Errorf("got  %v\nwant maddy.conf:%s", err, m.want)
			}
		})
	}
}

// parseReports is the block as it is read.
func parseReports(t *testing.T, instName, lines string) (*reports, error) {
	t.Helper()
	text := "target.remote_tls outbound {\nhostname relay.example.com\n" + quiet + "tlsrpt {\n" + lines + "\n}\n}"
	cfg, r, err := parse(config.NewMap(map[string]interface{}{"state_dir": "/state"}, nodes(t, text)[0]), instName, &log.Logger{Name: name})
	if cfg != nil {
		cfg.Routes.Close()
	}
	return r, err
}

func TestReportsBlock(t *testing.T) {
	t.Parallel()
	signer, key := newKey(t)
	r, err := parseReports(t, "outbound", "from Reports@Relay.Example.ORG\ndeliver_to &queue\ndkim_key "+key+" sel")
	if err != nil {
		t.Fatal(err)
	}
	if want := (tlsrpt.Sender{Organization: "relay.example.org", Contact: "Reports@relay.example.org", From: "Reports@relay.example.org"}); r.Sender != want {
		t.Errorf("sender %+v", r.Sender)
	}
	if r.Dir != "/state/tlsrpt/outbound" || !r.Mail || !r.HTTPS || r.AllowPrivate || r.Roots != nil || len(r.resolvers) == 0 ||
		r.Key.Domain != "relay.example.org" || r.Key.Selector != "sel" || !signer.Public().(ed25519.PublicKey).Equal(r.Key.Signer.Public()) {
		t.Errorf("defaults: %+v", r)
	}
	r, err = parseReports(t, "outbound", "from a@relay.example.org\norg \"Example Örg\"\ncontact mailto:b@example.net\ndeliver_to &queue\n"+
		"dkim_key "+key+" sel Example.org\ndir reports\nhttps no\nallow_private")
	if err != nil {
		t.Fatal(err)
	}
	if r.Sender.Organization != "Example Örg" || r.Sender.Contact != "b@example.net" || r.Dir != "/state/reports" || r.HTTPS || !r.AllowPrivate || r.Key.Domain != "example.org" {
		t.Errorf("all set: %+v", r)
	}
	if r, err = parseReports(t, "outbound", "from a@relay.example.org\nmail no"); err != nil || r.deliverTo != nil || r.Key != nil {
		t.Errorf("HTTPS alone: %+v, %v", r, err)
	}
	if r, err = parseReports(t, "../x", "from a@relay.example.org\nmail no"); err != nil || r.Dir != "/state/tlsrpt/..%2Fx" {
		t.Errorf("a name that is a path: %+v, %v", r, err)
	}
	for _, instName := range []string{"", ".."} {
		if _, err := parseReports(t, instName, "from a@relay.example.org\nmail no"); err == nil || err.Error() != "maddy.conf:6: tlsrpt: expected dir, because the target has no name" {
			t.Errorf("no name: %v", err)
		}
	}
}

// A target that deliver_to names wrongly is a mistake with a place.
func TestReportsDeliverTo(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"&nowhere":      "unknown config block: nowhere",
		"no_such_thing": "unknown module: no_such_thing (namespace: target)",
		"auth.pam":      "",
	} {
		mod, err := New("target.remote_tls", "outbound", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		text := "target.remote_tls outbound {\nhostname relay.example.com\n" + quiet + "tlsrpt {\nfrom a@relay.example.org\ndkim_key off\ndir " +
			t.TempDir() + "\ndeliver_to " + to + "\n}\n}"
		err = mod.Init(config.NewMap(nil, nodes(t, text)[0]))
		if err == nil || !strings.HasPrefix(err.Error(), "maddy.conf:10: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", to, err)
		}
		mod.(*Target).Close()
	}
}

// A day of mail, and the report about it the night after: from a target to a host,
// through a target again to the host that asked for reports, signed.
func TestReportsEndToEnd(t *testing.T) {
	t.Parallel()
	signer, key := newKey(t)
	dir := t.TempDir()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var w *world
	block := func() string {
		return "tlsrpt {\nfrom reports@relay.example.org\norg \"Example Org\"\ndir " + dir + "\ndkim_key " + key + " sel\n" +
			"deliver_to remote_tls {\nhostname relay.example.org\n" + quiet + fmt.Sprintf("resolver %s\nport %d\n", w.dns.Addr(), w.mx.Port()) + "}\n}\n"
	}
	w = newWorld(t, mailtest.Behaviour{}, "")
	start := func() {
		t.Helper()
		w.Close()
		mod, err := New("target.remote_tls", "outbound", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Target = mod.(*Target)
		w.Target.log.Out = w.log
		w.Target.now, w.Target.settle = func() time.Time { return now }, 0
		text := fmt.Sprintf("target.remote_tls outbound {\nhostname relay.example.com\nresolver %s\nport %d\n%s%s}", w.dns.Addr(), w.mx.Port(), quiet, block())
		if err := w.Init(config.NewMap(map[string]interface{}{"state_dir": t.TempDir()}, nodes(t, text)[0])); err != nil {
			t.Fatal(err)
		}
	}
	w.dns.TXT("_smtp._tls.example.net", "v=TLSRPTv1; rua=mailto:tls@example.net")
	w.dns.MX("other.example", 10, "mx1.test") // asks for nothing
	start()
	send := func(to string, fields ...string) {
		t.Helper()
		d := w.begin(&module.MsgMetadata{ID: "1f7c"}, "a@example.com", to)
		if err := w.body(d, fields...); err != nil {
			t.Fatal(err)
		}
	}
	send("b@example.net")
	send("b@other.example")
	w.Close()
	start()
	send("tls@example.net", "TLS-Report-Domain: example.net") // a report of somebody else
	w.Close()

	now = time.Date(2026, 11, 27, 4, 10, 0, 0, time.UTC)
	start()
	messages, err := w.mx.WaitMessages(w.context(), 4)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.log.text())
	}
	report := messages[3]
	if report.From != "reports@relay.example.org" || !slices.Equal(report.Recipients, []string{"tls@example.net"}) {
		t.Errorf("envelope %s, %v", report.From, report.Recipients)
	}
	checkReportMessage(t, report.Data, signer)

	// Once only, whatever restarts.
	start()
	w.Close()
	if n := w.mx.Delivered(); n != 4 {
		t.Errorf("%d messages", n)
	}
	// Our own report made no session to report on.
	docs, err := tlsrpt.Source{Dir: dir, Sender: tlsrpt.Sender{From: "reports@relay.example.org"}}.Read(t.Context(), now)
	if err != nil || len(docs) != 0 {
		t.Errorf("counted on the day of the report: %v, %v", docs, err)
	}
}

func checkReportMessage(t *testing.T, data []byte, signer crypto.Signer) {
	t.Helper()
	r, err := mox.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Policies) != 1 || r.OrganizationName != "Example Org" || r.ContactInfo != "reports@relay.example.org" ||
		r.Policies[0].Policy.Type != mox.NoPolicyFound || r.Policies[0].Policy.Domain != "example.net" ||
		r.Policies[0].Summary != (mox.SummaryJSON{TotalFailureSessionCount: 1}) {
		t.Errorf("report %+v", r)
	}
	d := r.Policies[0].FailureDetails
	if len(d) != 1 || d[0].ReceivingMXHostname != "mx1.test" || d[0].SendingMTAIP == "" || d[0].ReceivingIP == "" ||
		d[0].ResultType != mox.ResultSTARTTLSNotSupported {
		t.Errorf("details %+v", d)
	}
	all, err := dkim.VerifyWithOptions(bytes.NewReader(data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if name != "sel._domainkey.relay.example.org" {
			t.Errorf("key asked at %s", name)
		}
		return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(signer.Public().(ed25519.PublicKey))}, nil
	}})
	if err != nil || len(all) != 1 || all[0].Err != nil {
		t.Errorf("signature %+v, %v", all, err)
	}
}
