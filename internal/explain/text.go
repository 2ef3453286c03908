package explain

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Write renders the document for people. Nothing foreign in it can leave its line.
func (d *Document) Write(w io.Writer) error {
	t := &text{}
	d.head(t)
	for i := range d.Hosts {
		t.line("")
		d.Hosts[i].write(t)
	}
	t.line("")
	d.conclude(t)
	_, err := io.WriteString(w, t.String())
	return err
}

// text is lines of a label and what belongs to it.
type text struct{ strings.Builder }

// labels is the width of the first column.
const labels = 26

func (t *text) line(s string) { t.WriteString(safe(s) + "\n") }

// item writes a line of a block; what is empty is left out.
func (t *text) item(label, value string) {
	if value != "" {
		t.line(fmt.Sprintf("  %-*s %s", labels-4, label, value))
	}
}

// safe escapes what is not printable.
func safe(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}

// head is everything that is not about one host.
func (d *Document) head(t *text) {
	t.line("From " + cmp.Or(d.Sender, "<>") + " to " + cmp.Or(d.Recipient, d.Domain) + by(d.Target))
	for _, s := range d.Settings {
		source := s.Source
		if s.Place != "" {
			source += ", " + s.Place
		} else if source == "default" {
			source = "built in"
		}
		t.item(s.Name, fmt.Sprintf("%-10s %s", s.Value, source))
	}
	t.item("the message", d.Message.text())
	if p := d.Published; p != nil {
		t.item("MX records", map[bool]string{true: "authenticated by DNSSEC", false: "not authenticated by DNSSEC"}[p.MXAuthentic])
		t.item("MTA-STS", p.MTASTS.text())
		if !p.DANE {
			t.item("DANE", "not looked up")
		}
	}
	t.item("the plan", d.Plan.text())
	t.item("with require_tls yes", change(d.Plan.text(), d.StrictPlan.text()))
}

func by(target string) string {
	if target == "" {
		return ""
	}
	return " by target " + target
}

func (m *Message) text() string {
	var says []string
	for _, s := range [][2]string{{"require-tls", m.RequireTLS}, {"skip-verification", m.SkipVerification}} {
		if s[1] != "" {
			says = append(says, s[0]+" "+s[1])
		}
	}
	if len(says) > 0 {
		how := "as of a stranger: only what tightens counts"
		if m.Admitted {
			how = "as of a client that check.tls_override admits"
		}
		says = []string{strings.Join(says, ", ") + ", " + how}
	}
	for _, r := range m.Refused {
		says = append(says, r+" is not admitted by message_override")
	}
	if m.REQUIRETLS {
		says = append(says, "REQUIRETLS")
	}
	if m.Lifts {
		says = append(says, "TLS-Required: No, which lifts what is published")
	}
	return cmp.Or(strings.Join(says, "; "), "asks for nothing")
}

func (m *MTASTS) text() string {
	if m == nil {
		return "not looked up"
	}
	said := m.Mode
	if m.ID != "" {
		said += ", id " + m.ID + ", expires " + m.Expires + ", mx " + strings.Join(m.MX, " ")
	}
	if m.Error != "" {
		said += "; " + m.Error
	}
	return said
}

// demands are the words for what is demanded.
var demands = map[string]string{
	"opportunistic": "opportunistic TLS", "tls": "TLS, any certificate",
	"verified": "TLS with a good certificate", "dane": "TLS with a certificate that a TLSA record proves",
}

func (p *Plan) text() string {
	if p == nil {
		return ""
	}
	said := demands[string(p.Demanded)]
	switch p.BadCertificate {
	case "clear":
		said += "; with a bad certificate, in clear"
	case "kept":
		if p.Demanded != "tls" {
			said += ", any certificate"
		}
	}
	for i, f := range p.Floors {
		said += map[bool]string{true: "; floors: ", false: ", "}[i == 0] + string(f)
	}
	if p.Demanded != "opportunistic" || len(p.Floors) > 0 {
		said += "; on failure " + p.OnFailure
	}
	return said
}

