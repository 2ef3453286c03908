package tests

import (
	"fmt"
	"strings"
	"testing"

	"tlscontrol/internal/mailtest"
)

// column is what a sender wants; each has a sending domain with that policy.
type column struct {
	name          string
	policy        string
	require, skip bool
	reject        bool // on_failure reject
	keep          bool // opportunistic_fallback unverified
}

var columns = []column{
	{name: "opportunistic-verify", policy: "require_tls no\nskip_verification no"},
	{name: "opportunistic-keep", policy: "require_tls no\nskip_verification no\nopportunistic_fallback unverified", keep: true},
	{name: "opportunistic-skip", policy: "require_tls no\nskip_verification yes", skip: true},
	{name: "required-verify", policy: "require_tls yes\nskip_verification no", require: true},
	{name: "required-skip", policy: "require_tls yes\nskip_verification yes", require: true, skip: true},
	{name: "required-verify-reject", policy: "require_tls yes\nskip_verification no\non_failure reject", require: true, reject: true},
	{name: "required-skip-reject", policy: "require_tls yes\nskip_verification yes\non_failure reject", require: true, skip: true, reject: true},
}

// row is what a host does.
type row struct {
	name   string
	kind   mailtest.Kind // "" for a host without STARTTLS
	spoil  func(*mailtest.Behaviour)
	reason string // why it is not good; "" if it is
}

var rows = []row{
	{name: "no STARTTLS", reason: "tls-not-offered"},
	{name: "STARTTLS hidden", kind: mailtest.Good, reason: "tls-not-offered", spoil: func(b *mailtest.Behaviour) { b.HideSTARTTLS = true }},
	{name: "STARTTLS 454", kind: mailtest.Good, reason: "tls-rejected", spoil: func(b *mailtest.Behaviour) { b.STARTTLSReply = "454 4.7.0 not now" }},
	{name: "STARTTLS 502", kind: mailtest.Good, reason: "tls-rejected", spoil: func(b *mailtest.Behaviour) { b.STARTTLSReply = "502 5.5.1 what" }},
	{name: "EOF in the handshake", kind: mailtest.Good, reason: "tls-handshake", spoil: func(b *mailtest.Behaviour) { b.Handshake = "eof" }},
	{name: "garbage in the handshake", kind: mailtest.Good, reason: "tls-handshake", spoil: func(b *mailtest.Behaviour) { b.Handshake = "garbage" }},
	{name: "alert behind the handshake", kind: mailtest.Good, reason: "tls-handshake", spoil: func(b *mailtest.Behaviour) { b.Handshake = "alert-after" }},
	{name: "expired", kind: mailtest.Expired, reason: "certificate-expired"},
	{name: "not yet valid", kind: mailtest.NotYetValid, reason: "certificate-not-yet-valid"},
	{name: "wrong name", kind: mailtest.WrongName, reason: "certificate-name-mismatch"},
	{name: "IP address only", kind: mailtest.IPOnly, reason: "certificate-name-mismatch"},
	{name: "CN only", kind: mailtest.CNOnly, reason: "certificate-name-mismatch"},
	{name: "self-signed", kind: mailtest.SelfSigned, reason: "certificate-untrusted"},
	{name: "unknown CA", kind: mailtest.UnknownCA, reason: "certificate-untrusted"},
	{name: "missing intermediate", kind: mailtest.MissingIntermediate, reason: "certificate-untrusted"},
	{name: "wrong usage", kind: mailtest.WrongUsage, reason: "certificate-invalid"},
	{name: "good", kind: mailtest.Good},
	{name: "good with intermediate", kind: mailtest.WithIntermediate},
	{name: "good wildcard", kind: mailtest.Wildcard},
}

func (r row) badCertificate() bool { return strings.HasPrefix(r.reason, "certificate-") }

// shown reports whether the relay gets to see a certificate.
func (r row) shown() bool {
	return r.reason == "" || r.badCertificate() || r.name == "alert behind the handshake"
}

// cell is what must come of a column and a row.
type cell struct {
	status      string // of SMTP
	delivered   bool
	tls         bool // the message travelled so
	verified    bool
	connections int
}

