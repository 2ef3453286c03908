package demo

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// printed returns what a printer wrote on both sides.
func printed(o Options, act func(*printer)) (out, side string) {
	var outs, sides strings.Builder
	o.Out, o.Err = &outs, &sides
	o.Escape = func(s string) string { return strings.Trim(strconv.QuoteToGraphic(s), `"`) }
	act(newPrinter(o))
	return outs.String(), sides.String()
}

// falseRow is a row whose message came, and came in clear, although TLS was required; and whose document says
// something that no terminal should hear.
func falseRow(t *testing.T) (host, scene, evidence) {
	t.Helper()
	h := hosts[0]
	sc := h.scenes()[2]
	seen := truth(t, h, sc)
	wrong := truth(t, h, h.scenes()[0])
	seen.wire.messages = wrong.wire.messages
	seen.wire.messages[0].Recipients = []string{seen.mail.to}
	seen.wire.messages[0].Data = []byte(seen.mail.text)
	seen.docs[0].Reason = "\x1b[2Jfine"
	return h, sc, seen
}

func TestRow(t *testing.T) {
	t.Parallel()
	h := hosts[4]
	trueScene := h.scenes()[0]
	trueEvidence := truth(t, h, trueScene)
	falseHost, falseScene, falseEvidence := falseRow(t)
	found := judge(falseHost, falseScene, falseEvidence)
	good := func(p *printer) { p.row(trueScene, trueEvidence, nil) }
	bad := func(p *printer) { p.row(falseScene, falseEvidence, found) }
	tests := []struct {
		name      string
		options   Options
		act       func(*printer)
		out, side string
	}{
		{
			"as promised", Options{}, good,
			"ok  opportunistic, verify                 TLSv1.3, 1 connection     delivered 250, certificate verified\n", "",
		},
		{
			"as promised, in colours", Options{Colour: true}, good,
			"\x1b[32mok\x1b[0m  opportunistic, verify                 TLSv1.3, 1 connection     " +
				"delivered 250, certificate verified\n", "",
		},
		{
			"not as promised", Options{}, bad,
			`BAD required, verify                      in clear, 1 connection    failed temporary 451 4.7.4 \x1b[2Jfine
      wire: messages: expected 0, got 1
      log: reason: expected tls-not-offered, got \x1b[2Jfine
`, "",
		},
		{"document alone", Options{JSON: true}, good, string(trueEvidence.docs[0].raw) + "\n", ""},
		{
			"document alone, not as promised", Options{JSON: true}, bad, string(falseEvidence.docs[0].raw) + "\n",
			`required, verify: not as promised
      wire: messages: expected 0, got 1
      log: reason: expected tls-not-offered, got \x1b[2Jfine
`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, side := printed(test.options, test.act)
			if diff := cmp.Diff(test.out, out); diff != "" {
				t.Errorf("out (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.side, side); diff != "" {
				t.Errorf("side (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConclude: the run fails for a row that is not as promised, and for what no row knows of.
func TestConclude(t *testing.T) {
	t.Parallel()
	h := hosts[4]
	sc := h.scenes()[0]
	log := line(t, h, sc, newMail(h, sc))
	tests := []struct {
		name         string
		t            tally
		log          []byte
		wantErr, out string
	}{
		{"all", tally{good: total(), documents: 1}, log, "", "28 of 28 as promised"},
		{"one is not", tally{good: total() - 1, documents: 1}, log,
			"1 of 28 rows did not turn out as promised", "27 of 28 as promised"},
		{"a document too many", tally{good: total()}, log, "1 documents instead of 0", "28 of 28 as promised"},
		{"a connection too few", tally{good: total(), documents: 1, connections: [len(hosts)]int{0, 1}}, log,
			"0 connections to mx.refuses-starttls.example instead of 1", "28 of 28 as promised"},
		{"a broken log", tally{good: total()}, []byte("{\n"), "line 1 of the delivery log is no document", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, err := newWorld()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := w.close(false); err != nil {
					t.Error(err)
				}
			})
			if err := os.WriteFile(w.log(), test.log, 0o600); err != nil {
				t.Fatal(err)
			}
			var got string
			out, _ := printed(Options{Keep: true}, func(p *printer) {
				if err := conclude(w, test.t, p); err != nil {
					got = err.Error()
				}
			})
			if got != test.wantErr && (test.wantErr == "" || !strings.Contains(got, test.wantErr)) {
				t.Errorf("error %q, want %q", got, test.wantErr)
			}
			if !strings.Contains(out, test.out) {
				t.Errorf("printed %q, want %q", out, test.out)
			}
		})
	}
}

// TestClose: nothing is left, unless it shall be.
func TestClose(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		w, err := newWorld()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(w.dir) })
		if err := w.close(keep); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "ca.pem")); (err == nil) != keep {
			t.Errorf("keep %v: %v", keep, err)
		}
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"/tmp/a":    "/tmp/a",
		"/tmp/a b":  "'/tmp/a b'",
		"/tmp/$x":   "'/tmp/$x'",
		"/tmp/it's": `'/tmp/it'\''s'`,
	}
	for path, want := range tests {
		if got := quoted(path); got != want {
			t.Errorf("%q became %q, want %q", path, got, want)
		}
	}
}
