package ui

import (
	"io/fs"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"tlscontrol/internal/tlsplan"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	h := Handler()
	for target, want := range map[string]string{
		"/ui": "308 ", "/ui/": "200 text/html; charset=utf-8", "/ui/app.js": "200 text/javascript; charset=utf-8",
		"/ui/style.css": "200 text/css; charset=utf-8", "/ui/icon.svg": "200 image/svg+xml",
		"/ui/none": "404 text/plain; charset=utf-8", "/ui/../ui.go": "404 text/plain; charset=utf-8", "/ui/page/app.js": "404 text/plain; charset=utf-8",
	} {
		r := httptest.NewRequest("GET", target, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		got := w.Result()
		if s := got.Status[:4] + got.Header.Get("Content-Type"); s != want {
			t.Errorf("%s: %s", target, s)
		}
		if tag := got.Header.Get("ETag"); got.StatusCode == 200 {
			r.Header.Set("If-None-Match", tag)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 304 {
				t.Errorf("%s again: %d", target, w.Code)
			}
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/ui/", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

// TestReasons: the page offers the reasons that there are.
func TestReasons(t *testing.T) {
	t.Parallel()
	text, err := embedded.ReadFile("page/log.js")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "const REASONS = [")
	list, _, _ = strings.Cut(list, "]")
	var want []string
	for _, r := range tlsplan.Reasons() {
		want = append(want, "'"+string(r)+"'")
	}
	if got := strings.Join(strings.Fields(list), " "); got != strings.Join(want, ", ") {
		t.Errorf("got %s", got)
	}
}

// TestFilesAreSafe holds the files against the rules of the package: nothing from
// other hosts, nothing inline, no text as HTML, and all of it small.
func TestFilesAreSafe(t *testing.T) {
	t.Parallel()
	forbidden := map[string]*regexp.Regexp{
		".js":   regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|srcdoc|\beval\b|new Function|localStorage|sessionStorage|https?://`),
		".html": regexp.MustCompile(`(?i)https?://|<style|\sstyle=|\son[a-z]+=|<script[^>]*>[^<]|javascript:`),
		".css":  regexp.MustCompile(`(?i)https?://|@import|url\(`),
		".svg":  regexp.MustCompile(`(?i)<script|\son[a-z]+=`),
	}
	total := 0
	err := fs.WalkDir(embedded, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		total += len(text)
		rule, ok := forbidden[path.Ext(name)]
		if !ok {
			t.Errorf("%s: what is it?", name)
			return nil
		}
		clean := strings.ReplaceAll(string(text), "'http://www.w3.org/2000/svg'", "") // the name of SVG, nothing that is fetched
		if path.Ext(name) == ".svg" {
			clean = strings.ReplaceAll(clean, `"http://www.w3.org/2000/svg"`, "")
		}
		if found := rule.FindString(clean); found != "" {
			t.Errorf("%s has %q in it", name, found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 100_000 {
		t.Errorf("the page has %d octets", total)
	}
}
