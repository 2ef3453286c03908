package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// holder takes memory for requests that never come.
type holder struct{ *world }

// half is the body of a message that needs half of the memory for large ones, if
// messages may be no larger.
const half = (maxLarge/2 - 256<<10) / 3

// holds takes memory for a body, -1 for one whose length is not known.
func (h holder) holds(ctx context.Context, b *budget, size int64, body io.Reader) (release func(), err error) {
	r := httptest.NewRequestWithContext(ctx, "POST", "/", body)
	r.ContentLength = size
	return h.api.hold(r, h.api.MaxMessage+formOverhead, b)
}

// Messages are taken one after the other if they are too large for all at once,
// and no key has all of the memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	w := holder{newWorld(t, func(c *Config) { c.MaxMessage = half })}
	one, two, three := w.api.budgets.of("one"), w.api.budgets.of("two"), w.api.budgets.of("three")
	gone, cancel := context.WithCancel(t.Context())
	cancel() // so that nobody waits
	must := func(b *budget) func() {
		t.Helper()
		release, err := w.holds(t.Context(), b, half, nil)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	release := must(one)
	if _, err := w.holds(gone, one, half, nil); err == nil {
		t.Error("one key has all")
	}
	again := must(two)
	if _, err := w.holds(gone, three, half, nil); err == nil {
		t.Error("there was memory for three")
	}
	// What is small does not wait behind what is large: not if it says so, and not
	// if it says nothing.
	for _, b := range []*budget{one, three} {
		small, err := w.holds(t.Context(), b, smallBody, nil)
		if err != nil {
			t.Fatal(err)
		}
		small()
		if small, err = w.holds(t.Context(), b, -1, strings.NewReader("from=a")); err != nil {
			t.Fatal(err)
		}
		small()
	}
	waits := make(chan error)
	go func() { // the first octets of one that says nothing are read before it waits
		leaves, leave := context.WithCancel(t.Context())
		_, err := w.holds(leaves, three, -1, io.MultiReader(bytes.NewReader(make([]byte, smallBody)), last(leave)))
		waits <- err
	}()
	if err := <-waits; err == nil {
		t.Error("one that says nothing had more than it may")
	}
	release()
	must(three)()
	must(one)()
	again()
	if !w.api.memory.large.TryAcquire(maxLarge) || !w.api.memory.small.TryAcquire(maxSmall) {
		t.Error("not all was given back")
	}
}

// last is the last octet of a body, with which the client leaves.
type last func()

func (l last) Read(p []byte) (int, error) {
	l()
	p[0] = 'x'
	return 1, nil
}

// A body without a length is read whole, wherever it is looked at first.
func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, size := range []int{1, smallBody - 1000, smallBody, 3 * smallBody} {
		text := strings.Repeat("x", size) + "\n"
		body, kind := multipartBody(t, []formPart{
			{name: "from", data: "ann@example.com"}, {name: "to", data: "bob@example.net"}, {name: "text", data: text},
		})
		r, err := http.NewRequest("POST", w.srv.URL+messagesPath, iotest.OneByteReader(body))
		if size > 10 {
			r, err = http.NewRequest("POST", w.srv.URL+messagesPath, io.MultiReader(body)) // hides its length
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		r.SetBasicAuth("api", domainKey)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || strings.Count(string(w.last().Body), "x") != size {
			t.Errorf("%d octets: %d", size, res.StatusCode)
		}
	}
}

// What was read before stays as it is when more is read.
func TestRoom(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{-1, 300_000, 1 << 21} {
		into := newRoom(length, 1<<20)
		var got [][]byte
		for i := range 20 {
			if i%3 == 0 {
				octets, err := into.all(strings.NewReader("in between"))
				if string(octets) != "in between" || err != nil {
					t.Errorf("%q, %v", octets, err)
				}
				into.forget(octets)
			}
			octets, err := into.all(iotest.HalfReader(bytes.NewReader(bytes.Repeat([]byte{byte(i)}, i*i*100))))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, octets)
		}
		for i, octets := range got {
			if !bytes.Equal(octets, bytes.Repeat([]byte{byte(i)}, i*i*100)) {
				t.Errorf("length %d: piece %d has changed", length, i)
			}
		}
		if _, err := into.all(iotest.ErrReader(io.ErrUnexpectedEOF)); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
		if _, err := into.all(bytes.NewReader(make([]byte, 1<<20+1))); err != io.ErrShortBuffer {
			t.Errorf("more than there may be: %v", err)
		}
	}
}

