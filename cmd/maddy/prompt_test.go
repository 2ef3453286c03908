package main

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", maxLine-1)
	tests := []struct {
		name, stdin, want, wantErr string
	}{
		{name: "line", stdin: "secret\n", want: "secret"},
		{name: "only the first", stdin: "secret\nother\n", want: "secret"},
		{name: "unended", stdin: "secret", want: "secret"},
		{name: "CRLF", stdin: "secret\r\nother\r\n", want: "secret"},
		{name: "spaces belong to it", stdin: "  a b \n", want: "  a b "},
		{name: "empty line", stdin: "\nsecret\n", want: ""},
		{name: "nothing", stdin: "", wantErr: "stdin ended without an answer"},
		{name: "longest", stdin: longest + "\n", want: longest},
		{name: "too long", stdin: longest + "xx\n", wantErr: "longer than 4096 bytes"},
		{name: "endless", stdin: strings.Repeat("x", 1<<20), wantErr: "longer than 4096 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// As slowly as a pipe may hand it over.
			got, err := readLine(iotest.OneByteReader(strings.NewReader(test.stdin)))
			checkError(t, err, test.wantErr)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestReadLineError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	if _, err := readLine(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// checkError fails the test unless err says want, or is nil where that is empty.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want one with %q", err, want)
	}
}
