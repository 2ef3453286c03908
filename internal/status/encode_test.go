package status

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// reference is what encoding/json makes of a value, with what does not print
// escaped: what the encoder must write.
func reference(t testing.TB, v any) string {
	t.Helper()
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // a log is not HTML: "<" stays readable
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(appendPrintable(nil, bytes.TrimSuffix(line.Bytes(), []byte("\n"))))
}

// appendPrintable copies JSON and escapes what encoding/json lets through
// although it does not print.
func appendPrintable(dst, line []byte) []byte {
	done := 0
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		if !unicode.IsPrint(r) {
			dst = append(dst, line[done:i]...)
			dst = appendEscape(dst, r)
			done = i + n
		}
		i += n
	}
	return append(dst, line[done:]...)
}

// filler makes documents of every shape.
type filler struct {
	t    testing.TB
	rand *rand.Rand
	// full leaves nothing out.
	full bool
	text func() string
}

func (f *filler) leaveOut() bool { return !f.full && f.rand.IntN(3) == 0 }

// fill sets v, and all that it holds.
func (f *filler) fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[netip.Addr]() {
		if !f.leaveOut() {
			v.Set(reflect.ValueOf(f.address()))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Pointer:
		if !f.leaveOut() {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Slice:
		if !f.leaveOut() {
			v.Set(reflect.MakeSlice(v.Type(), 1+f.rand.IntN(3), 4))
			for i := range v.Len() {
				f.fill(v.Index(i))
			}
		}
	case reflect.String:
		if !f.leaveOut() {
			v.SetString(f.text())
		}
	case reflect.Bool:
		v.SetBool(f.full || f.rand.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		if !f.leaveOut() {
			v.SetInt(1 + f.rand.Int64N(1<<f.rand.IntN(63))*int64(1-2*f.rand.IntN(2)))
		}
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(f.rand.Uint64N(255) + 1)
	case reflect.Float64:
		v.SetFloat(f.rand.Float64() * float64(f.rand.Int64N(maxSeconds)))
	default:
		f.t.Fatalf("cannot fill a %v", v.Type())
	}
}

func (f *filler) address() netip.Addr {
	var raw [16]byte
	for i := range raw {
		raw[i] = byte(f.rand.UintN(256))
	}
	return pick(f.rand, netip.AddrFrom4([4]byte(raw[:4])), netip.AddrFrom16(raw),
		netip.MustParseAddr("::ffff:192.0.2.1"), netip.AddrFrom16(raw).WithZone(f.text()))
}

// checkEncoder fails unless the encoder and encoding/json agree about d, and
// about header fields even with a map.
func checkEncoder(t testing.TB, d *Document) {
	t.Helper()
	if diff := cmp.Diff(reference(t, d), string(d.append(nil))); diff != "" {
		t.Fatalf("(-encoding/json +encoder):\n%s", diff)
	}
	fields := map[string]string{}
	for _, f := range d.Message.Headers {
		fields[f.Name] = f.Value
	}
	var headers Headers // as HeaderNames has Build make them: sorted, each once
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		headers = append(headers, HeaderField{name, fields[name]})
	}
	var e encoder
	headers.encode(&e)
	if diff := cmp.Diff(reference(t, fields), string(e.b)); diff != "" {
		t.Fatalf("header fields (-map +ours):\n%s", diff)
	}
}

// TestEncoderKnowsEveryField fails when a field of Document, or of what it
// holds, is not written, in another place or form than its declaration says.
func TestEncoderKnowsEveryField(t *testing.T) {
	t.Parallel()
	checkEncoder(t, new(Document))
	n := 0
	f := filler{t: t, rand: rand.New(rand.NewPCG(1, 2)), full: true, text: func() string {
		n++
		return "text" + strconv.Itoa(100+n)
	}}
	var d Document
	f.fill(reflect.ValueOf(&d).Elem())
	checkEncoder(t, &d)
	// The encoding stands for the field only if none is the zero value.
	full(t, "Document", reflect.ValueOf(d))
}

// full fails if anything in v is not set.
func full(t *testing.T, path string, v reflect.Value) {
	if v.IsZero() {
		t.Errorf("%s is not set", path)
	}
	switch v.Kind() {
	case reflect.Pointer:
		full(t, path, v.Elem())
	case reflect.Slice:
		full(t, path+"[0]", v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				full(t, path+"."+field.Name, v.Field(i))
			}
		}
	}
}

// TestEncoderOnAttempts: what Build makes is written as encoding/json would.
func TestEncoderOnAttempts(t *testing.T) {
	t.Parallel()
	var b Builder
	for _, c := range goldenCases() {
		checkEncoder(t, b.Build(c.attempt, testOptions()))
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		checkEncoder(t, b.Build(randomAttempt(r), Options{Headers: HeaderNames("x-campaign", "Message-ID")}))
	}
}

func FuzzEncoder(f *testing.F) {
	for i, text := range []string{
		"", "plain", hostileText(), "\"\\/\b\f\n\r\t\x00\x1f\x7f", "<>&", "\u2028\u2029\u0085\ufffd\ufeff",
		"\xed\xa0\x80\xf4\x90\x80\x80\xc0\x80", "\U000e0041\U0001f600\U0010ffff", "\xe2\x80",
	} {
		f.Add(text, "other "+text, uint64(i))
	}
	f.Fuzz(func(t *testing.T, one, two string, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		fill := filler{t: t, rand: r, text: func() string { return pick(r, one, two, two+one) }}
		var d Document
		fill.fill(reflect.ValueOf(&d).Elem())
		checkEncoder(t, &d)
	})
}

// TestBuilderForgets: nothing of one document is left in the next one.
func TestBuilderForgets(t *testing.T) {
	t.Parallel()
	var b Builder
	for _, first := range goldenCases() {
		for _, then := range goldenCases() {
			b.Build(first.attempt, testOptions())
			got := b.Build(then.attempt, testOptions()).append(nil)
			want := new(Builder).Build(then.attempt, testOptions()).append(nil)
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s after %s (-alone +after):\n%s", then.name, first.name, diff)
			}
		}
	}
	b.reset()
	for _, host := range b.hosts[:cap(b.hosts)] {
		if host != (Host{}) {
			t.Errorf("kept %v", host)
		}
	}
	for _, field := range b.headers[:cap(b.headers)] {
		if field != (HeaderField{}) {
			t.Errorf("kept %v", field)
		}
	}
}
