package explain

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mjl-/adns"

	"tlscontrol/internal/delivery"
	"tlscontrol/internal/downgrade"
	"tlscontrol/internal/mtasts"
	"tlscontrol/internal/policy"
	"tlscontrol/internal/route"
	"tlscontrol/internal/tlsplan"
)

// evil is text that a stranger might like to see on a terminal.
const evil = "a\x1b[2J\r\nIt would cross\u009b31m \u202egnp\x7f\u2028\U000e0041 end"

// asked is a question.
func asked() delivery.Question {
	return delivery.Question{Probe: true, Admitted: true, Message: &delivery.Message{
		From: "a@example.com", Recipients: []delivery.Recipient{{Address: "b@example.net", Domain: "example.net"}},
	}}
}

// hostile is an explanation in which every text is evil.
func hostile() (delivery.Question, *delivery.Explanation) {
	q := asked()
	q.Message.From, q.Message.Recipients[0].Address = evil, evil
	seen := tlsplan.Outcome{TLS: true, Version: 0x304, Verification: tlsplan.VerifiedNone, Problem: &tlsplan.Problem{Reason: tlsplan.CertificateUntrusted, Text: evil},
		Certificate: &tlsplan.Certificate{Subject: evil, Issuer: evil}}
	f := &delivery.Failure{Code: 451, Enhanced: [3]int{4, 7, 5}, Reason: tlsplan.CertificateUntrusted, Message: evil, Err: errors.New(evil)}
	plan := tlsplan.Plan{Demand: tlsplan.DemandVerified}.ForHost(tlsplan.NewDANE(evil, []adns.TLSA{{Usage: 1}}))
	return q, &delivery.Explanation{
		Domain: evil, MTASTS: true, DANE: true, Via: -1, Failure: f, Memory: downgrade.Log,
		Settings: &policy.Settings{RequireTLSSource: policy.FromTable, RequireTLSPlace: evil},
		STS:      mtasts.Result{Policy: &mtasts.Policy{ID: evil, Mode: mtasts.Enforce, MX: []string{evil}}, Err: errors.New(evil)},
		Base:     &plan, Strict: &plan,
		Route: route.Route{Hosts: []route.Host{{Name: evil}}},
		Hosts: []delivery.ExplainedHost{{
			Host: route.Host{Name: evil}, Plan: plan, Strict: &plan, Failure: f,
			Addresses: route.Addresses{IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}},
			Expected:  downgrade.Expectation{Level: downgrade.Verified, By: tlsplan.VerifiedPKIX, LastSeen: time.Unix(1, 0)},
			GaveUp:    []delivery.HostFailure{{Host: evil, IP: netip.MustParseAddr("192.0.2.2"), Reason: tlsplan.Connect, Text: evil}},
			Probed:    []delivery.Probed{{IP: netip.MustParseAddr("192.0.2.1"), Seen: seen, Outcome: tlsplan.Plaintext(seen.Problem, seen.Certificate), Failure: f}},
		}},
	}
}

// TestNothingMovesTheCursor: whatever a stranger says, text and JSON are printable
// lines, and nobody else begins one.
func TestNothingMovesTheCursor(t *testing.T) {
	t.Parallel()
	d := New(evil, first(hostile()), second(hostile()))
	var text, doc bytes.Buffer
	if err := errors.Join(d.Write(&text), d.WriteJSON(&doc)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{text.String(), doc.String()} {
		if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q", s[max(0, i-40):i+10])
		}
		if strings.Contains(s, "\nIt would cross") {
			t.Errorf("a forged line:\n%s", s)
		}
	}
	var back Document
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	// A rune beyond the first plane has no escape of its own, and is replaced.
	if want := strings.ReplaceAll(evil, "\U000e0041", "\ufffd"); back.Hosts[0].Addresses[1].Certificate.Subject != want {
		t.Errorf("%q, want %q", back.Hosts[0].Addresses[1].Certificate.Subject, want)
	}
}

func first(q delivery.Question, _ *delivery.Explanation) delivery.Question      { return q }
func second(_ delivery.Question, x *delivery.Explanation) *delivery.Explanation { return x }

// FuzzText: no text breaks what is printed.
func FuzzText(f *testing.F) {
	f.Add(evil)
	f.Add("")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, foreign string) {
		q, x := hostile()
		lines := func() int {
			var b bytes.Buffer
			if err := New("outbound", q, x).Write(&b); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsFunc(b.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Fatalf("%q", b.String())
			}
			return strings.Count(b.String(), "\n")
		}
		want := lines()
		h := &x.Hosts[0]
		h.Name, h.Probed[0].Seen.Certificate.Subject, x.Failure.Message = foreign, foreign, foreign
		if got := lines(); got != want {
			t.Errorf("%d lines, want %d", got, want)
		}
		var b bytes.Buffer
		if err := New("outbound", q, x).WriteJSON(&b); err != nil || !json.Valid(b.Bytes()) {
			t.Errorf("%v: %q", err, b.String())
		}
	})
}

// TestExitCodes: a refusal is told from what nobody can say.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for reason, want := range map[tlsplan.Reason]int{
		"": ExitDeliver, tlsplan.TLSNotOffered: ExitRefused, tlsplan.DANEMismatch: ExitRefused, tlsplan.MTASTSMismatch: ExitRefused,
		tlsplan.MXUnauthenticated: ExitRefused, tlsplan.RequireTLSUnsupported: ExitRefused,
		tlsplan.DANELookup: ExitUnknown, tlsplan.MXLookup: ExitUnknown, tlsplan.Policy: ExitUnknown, tlsplan.Connect: ExitUnknown,
		tlsplan.Timeout: ExitUnknown, tlsplan.ConnectionLost: ExitUnknown, tlsplan.Internal: ExitUnknown,
	} {
		var d Document
		if reason != "" {
			d.failure = &delivery.Failure{Code: 451, Reason: reason}
		}
		if got := d.ExitCode(); got != want {
			t.Errorf("%q: %d, want %d", reason, got, want)
		}
	}
	if got := (&Document{failure: &delivery.Failure{Code: 550, Reason: tlsplan.MXLookup}}).ExitCode(); got != ExitRefused {
		t.Errorf("no such domain: %d", got)
	}
}

// TestPageKnowsEveryField: docs/explain.md has every name of the document.
func TestPageKnowsEveryField(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/explain.md")
	if err != nil {
		t.Fatal(err)
	}
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			field := typ.Field(i)
			if !field.IsExported() {
				continue
			}
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/explain.md has no `%s` of %s", name, typ.Name())
			}
			visit(field.Type)
		}
	}
	visit(reflect.TypeFor[Document]())
}
