package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// access says whom a route is for.
type access int

const (
	anybody access = iota // no key
	full                  // keys of everything
	readers               // also keys of one domain that read it; without {domain} the handler confines itself to it
	senders               // also all keys of the domain in the path
)

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request, c call) error

// call is what is known of a request before its handler is asked.
type call struct {
	key     Key
	budget  *budget // of the key
	domain  string  // of the path, normalised; "" if there is none in it
	page    string  // of the path
	session session // of the page for people, if it is for that
}

// route is one method of one path. Segments in braces stand for anything.
type route struct {
	method, path string
	access       access
	handler      handler
}

// table is the list of all routes; of two that match a path the first counts.
// ServeMux will not do: to it, /v3/domains/{domain} and /v3/{domain}/events are
// in conflict.
func (a *API) table() []route {
	return []route{
		{"GET", "/healthz", anybody, a.alive},
		{"GET", "/readyz", anybody, a.ready},
		{"GET", "/openapi.json", anybody, a.openAPI},
		{"GET", "/v3/domains", readers, a.listDomains},
		{"GET", "/v4/domains", readers, a.listDomains},
		{"GET", "/v3/domains/{domain}", readers, a.getDomain},
		{"GET", "/v4/domains/{domain}", readers, a.getDomain},
		{"PUT", "/v4/domains/{domain}", full, a.putDomain},
		{"GET", "/v3/domains/{domain}/connection", readers, a.getConnection},
		{"PUT", "/v3/domains/{domain}/connection", full, a.putConnection},
		{"POST", "/v3/{domain}/messages", senders, a.postMessage},
		{"POST", "/v3/{domain}/messages.mime", senders, a.postMIME},
		{"GET", "/v3/{domain}/events", readers, a.getEvents},
		{"GET", "/v3/{domain}/events/{page}", readers, a.getEventsPage},
	}
}

func (rt *route) String() string { return rt.method + " " + rt.path }

// Routes are methods and paths of all routes, as in "GET /healthz".
func Routes() []string {
	var names []string
	for _, rt := range (&API{}).table() {
		names = append(names, rt.String())
	}
	return names
}

// match returns what stands for the segments in braces, and whether the path is
// one of the route.
func (rt *route) match(segments []string) (map[string]string, bool) {
	pattern := strings.Split(rt.path[1:], "/")
	if len(pattern) != len(segments) {
		return nil, false
	}
	var found map[string]string
	for i, p := range pattern {
		name, ok := strings.CutPrefix(p, "{")
		if !ok {
			if p != segments[i] {
				return nil, false
			}
			continue
		}
		if found == nil {
			found = make(map[string]string)
		}
		found[strings.TrimSuffix(name, "}")] = segments[i]
	}
	return found, true
}

// segments returns the parts of a path, each unescaped by itself, so that an
// escaped slash does not make two of one. Paths that would have to be cleaned
// first are none of ours.
func segments(u *url.URL) ([]string, bool) {
	path := u.EscapedPath()
	if len(path) > maxPath || !strings.HasPrefix(path, "/") {
		return nil, false
	}
	parts := strings.Split(path[1:], "/")
	for i, part := range parts {
		plain, err := url.PathUnescape(part)
		if err != nil || plain == "" || plain == "." || plain == ".." {
			return nil, false
		}
		parts[i] = plain
	}
	return parts, true
}

// find returns the route of a request. If there is none, the error says whether
// another method would have one.
func find(routes []route, r *http.Request) (*route, map[string]string, *Error) {
	parts, ok := segments(r.URL)
	if !ok {
		return nil, nil, notFound()
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allowed []string
	for i := range routes {
		rt := &routes[i]
		values, ok := rt.match(parts)
		if !ok {
			continue
		}
		if rt.method == method {
			return rt, values, nil
		}
		allowed = append(allowed, rt.method)
	}
	if len(allowed) == 0 {
		return nil, nil, notFound()
	}
	slices.Sort(allowed)
	allowed = slices.Compact(allowed)
	e := &Error{Status: http.StatusMethodNotAllowed, Text: "Method not allowed, expected " + strings.Join(allowed, " or "), allow: allowed}
	if slices.Contains(allowed, http.MethodGet) {
		e.allow = append(slices.Clone(allowed), http.MethodHead)
	}
	return nil, nil, e
}

// ServeHTTP answers any request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if a.UI != nil && forUI(r) {
		protect(w.Header())
		a.count("ui", w, func(w http.ResponseWriter) {
			if err := hear(r); err != nil {
				a.fail(w, r, err)
				return
			}
			a.guard(w, r, func() error { return a.serveUI(w, r) })
		})
		return
	}
	rt, values, err := find(a.routes, r)
	name := "other"
	if err == nil {
		name = rt.String()
	}
	a.count(name, w, func(w http.ResponseWriter) {
		if name == "GET /healthz" {
			// While a table hangs there may be no place for long, and a relay that
			// delivers mail must not be taken for dead.
			_ = a.alive(w, r, call{})
			return
		}
		a.guard(w, r, func() error {
			if err != nil {
				return err
			}
			return a.serve(w, r, rt, values)
		})
	})
}

func (a *API) serve(w http.ResponseWriter, r *http.Request, rt *route, values map[string]string) error {
	// A browser keeps the key that somebody has typed in, and would send it along
	// with the form of any page.
	if err := a.origin.Check(r); err != nil {
		return &Error{Status: http.StatusForbidden, Text: "Requests of other sites' pages are not taken"}
	}
	c := call{page: values["page"]}
	if rt.access == anybody {
		return rt.handler(w, r, c)
	}
	var err error
	if c.key, err = a.authenticate(r, rt); err != nil {
		return err
	}
	return a.run(w, r, rt, values, c, func(name string) (string, error) { return a.admit(c.key, rt, name) })
}

// run answers a request of whoever has shown a key, within the key's budget. admit
// returns the normalised domain of the path, if the key is for it.
func (a *API) run(w http.ResponseWriter, r *http.Request, rt *route, values map[string]string, c call, admit func(name string) (string, error)) error {
	defer greet(r, c.key)()
	c.budget = a.budgets.of(c.key.ID)
	leave, err := c.budget.enter()
	if err != nil {
		return err
	}
	defer leave()
	done, err := c.turn(r, rt)
	if err != nil {
		return err
	}
	defer done()
	if name, ok := values["domain"]; ok {
		if c.domain, err = admit(name); err != nil {
			return err
		}
	}
	return rt.handler(w, r, c)
}