func (h *Host) write(t *text) {
	place := fmt.Sprintf("preference %d", h.Preference)
	if h.Implicit {
		place = "there is no MX record"
	}
	t.line(h.Name + ", " + place)
	switch {
	case h.Ours:
		t.item("passed over", "this is us, or it is not preferred over us")
		return
	case h.Beyond:
		t.item("passed over", "an attempt, or the time for this answer, ends before it comes to this host")
		return
	}
	if len(h.IPs) > 0 {
		signed := ", not authenticated"
		if h.Authentic {
			signed = ", authenticated by DNSSEC"
		}
		t.item("addresses", strings.Join(h.IPs, " ")+signed)
	}
	for i, r := range h.TLSA {
		label := ""
		if i == 0 {
			label = "TLSA records"
		}
		t.item(label, r+" at "+h.TLSABase)
	}
	if len(h.TLSA) > 0 && !h.TLSAUsable {
		t.item("", "none of them means anything to SMTP")
	}
	if h.Listed != nil {
		t.item("MTA-STS", map[bool]string{true: "the policy lists the host", false: "the policy does not list the host"}[*h.Listed])
	}
	t.item("proved before", h.Expected.text())
	t.item("the plan", h.Plan.text())
	if h.Failure != nil && !slices.ContainsFunc(h.Addresses, func(a Address) bool { return !a.Unwanted }) {
		t.item("not used", h.Failure.text())
	}
	if h.Strict != nil {
		t.item("with require_tls yes", change(h.Failure.text(), "not used: "+h.Strict.text()))
	} else {
		t.item("with require_tls yes", change(h.Plan.text(), h.StrictPlan.text()))
	}
	for i := range h.Addresses {
		h.Addresses[i].write(t, h.StrictPlan != nil && h.Strict == nil)
	}
}

// change is what is said of the same under other settings.
func change(now, then string) string {
	if then == now || then == "not used: "+now {
		return "no change"
	}
	return then
}

func (e *Expected) text() string {
	if e == nil {
		return ""
	}
	said := e.Level
	if e.Verification != "" {
		said += " by " + e.Verification
	}
	return said + ", last on " + e.LastSeen + "; downgrade_action " + e.Action
}

func (f *Failure) text() string {
	if f == nil {
		return ""
	}
	code := ""
	if f.Code != 0 {
		code = strings.TrimSpace(strconv.Itoa(f.Code)+" "+f.Enhanced) + " "
	}
	said := code + string(f.Reason) + ": " + f.Text
	if f.Cause != "" {
		said += " (" + f.Cause + ")"
	}
	return said
}

func (p *Problem) text() string {
	if p.Text == "" {
		return string(p.Reason)
	}
	return string(p.Reason) + ": " + p.Text
}

// write tells of one address; strict is whether require_tls is worth a line.
func (a *Address) write(t *text, strict bool) {
	if a.Unwanted {
		t.item("passed over "+a.IP, a.Failure.text())
		return
	}
	has := "not found out" // silence, and also a 421: what follows says which
	switch a.Verdict {
	case Verified:
		has = "verified by " + string(a.Verification)
	case Unverified:
		has = "not verified"
	case NoTLS:
		has = "no TLS"
	}
	if a.TLSVersion != "" {
		has += ", " + strings.Join([]string{a.TLSVersion, a.TLSCipher, a.TLSKeyExchange}, " ")
	}
	t.item("probed "+a.IP, has)
	if a.Problem != nil {
		t.item("  because", a.Problem.text())
	}
	if c := a.Certificate; c != nil {
		t.item("  certificate", c.Subject+", by "+c.Issuer)
		t.item("  valid", c.NotBefore+" to "+c.NotAfter+lifetime(c.NotAfter))
		t.item("  sha256", c.SHA256)
	}
	if a.PKIX != nil {
		t.item("  chain and name", map[bool]string{true: "good", false: "bad"}[*a.PKIX])
	}
	t.item("  TLSA records", a.DANE)
	switch {
	case a.Failure != nil:
		t.item("  a message", "would not cross: "+a.Failure.text())
	case a.Use == "tls":
		t.item("  a message", "would cross in TLS")
	case a.Use == "clear":
		t.item("  a message", "would cross in clear")
	}
	switch {
	case !strict || a.Verdict == "":
	case a.Strict != nil:
		t.item("  with require_tls yes", "would not cross: "+string(a.Strict.Reason))
	default:
		t.item("  with require_tls yes", "would cross in TLS")
	}
}

// lifetime says what is left of a certificate's time, where that is short.
func lifetime(notAfter string) string {
	end, err := time.Parse(time.RFC3339, notAfter)
	left := time.Until(end)
	switch {
	case err != nil || left > 30*24*time.Hour:
		return ""
	case left < 0:
		return ", expired"
	}
	return fmt.Sprintf(", %d days left", int(left.Hours()/24))
}

// conclude is the last line.
func (d *Document) conclude(t *text) {
	o := &d.Outcome
	switch o.Result {
	case Dialled:
		t.line("It would be tried at " + o.MXHost + " first. What the hosts do was not looked at: see --probe.")
	case Delivered:
		how := "in clear: " + string(o.Fallback)
		switch {
		case *o.Verified:
			how = "in TLS, verified by " + string(o.Verification)
		case *o.TLS && o.Fallback != "":
			how = "in TLS, unverified: " + string(o.Fallback)
		case *o.TLS:
			how = "in TLS, unverified, as is wanted"
		}
		t.line("It would cross to " + o.MXHost + " (" + o.MXIP + ") " + how + ".")
	case Temporary:
		t.line("It would wait: " + o.Failure.text())
	case Permanent:
		t.line("It would bounce: " + o.Failure.text())
	}
}
