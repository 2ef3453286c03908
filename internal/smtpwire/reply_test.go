package smtpwire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// parse reads one reply from r and returns it with what follows.
func parse(r io.Reader) (reply Reply, rest string, err error) {
	br := bufio.NewReaderSize(r, 4096)
	var p replyReader
	if _, err := p.read(br); err != nil {
		return Reply{}, "", err
	}
	after, _ := io.ReadAll(br)
	return p.reply(), string(after), nil
}

func TestReply(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		in   string
		want Reply
		text string // String()
	}{
		{"250 ok\r\n", Reply{250, [3]int{}, "ok"}, "250 ok"},
		{"250 ok\n", Reply{250, [3]int{}, "ok"}, "250 ok"},
		{"250\r\n", Reply{250, [3]int{}, ""}, "250"},
		{"250 \r\n", Reply{250, [3]int{}, ""}, "250"},
		{"250-\r\n250\r\n", Reply{250, [3]int{}, "\n"}, `250 \n`},
		{"250-a\n250-b\r\n250 c\r\n", Reply{250, [3]int{}, "a\nb\nc"}, `250 a\nb\nc`},
		{"550 5.1.1 no such user\r\n", Reply{550, [3]int{5, 1, 1}, "no such user"}, "550 5.1.1 no such user"},
		{"550 5.1.1\r\n", Reply{550, [3]int{5, 1, 1}, ""}, "550 5.1.1"},
		{"550-5.7.26 a\r\n550-5.7.26 b\r\n550 5.7.26 c\r\n", Reply{550, [3]int{5, 7, 26}, "a\nb\nc"}, `550 5.7.26 a\nb\nc`},
		{"550-5.7.1 a\r\n550 5.7.2 b\r\n", Reply{550, [3]int{5, 7, 1}, "a\n5.7.2 b"}, `550 5.7.1 a\n5.7.2 b`},
		{"550-a\r\n550 5.7.2 b\r\n", Reply{550, [3]int{}, "a\n5.7.2 b"}, `550 a\n5.7.2 b`},
		{"451 5.7.1 which\r\n", Reply{451, [3]int{}, "5.7.1 which"}, "451 5.7.1 which"},
		{"550 5.7.1x\r\n", Reply{550, [3]int{}, "5.7.1x"}, "550 5.7.1x"},
		{"550 5.7\r\n", Reply{550, [3]int{}, "5.7"}, "550 5.7"},
		{"550 5.1234.1 x\r\n", Reply{550, [3]int{}, "5.1234.1 x"}, "550 5.1234.1 x"},
		{"354 3.0.0 go\r\n", Reply{354, [3]int{}, "3.0.0 go"}, "354 3.0.0 go"},
		{"550 a\x00b\x1b[2J\rc\r\n", Reply{550, [3]int{}, "a\x00b\x1b[2J\rc"}, `550 a\x00b\x1b[2J\rc`},
		{"550 a\xff\xfeb\u202e\r\n", Reply{550, [3]int{}, "a\uFFFDb\u202e"}, "550 a\uFFFDb\\u202e"},
		{"550 " + long + "\r\n", Reply{550, [3]int{}, long[:2048]}, "550 " + long[:2048]},
		{"550-" + long + "\r\n550 x\r\n", Reply{550, [3]int{}, long[:2048]}, "550 " + long[:2048]},
		{"550 x" + strings.Repeat("ü", 1100) + "\r\n", Reply{550, [3]int{}, "x" + strings.Repeat("ü", 1023)}, "550 x" + strings.Repeat("ü", 1023)},
	} {
		for how, r := range map[string]io.Reader{
			"whole": strings.NewReader(test.in + "next"), "bytes": iotest.OneByteReader(strings.NewReader(test.in + "next")),
		} {
			got, rest, err := parse(r)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil || rest != "next" {
				t.Errorf("%.40q, %s: %v, rest %q, %s", test.in, how, err, rest, diff)
			}
			if got.String() != test.text {
				t.Errorf("%.40q: %q, want %q", test.in, got.String(), test.text)
			}
		}
	}
}

