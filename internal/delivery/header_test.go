package delivery

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/emersion/go-message/textproto"
	"github.com/google/go-cmp/cmp"
)

func TestAppendField(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Subject: a\r\n":                         "Subject: a",
		"Subject: a":                             "Subject: a",
		"Subject: a\n":                           "Subject: a",
		"Subject: a\r\n b\r\n\tc\r\n":            "Subject: a\r\n b\r\n\tc",
		"Subject:\r\n \r\n a\r\n":                "Subject:\r\n \r\n a",
		"X-A: 1\rX-Require-TLS: yes\r\n":         "X-A: 1 X-Require-TLS: yes",
		"X-A: 1\rFrom: ceo@bank.example\r\n":     "X-A: 1 From: ceo@bank.example",
		"X-B: 1\r\rInjected\r\n":                 "X-B: 1  Injected",
		"X-B: 1\r\r\n":                           "X-B: 1 ",
		"X-B: 1\r\r\n b\r\n":                     "X-B: 1 \r\n b",
		"X-B: 1\r b\r\n":                         "X-B: 1  b",
		"X-B: 1\r\n b\r\rc\r\n\td\r\n":           "X-B: 1\r\n b  c\r\n\td",
		"X-C: 1\nFrom: a@example.com\n":          "X-C: 1 From: a@example.com",
		"X-C: 1\n b\n":                           "X-C: 1  b",
		"X-C: 1\r\nFrom: a@example.com\r\n":      "X-C: 1  From: a@example.com",
		"X-C: 1\r\n\r\nbody\r\n":                 "X-C: 1    body",
		"X-C: 1\r\n\r\n":                         "X-C: 1  ",
		"\r\n X-D: 1\r\n":                        "X-D: 1",
		"\rX-D: 1\r\n":                           "X-D: 1",
		"X-E: \x00a\x00\xff\r\n":                 "X-E: \x00a\x00\xff",
		"X-F:\r\n":                               "X-F:",
		"X-F:\r":                                 "X-F:",
		"Received : spaces before the colon\r\n": "Received : spaces before the colon",
	} {
		const before = "Before: 1\r\n"
		if got := string(appendField([]byte(before), []byte(in))); got != before+want+"\r\n" {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// wireFields is what somebody who knows only the RFC sees: the names of the fields,
// and what is behind the first empty line.
func wireFields(t *testing.T, wire []byte) (names []string, rest string) {
	t.Helper()
	for left := string(wire); ; {
		line, after, ok := strings.Cut(left, "\r\n")
		switch {
		case !ok || strings.ContainsAny(line, "\r\n"):
			t.Fatalf("%q is no line of a header, in %q", line, wire)
		case line == "":
			return names, after
		case line[0] != ' ' && line[0] != '\t':
			name, _, _ := strings.Cut(line, ":")
			names = append(names, strings.ToLower(strings.TrimRight(name, " \t")))
		case len(names) == 0:
			t.Fatalf("a folding without a field in %q", wire)
		}
		left = after
	}
}

// FuzzHeader: whatever a header holds, its fields on the wire are those that it has,
// in their order, and it ends where it ends.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{
		"From: a@example.com\r\nX-A: 1\rX-Require-TLS: yes\r\n\r\n", "X-B: 1\r\rInjected\r\nTo: b@example.net\r\n\r\n",
		"A: 1\r\n b\r\n\tc\r\nB: \x00\r\n \r\r\n x\r\n\r\n", "A: 1\n\rB: 2\n\n", "A : 1\r\n \r\nB:\r\r\n\r\n",
	} {
		f.Add([]byte(seed), []byte("X: 1\r\n\r\n"))
		f.Add([]byte("S: x\r\n\r\n"), []byte("X: 1"+seed))
	}
	f.Fuzz(func(t *testing.T, message, raw []byte) {
		h, err := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(message)))
		if err != nil {
			return
		}
		// maddy's modules add fields as they like.
		if name, _, ok := bytes.Cut(raw, []byte(":")); ok && !bytes.ContainsAny(name, " \t\r\n") {
			h.AddRaw(bytes.Clone(raw))
		}
		var want []string
		for fields := h.Fields(); fields.Next(); {
			want = append(want, strings.ToLower(fields.Key()))
		}
		wire, err := render(h)
		if err != nil {
			t.Fatal(err)
		}
		names, rest := wireFields(t, wire)
		if diff := cmp.Diff(want, names); diff != "" || rest != "" {
			t.Errorf("%q, behind it %q (-want +got):\n%s", wire, rest, diff)
		}
	})
}

// TestRenderAllocations is not parallel: allocations are counted for the whole
// process.
func TestRenderAllocations(t *testing.T) {
	h, err := textproto.ReadHeader(bufio.NewReader(strings.NewReader(
		"From: a@example.com\r\nSubject: one\r\n two\r\nReceived: x\r\n\ty\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	// The buffer, and the library's cursor.
	if n := testing.AllocsPerRun(100, func() {
		if _, err := render(h); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations", n)
	}
}