func (c column) meets(r row) cell {
	deliver := cell{status: "accepted", delivered: true, connections: 1}
	switch {
	case r.reason == "":
		deliver.tls, deliver.verified = true, true
	case r.badCertificate() && (c.skip || c.keep):
		deliver.tls = true
	case c.require:
		class, detail := 4, 5
		if c.reject {
			class = 5
		}
		if r.reason == "tls-not-offered" || r.reason == "tls-rejected" {
			detail = 4
		}
		code := map[int]int{4: 451, 5: 550}[class]
		return cell{status: fmt.Sprintf("%d %d.7.%d", code, class, detail), connections: 1}
	case r.badCertificate() || r.reason == "tls-handshake":
		deliver.connections = 2 // the last resort
	}
	return deliver
}

// TestMatrix is the table of what hosts do and senders want, each cell looked at
// from all sides. No cell shares its host with another one.
func TestMatrix(t *testing.T) {
	t.Parallel()
	s := matrixServer(t)
	n := 0
	for _, r := range rows {
		for _, c := range columns {
			known := n
			n++
			t.Run(r.name+"/"+c.name, func(t *testing.T) {
				s.in(t).cell(known, c, r)
			})
		}
	}
}

func matrixServer(t *testing.T) *server {
	t.Helper()
	ca, err := mailtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []mailtest.Behaviour
	for _, r := range rows {
		for range columns {
			var b mailtest.Behaviour
			if r.kind != "" {
				b = certificate(t, ca, r.kind, host(len(hosts)))
			}
			if r.spoil != nil {
				r.spoil(&b)
			}
			hosts = append(hosts, b)
		}
	}
	s := newServerCA(t, ca, hosts...)
	for i := range hosts {
		s.dns.MX(matrixDomain(i), 10, host(i))
	}
	var policy strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&policy, "domain %s.example {\n%s\n}\n", c.name, c.policy)
	}
	s.config(blocks{policy: policy.String(), endpoints: anyoneDirect("smtp", "")})
	s.start()
	return s
}

// matrixDomain is the destination domain that host i serves.
func matrixDomain(i int) string { return fmt.Sprintf("d%d.test", i) }

// cell sends one message and looks at the status, the wire, the document and the
// counters. A stamp that is nobody's and a loosening field must change nothing.
func (s *server) cell(n int, c column, r row) {
	s.Helper()
	want := c.meets(r)
	before := s.counters()
	err := s.direct(mail{
		from: "a@" + c.name + ".example", to: []string{"b@" + matrixDomain(n)},
		header: "TLS-Override: v=1; require-tls=no; skip-verification=yes; id=x; mac=00\r\nX-Mailgun-Require-TLS: no\r\n",
	})
	if got := reply(err); got != want.status {
		s.Errorf("status %s (%v), want %s", got, err, want.status)
	}
	s.cellWire(s.mx[n], want)
	s.cellDocument(s.next(n), n, c, r, want)
	s.counted(before, cellCounters(c, r, want)...)
}

func (s *server) cellWire(m *mailtest.MX, want cell) {
	s.Helper()
	if got := m.Connections(); got != want.connections {
		s.Errorf("%d connections, want %d", got, want.connections)
	}
	messages := m.Messages()
	if want.delivered != (len(messages) == 1) || len(messages) > 1 {
		s.Fatalf("arrived: %+v", messages)
	}
	if want.delivered {
		if messages[0].TLS != want.tls {
			s.Errorf("arrived under TLS: %v, want %v", messages[0].TLS, want.tls)
		}
		stripped(s.T, messages[0])
	}
	if clear := inClear(m); clear != (want.delivered && !want.tls) {
		s.Errorf("in clear on the wire: %v, want %v", clear, !clear)
	}
	if sessions := m.Sessions(); len(sessions) == 2 {
		// The second connection is the last resort and does not try again.
		if sessions[1].Handshakes != 0 || strings.Contains(string(sessions[1].ClearBytes), "STARTTLS") {
			s.Errorf("second connection: %q", sessions[1].Commands)
		}
	}
}