// A message allocates no more than was counted for it, from the first octet of its
// form to the queue, whatever is in it. It runs alone: others allocate too.
func TestMessageNeedsWhatIsCounted(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, too")
	}
	const size = 4 << 20
	w := newWorld(t, func(c *Config) { c.MaxMessage = size * 3 / 2 })
	long := strings.Repeat(strings.Repeat("all work and no play ", 3)+"\n", size/64)
	values := func(text string) (io.Reader, string) {
		f := url.Values{"from": {"ann@example.com"}, "to": {"bob@example.net"}, "text": {text}}
		return strings.NewReader(f.Encode()), "application/x-www-form-urlencoded"
	}
	parts := func(field, file, data string) (io.Reader, string) {
		all := []formPart{{name: "to", data: "bob@example.net"}, {name: field, file: file, data: data}}
		if field != "message" {
			all = append(all, formPart{name: "from", data: "ann@example.com"})
		}
		if field != "message" && field != "text" {
			all = append(all, formPart{name: "text", data: "hello\n"})
		}
		return multipartBody(t, all)
	}
	for _, tt := range []struct {
		name, path string
		status     int
		form       func() (io.Reader, string)
	}{
		{"text", messagesPath, 200, func() (io.Reader, string) { return values(long) }},
		{"escaped text", messagesPath, 200, func() (io.Reader, string) { return values(strings.Repeat("\u00e4\u00f6", size/12)) }},
		{"text that grows", messagesPath, 413, func() (io.Reader, string) { return parts("text", "", strings.Repeat("\u00e4\u00f6", size/6)) }},
		{"text in parts", messagesPath, 200, func() (io.Reader, string) { return parts("text", "", long) }},
		{"file", messagesPath, 200, func() (io.Reader, string) { return parts("attachment", "a", long) }},
		{"file that grows", messagesPath, 413, func() (io.Reader, string) { return parts("attachment", "a", long+long[:size/5]) }},
		{"urlencoded file", messagesPath, 200, func() (io.Reader, string) {
			f := url.Values{"from": {"ann@example.com"}, "to": {"bob@example.net"}, "text": {"x"}, "attachment": {strings.Repeat("a", size)}}
			return strings.NewReader(f.Encode()), "application/x-www-form-urlencoded"
		}},
		{"MIME", messagesPath + ".mime", 200, func() (io.Reader, string) { return parts("message", "a", "From: ann@example.com\r\n\r\n"+long) }},
		{"header", messagesPath + ".mime", 200, func() (io.Reader, string) {
			return parts("message", "a", "From: ann@example.com\r\n"+strings.Repeat("a:\n", maxHeaderFields-1)+"\r\n")
		}},
		{"longer header", messagesPath + ".mime", 400, func() (io.Reader, string) {
			return parts("message", "a", "From: ann@example.com\r\n"+strings.Repeat("a:\n", maxHeaderFields)+"\r\n")
		}},
		{"header of a part", messagesPath + ".mime", 200, func() (io.Reader, string) {
			return parts("message", "a", "From: ann@example.com\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"+
				strings.Repeat("a:\n", size/3)+"\r\n\r\n--y--\r\n")
		}},
		{"header of a part, one field", messagesPath + ".mime", 200, func() (io.Reader, string) {
			return parts("message", "a", "From: ann@example.com\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"+
				"Content-Disposition: attachment; filename="+strings.Repeat("a", size)+"\r\n\r\n\r\n--y--\r\n")
		}},
		{"parts of a message", messagesPath + ".mime", 200, func() (io.Reader, string) {
			return parts("message", "a", "From: ann@example.com\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n"+strings.Repeat("--y\n\n", size/5))
		}},
		{"name of a file", messagesPath, 400, func() (io.Reader, string) { return parts("attachment", strings.Repeat("a", size), "a") }},
		{"variables", messagesPath, 400, func() (io.Reader, string) {
			var text strings.Builder
			for i := range 256 {
				fmt.Fprintf(&text, "--x\r\nContent-Disposition: form-data; name=\"v:%d\"\r\n\r\n%s\r\n", i, strings.Repeat("\u00e4", maxValue/2))
			}
			return strings.NewReader("--x\r\nContent-Disposition: form-data; name=from\r\n\r\nann@example.com\r\n" +
				"--x\r\nContent-Disposition: form-data; name=to\r\n\r\nbob@example.net\r\n" + text.String() + "--x--\r\n"), "multipart/form-data; boundary=x"
		}},
		{"text without a length", messagesPath, 200, func() (io.Reader, string) {
			body, kind := parts("text", "", long+long[:size/3])
			return io.MultiReader(body), kind
		}},
		{"MIME without a length", messagesPath + ".mime", 200, func() (io.Reader, string) {
			body, kind := parts("message", "a", "From: ann@example.com\r\n\r\n"+long+long[:size/3])
			return io.MultiReader(body), kind
		}},
		{"fields", messagesPath, 400, func() (io.Reader, string) {
			return strings.NewReader(strings.Repeat("a=&", size/3)), "application/x-www-form-urlencoded"
		}},
		{"parts", messagesPath, 400, func() (io.Reader, string) {
			part := "--x\r\nContent-Disposition: form-data; name=\"v:a\"\r\n\r\n\r\n"
			return strings.NewReader(strings.Repeat(part, 100_000) + "--x--\r\n"), "multipart/form-data; boundary=x"
		}},
	} {
		body, kind := tt.form()
		r := httptest.NewRequest("POST", tt.path, body)
		counted := w.api.memory.need(w.api.MaxMessage + formOverhead)
		if body, ok := body.(interface{ Len() int }); ok {
			r.ContentLength = int64(body.Len())
			counted = w.api.memory.need(r.ContentLength)
		} else {
			r.ContentLength = -1
		}
		r.Header.Set("Content-Type", kind)
		r.SetBasicAuth("api", domainKey)
		got := httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w.api.ServeHTTP(got, r)
		runtime.ReadMemStats(&after)
		if got.Code != tt.status {
			t.Errorf("%s: %d %.200s, want %d", tt.name, got.Code, got.Body, tt.status)
		}
		took := int64(after.TotalAlloc - before.TotalAlloc)
		t.Logf("%s: %d KiB of %d KiB %.100s", tt.name, took>>10, counted>>10, got.Body)
		if took > counted {
			t.Errorf("%s: %d octets were allocated, %d counted", tt.name, took, counted)
		}
	}
}

// Values in forms mean what they mean to everybody.
func FuzzUnescape(f *testing.F) {
	for _, seed := range []string{"a+b%20c", "%", "%4", "%4x", "%e4%C3%a4", "a%00+%2B", "%%%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := url.QueryUnescape(s)
		if got, ok := unescape([]byte(s)); string(got) != want && ok || ok != (err == nil) {
			t.Errorf("%q: %q, %v, want %q, %v", s, got, ok, want, err)
		}
	})
}
