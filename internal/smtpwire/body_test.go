package smtpwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/textproto"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEncoder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, plain, stuffed string }{
		{"empty", "", "", ""},
		{"CRLF", "a\r\nb\r\n", "a\r\nb\r\n", "a\r\nb\r\n"},
		{"LF", "a\nb\n", "a\r\nb\r\n", "a\r\nb\r\n"},
		{"CR", "a\rb\r", "a\r\nb\r\n", "a\r\nb\r\n"},
		{"mixed", "\r\r\n\n\r", "\r\n\r\n\r\n\r\n", "\r\n\r\n\r\n\r\n"},
		{"no last line end", "a", "a\r\n", "a\r\n"},
		{"NUL and 8 bit", "\x00\xff\n", "\x00\xff\r\n", "\x00\xff\r\n"},
		{"dots", ".\n..\na.\n", ".\r\n..\r\na.\r\n", "..\r\n...\r\na.\r\n"},
		{"only a dot", ".", ".\r\n", "..\r\n"},
		{"smuggled with LF", "a\n.\nMAIL", "a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n"},
		{"smuggled with CR", "a\r.\rMAIL", "a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n"},
		{"smuggled with LF.CRLF", "a\n.\r\nMAIL", "a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n"},
		{"smuggled with CR.CRLF", "a\r.\r\nMAIL", "a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n"},
		{"smuggled with NUL", "a\r\n\x00.\r\nMAIL", "a\r\n\x00.\r\nMAIL\r\n", "a\r\n\x00.\r\nMAIL\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for cut := range len(test.in) + 1 {
				for stuff, want := range map[bool]string{false: test.plain, true: test.stuffed} {
					e := encoder{stuff: stuff}
					out := e.encode(nil, []byte(test.in[:cut]))
					out = e.encode(out, []byte(test.in[cut:]))
					if out = e.finish(out); string(out) != want {
						t.Errorf("cut at %d, stuffing %v: %q, want %q", cut, stuff, out, want)
					}
				}
			}
		})
	}
}

// normalised is what a message must look like on the other side, written
// without regard to speed.
func normalised(b []byte) []byte {
	s := strings.ReplaceAll(string(b), "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return []byte(strings.ReplaceAll(s, "\n", "\r\n"))
}

// unstuffed is a receiver of DATA: it ends at the first line that is a dot,
// by the letter of RFC 5321, section 4.5.2. It fails if that is not the end.
func unstuffed(b []byte) ([]byte, error) {
	var out []byte
	for {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		switch {
		case !ok:
			return nil, errors.New("no final dot")
		case bytes.ContainsAny(line, "\r\n"):
			return nil, errors.New("lone CR or LF")
		case string(line) == ".":
			if len(rest) > 0 {
				return nil, errors.New("the end is not at the end")
			}
			return out, nil
		}
		out = append(append(out, bytes.TrimPrefix(line, []byte("."))...), "\r\n"...)
		b = rest
	}
}

// checkBody sends header and content through a source with blocks of limit
// octets and compares what an independent receiver makes of it.
func checkBody(t *testing.T, header, content []byte, read func(io.Reader) io.Reader, limit int) {
	t.Helper()
	want := normalised(append(header[:len(header):len(header)], content...))
	for _, stuff := range []bool{false, true} {
		s := source{
			enc: encoder{stuff: stuff}, pending: header, raw: make([]byte, 1000),
			open: func() (io.ReadCloser, error) { return io.NopCloser(read(bytes.NewReader(content))), nil },
		}
		var wire []byte
		for done := false; !done; {
			var block []byte
			var err error
			buf := make([]byte, 0, limit+slack)
			if block, done, err = s.next(buf, limit); err != nil {
				t.Fatal(err)
			}
			if !done && len(block) > limit || len(block) > limit+2 {
				t.Fatalf("block of %d octets, limit %d", len(block), limit)
			}
			wire = append(wire, block...)
		}
		if !stuff {
			if !bytes.Equal(wire, want) {
				t.Fatalf("%q became %q", want, wire)
			}
			continue
		}
		wire = append(wire, ".\r\n"...)
		got, err := unstuffed(wire)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q became %q (%v)", want, wire, err)
		}
		// The library's reader gives LF for CRLF.
		lines, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(wire))).ReadDotBytes()
		if err != nil || !bytes.Equal(lines, bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))) {
			t.Fatalf("%q was read as %q (%v)", wire, lines, err)
		}
	}
}

// randomReads returns between nothing and all that is asked for.
type randomReads struct {
	r   io.Reader
	rng *rand.Rand
}

func (r randomReads) Read(b []byte) (int, error) {
	return r.r.Read(b[:r.rng.IntN(min(len(b), 50)+1)])
}

