package api

import (
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
)

// A message allocates no more than was counted for it, from the first octet of its
// form to the queue, whatever is in it. It runs alone: others allocate too.
func TestMessageNeedsWhatIsCounted(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, too")
	}
	const size = 4 << 20
	w := newWorld(t, func(c *Config) { c.MaxMessage = size * 3 / 2 })
	for _, tt := range costlyForms(t, size) {
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

// costlyForm is a request whose form means much work.
type costlyForm struct {
	name, path string
	status     int
	form       func() (io.Reader, string) // without Len, the length is not announced
}

// costlyForms are some of about size octets, for messages of half as much again.
func costlyForms(t *testing.T, size int) []costlyForm {
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
	return []costlyForm{
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
		{"names", messagesPath, 400, func() (io.Reader, string) {
			name := `"` + strings.Repeat("\u00e4", maxAddresses/2-100) + `" <bob@example.net>`
			f := url.Values{"from": {"ann@example.com"}, "text": {"x"}}
			for range size / 4 / len(name) {
				f.Add("to", name)
			}
			return strings.NewReader(f.Encode()), "application/x-www-form-urlencoded"
		}},
		{"fields", messagesPath, 400, func() (io.Reader, string) {
			return strings.NewReader(strings.Repeat("a=&", size/3)), "application/x-www-form-urlencoded"
		}},
		{"parts", messagesPath, 400, func() (io.Reader, string) {
			part := "--x\r\nContent-Disposition: form-data; name=\"v:a\"\r\n\r\n\r\n"
			return strings.NewReader(strings.Repeat(part, 100_000) + "--x--\r\n"), "multipart/form-data; boundary=x"
		}},
	}
}
