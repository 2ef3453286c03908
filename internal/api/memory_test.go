package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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
		res, err := w.srv.Client().Do(r)
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