func TestBodyProperty(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	parts := []string{"\r", "\n", "\r\n", ".", "..", ".\r\n", "\r\n.\r\n", "\n.\n", "\r.\r", "a", "some text", "\x00", "\xff", strings.Repeat("x", 700)}
	random := func(n int) []byte {
		var b []byte
		for range rng.IntN(n) {
			b = append(b, parts[rng.IntN(len(parts))]...)
		}
		return b
	}
	for range 2000 {
		reads := []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r },
			iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
			func(r io.Reader) io.Reader { return randomReads{r, rng} },
		}
		checkBody(t, random(10), random(60), reads[rng.IntN(len(reads))], minRoom+rng.IntN(3000))
		checkCount(t, random(10), random(60), reads[rng.IntN(len(reads))])
	}
}

// checkCount holds the length that is counted in advance against that of what
// is sent.
func checkCount(t *testing.T, header, content []byte, read func(io.Reader) io.Reader) {
	t.Helper()
	newSource := func() source {
		return source{pending: header, raw: make([]byte, 7), open: func() (io.ReadCloser, error) {
			return io.NopCloser(read(bytes.NewReader(content))), nil
		}}
	}
	x := &exchange{t: &Transaction{Header: header, Content: newSource().open}, buf: new(buffers)}
	n, _, err := x.measure()
	if err != nil {
		t.Fatal(err)
	}
	var sent int64
	for s, done := newSource(), false; !done; {
		var out []byte
		if out, done, err = s.next(make([]byte, 0, 2*minRoom), minRoom); err != nil {
			t.Fatal(err)
		}
		sent += int64(len(out))
	}
	if n != sent {
		t.Errorf("counted %d octets, sent %d, of %q and %q", n, sent, header, content)
	}
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{"", ".", "a\r\n.\r\nMAIL FROM:<>\r\n", "\n.\n", "\r.\r", "a\r", "\r\r\n", "x\n\x00.\r\n\xff"} {
		f.Add([]byte("S: x\r\n\r\n"), []byte(seed), uint16(0))
		f.Add([]byte(seed), []byte("\n.\r\n"), uint16(7))
	}
	f.Fuzz(func(t *testing.T, header, content []byte, limit uint16) {
		checkBody(t, header, content, iotest.HalfReader, minRoom+int(limit))
		checkBody(t, header, content, iotest.OneByteReader, minRoom+int(limit))
		checkCount(t, header, content, iotest.HalfReader)
		checkCount(t, header, content, iotest.OneByteReader)
	})
}

func TestSourceFailures(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() (io.ReadCloser, error){
		"open":        func() (io.ReadCloser, error) { return nil, errDisk },
		"read":        func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(errDisk)), nil },
		"read midway": func() (io.ReadCloser, error) { return failing{good: strings.NewReader("x"), closed: new(bool)}, nil },
		"no progress": func() (io.ReadCloser, error) { return io.NopCloser(idle{}), nil },
	} {
		s := source{pending: []byte("header\n"), raw: make([]byte, 100), open: open}
		_, done, err := s.next(nil, 1<<10)
		if want := map[bool]error{true: io.ErrNoProgress, false: errDisk}[name == "no progress"]; done || !errors.Is(err, want) {
			t.Errorf("%s: done %v, error %v", name, done, err)
		}
	}
	for name, open := range map[string]func() (io.ReadCloser, error){
		"none": nil, "nil": func() (io.ReadCloser, error) { return nil, nil },
	} {
		s := source{pending: []byte("header\n"), raw: make([]byte, 100), open: open}
		if out, done, err := s.next(nil, 1<<10); !done || err != nil || string(out) != "header\r\n" {
			t.Errorf("%s: %q %v %v", name, out, done, err)
		}
		s.close()
	}
}

// idle is a reader that never comes to an end.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func benchmarkEncoder(b *testing.B, line string, stuff bool) {
	in := bytes.Repeat([]byte(line), 1<<20/len(line))
	buf := make([]byte, 0, 2*readSize)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		e := encoder{stuff: stuff}
		for rest := in; len(rest) > 0; {
			n := min(len(rest), readSize)
			e.encode(buf, rest[:n])
			rest = rest[n:]
		}
	}
}

func BenchmarkEncoder(b *testing.B) {
	text := strings.Repeat("x", 76)
	b.Run("CRLF", func(b *testing.B) { benchmarkEncoder(b, text+"\r\n", true) })
	b.Run("LF", func(b *testing.B) { benchmarkEncoder(b, text+"\n", true) })
	b.Run("BDAT", func(b *testing.B) { benchmarkEncoder(b, text+"\r\n", false) })
	b.Run("hostile CR", func(b *testing.B) { benchmarkEncoder(b, "\r", true) })
	b.Run("hostile dots", func(b *testing.B) { benchmarkEncoder(b, ".\n", true) })
}