func (s *server) cellDocument(d document, n int, c column, r row, want cell) {
	s.Helper()
	demanded := "opportunistic"
	if c.require {
		demanded = map[bool]string{false: "verified", true: "tls"}[c.skip]
	}
	expected := map[string]any{
		"recipient":                            "b@" + matrixDomain(n),
		"envelope.sender":                      "a@" + c.name + ".example",
		"hostname":                             "relay.example.com",
		"delivery-status.mx-host":              host(n),
		"delivery-status.mx-ip":                s.mx[n].IP(),
		"delivery-status.mx-port":              s.port,
		"delivery-status.attempt-no":           1,
		"delivery-status.connection-reused":    false,
		"delivery-status.tls":                  want.tls,
		"delivery-status.certificate-verified": want.verified,
		"delivery-status.verification":         map[bool]string{false: "none", true: "pkix"}[want.verified],
		"tls-policy.require-tls":               c.require,
		"tls-policy.skip-verification":         c.skip,
		"tls-policy.require-tls-source":        "domain",
		"tls-policy.skip-verification-source":  "domain",
		"delivery-status.content-sent":         nil,
		"tls-policy.floors":                    nil,
		"tls-policy.demanded":                  demanded,
	}
	if want.delivered {
		expected["event"], expected["log-level"] = "delivered", "info"
		expected["severity"], expected["reason"] = nil, nil
		expected["delivery-status.code"], expected["delivery-status.enhanced-code"] = 250, "2.0.0"
		expected["delivery-status.hosts"] = nil
		expected["delivery-status.content-sent"] = protection(want.tls, want.verified)
		expected["delivery-status.tls-fallback"] = fallback(c, r, want)
	} else {
		code, enhanced, _ := strings.Cut(want.status, " ")
		expected["event"], expected["reason"] = "failed", r.reason
		expected["severity"], expected["log-level"] = "temporary", "warn"
		if c.reject {
			expected["severity"], expected["log-level"] = "permanent", "error"
		}
		expected["delivery-status.code"], expected["delivery-status.enhanced-code"] = code, enhanced
		expected["delivery-status.tls-fallback"] = nil
		s.cellHosts(d, n, r)
	}
	d.expect(s.T, expected)
	for _, setting := range []string{"require-tls", "skip-verification"} {
		if place, _ := d.get("tls-policy." + setting + "-place").(string); !strings.HasPrefix(place, s.path("maddy.conf")+":") {
			s.Errorf("%s was decided at %q", setting, place)
		}
	}
	if got := d.get("delivery-status.certificate") != nil; got != r.shown() {
		s.Errorf("certificate in the document: %v, want %v", got, r.shown())
	}
	text, _ := d.get("delivery-status.verification-error").(string)
	if unverified := want.tls && !want.verified; unverified != strings.HasPrefix(text, r.reason+": ") || !unverified && text != "" {
		s.Errorf("verification-error %q", text)
	}
}

// fallback is why a delivery got less than was wanted; nil if it got all. Who
// does not care for certificates misses nothing under TLS.
func fallback(c column, r row, want cell) any {
	if r.reason == "" || want.tls && c.skip {
		return nil
	}
	return r.reason
}

// cellHosts: the document of a failure lists the one host that was given up.
func (s *server) cellHosts(d document, n int, r row) {
	s.Helper()
	hosts, _ := d.get("delivery-status.hosts").([]any)
	if len(hosts) != 1 {
		s.Fatalf("hosts %v", hosts)
	}
	h := document(hosts[0].(map[string]any))
	h.expect(s.T, map[string]any{"mx-host": host(n), "mx-ip": s.mx[n].IP(), "reason": r.reason})
}

// protection is the word for what a connection gives.
func protection(tls, verified bool) string {
	switch {
	case !tls:
		return "clear"
	case !verified:
		return "unverified"
	}
	return "verified"
}

// cellCounters lists the series that one message moves.
func cellCounters(c column, r row, want cell) []string {
	var list []string
	verification := "none"
	if want.verified {
		verification = "pkix"
	}
	result := "delivered"
	if !want.delivered {
		result = map[byte]string{'4': "temporary", '5': "permanent"}[want.status[0]]
	}
	tls := map[bool]string{false: "no", true: "yes"}
	list = append(list, fmt.Sprintf(`deliveries_total{result=%q,tls=%q,verification=%q}`, result, tls[want.tls], verification))
	if want.delivered {
		version := map[bool]string{false: "none", true: "TLSv1.3"}[want.tls]
		list = append(list, fmt.Sprintf(`connections_total{reused="no",tls=%q,version=%q}`, tls[want.tls], version))
		list = append(list, fmt.Sprintf(`content_sent_total{protection=%q}`, protection(want.tls, want.verified)))
	}
	if r.reason != "" {
		list = append(list, fmt.Sprintf(`failures_total{enforced=%q,reason=%q}`, tls[!want.delivered], r.reason))
	}
	if why := fallback(c, r, want); want.delivered && why != nil {
		list = append(list, fmt.Sprintf(`fallbacks_total{reason=%q}`, why))
	}
	return list
}
