// Package ui is the page for people that http_api serves under /ui/: plain HTML,
// CSS and JavaScript, embedded, with no build step and nothing from elsewhere.
//
// What the page shows comes from /ui/data/ (internal/api/ui.go), which sees to
// logins and sets the headers that confine the page. Here are only files:
//
//	index.html   everything that stands still
//	style.css    light, dark and narrow
//	app.js       login, and which view is shown
//	data.js      requests
//	dom.js       how text gets into the page: as text
//	domains.js, log.js, story.js, charts.js   the views; chart.js draws
//
// The rule for the scripts: documents hold what mail servers and strangers said,
// so that nothing of them is ever parsed as HTML. A test keeps innerHTML and its
// like out, and the Content Security Policy would stop what slipped through.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed page
var embedded embed.FS

// types are those of the files; systems differ in what they know.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is one that is served.
type file struct {
	content []byte
	kind    string
	tag     string // its ETag
}

// handler has the files by their path.
type handler map[string]file

// Handler serves the page under /ui/.
func Handler() http.Handler {
	h := handler{}
	names, err := fs.Glob(embedded, "page/*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		content, err := embedded.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(content)
		kind, ok := types[path.Ext(name)]
		if !ok {
			kind = mime.TypeByExtension(path.Ext(name))
		}
		h["/ui/"+path.Base(name)] = file{content, kind, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	}
	h["/ui/"] = h["/ui/index.html"]
	return h
}

// ServeHTTP answers with a file. Browsers may keep it, but have to ask whether it
// is still the same: a new version is seen at once.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method not allowed, expected GET", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/ui" {
		// Relative, for proxies that put the page elsewhere.
		w.Header().Set("Location", "ui/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	f, ok := h[r.URL.Path]
	if !ok {
		http.Error(w, "Not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", f.tag)
	http.ServeContent(w, r, strings.TrimPrefix(r.URL.Path, "/ui/"), time.Time{}, bytes.NewReader(f.content))
}