func TestReplyClass(t *testing.T) {
	t.Parallel()
	for code, want := range map[int][3]bool{250: {true}, 354: {}, 450: {false, true}, 550: {false, false, true}} {
		r := Reply{Code: code}
		if got := [3]bool{r.Positive(), r.Temporary(), r.Permanent()}; got != want {
			t.Errorf("%d: %v", code, got)
		}
	}
}

func TestReplyErrors(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]error{
		"":                          io.EOF,
		"250":                       io.ErrUnexpectedEOF,
		"250-a\r\n":                 io.ErrUnexpectedEOF,
		"250-a\r\n250 b":            io.ErrUnexpectedEOF,
		"\r\n":                      ErrProtocol,
		"25\r\n":                    ErrProtocol,
		"25x ok\r\n":                ErrProtocol,
		"150 ok\r\n":                ErrProtocol,
		"650 ok\r\n":                ErrProtocol,
		"2500 ok\r\n":               ErrProtocol,
		"250_ok\r\n":                ErrProtocol,
		"+OK POP3\r\n":              ErrProtocol,
		"250-a\r\n550 b\r\n":        ErrProtocol,
		"250-a\r\n\r\n250 b\r\n":    ErrProtocol,
		strings.Repeat("x", 70<<10): ErrReplyTooLong,
		strings.Repeat("2", 1<<20):  ErrReplyTooLong,
		"250-" + strings.Repeat("x", 70<<10) + "\r\n250 x\r\n":       ErrReplyTooLong,
		strings.Repeat("250-x\r\n", 128) + "250 x\r\n":               ErrReplyTooLong,
		strings.Repeat("250-"+strings.Repeat("x", 40<<10)+"\r\n", 4): ErrReplyTooLong,
	} {
		_, _, err := parse(strings.NewReader(in))
		if !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", in, err, want)
		}
	}
	if !errors.Is(ErrReplyTooLong, ErrProtocol) {
		t.Error("a reply too long is no protocol error")
	}
	in := strings.Repeat("250-x\r\n", 127) + "250 x\r\n"
	if _, _, err := parse(strings.NewReader(in)); err != nil {
		t.Errorf("128 lines: %v", err)
	}
}

// A hostile reply costs no memory beyond the caps, and none for long.
func TestReplyMemory(t *testing.T) {
	t.Parallel()
	endless := "250-" + strings.Repeat("x", 1000) + "\r\n"
	br := bufio.NewReader(strings.NewReader(strings.Repeat(endless, 120) + "250 x\r\n250 y\r\n"))
	var p replyReader
	if _, err := p.read(br); err != nil {
		t.Fatal(err)
	}
	if cap(p.text) > 2*maxReply {
		t.Errorf("buffer of %d octets", cap(p.text))
	}
	if _, err := p.read(br); err != nil || cap(p.text) > keepText {
		t.Errorf("buffer of %d octets is kept (%v)", cap(p.text), err)
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"250 ok\r\n", "250-a\r\n250 b\r\n", "250\n", "550 5.1.1 no\r\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n",
		"250-SIZE 100\r\n250-LIMITS RCPTMAX=5\r\n250 PIPELINING\r\n", "250-a\r\n550 b\r\n", "x", "", "550 \xff\x00\x1b\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := parse(strings.NewReader(string(b)))
		slow, slowRest, slowErr := parse(iotest.OneByteReader(strings.NewReader(string(b))))
		if fmt.Sprint(err) != fmt.Sprint(slowErr) || r != slow || rest != slowRest {
			t.Fatalf("%q depends on how it arrives: %v %v", b, err, slowErr)
		}
		if err != nil {
			e := &Error{Stage: StageMail, Err: err}
			checkPrintable(t, e.Error())
			return
		}
		if r.Code < 200 || r.Code > 599 || len(r.Text) > maxText || !utf8.ValidString(r.Text) {
			t.Fatalf("%q became %+v", b, r)
		}
		if c := r.Enhanced[0]; c != 0 && c != r.Code/100 {
			t.Fatalf("%q: class of %v", b, r.Enhanced)
		}
		checkPrintable(t, r.String())
		ext := parseExtensions(string(b))
		ext.Limits()
		if ext.Size() < 0 {
			t.Fatalf("size %d", ext.Size())
		}
	})
}

func checkPrintable(t *testing.T, s string) {
	t.Helper()
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		t.Fatalf("not printable: %q", s)
	}
}
